"""Selected events as records of a topic, at a rate, as a detector would send them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.manifests import read_manifest
from toposieve.io.store import Key
from toposieve.serving.events import Event
from toposieve.serving.record import encode_event
from toposieve.serving.settings import SERVERS
from toposieve.serving.stored_events import SelectedEvents

CALL_SECONDS = 10.0
FLUSH_SECONDS = 60.0
STOP_SECONDS = 0.1
"""Between two looks whether to end."""


def stored_events(folder: Key, turn: int = 0) -> Iterator[Event]:
    """The events of a selected partition, file by file.

    Args:
        folder: The partition's.
        turn: How often they were there already: from 1 on it is the end of their ids.

    Raises:
        InvalidInputError: The partition is not selected, or a file is damaged.
    """
    mark = f"#{turn}" if turn else ""
    for unit in read_manifest(folder).units:
        for event_ids, batch in SelectedEvents(folder / unit.outputs[0].path, unit).batches():
            records = batch.particle_records()
            for row, event_id in enumerate(event_ids):
                particles = records[batch.offsets[row] : batch.offsets[row + 1]]
                yield Event(event_id + mark, batch.high_level[row], particles)


def open_topic(settings: Mapping[str, str], topic: str) -> Producer:
    """A producer, once the brokers have told it that they have the topic.

    Args:
        settings: Of Kafka's clients.
        topic: Its name.

    Raises:
        InvalidInputError: The topic is not there, or is not ours to see.
        UnavailableError: The brokers do not answer.
    """
    producer = Producer({"linger.ms": "0", "log_level": "2", **settings, "enable.idempotence": "true"})
    try:
        error = producer.list_topics(topic, CALL_SECONDS).topics[topic].error
    except KafkaException as failure:
        raise UnavailableError(f"Kafka: {settings[SERVERS]} does not answer: {failure.args[0].str()}") from None
    if error is not None:
        raise InvalidInputError(f"topic {topic}: {error.str()}: make it first, or give another to --events")
    return producer


def feed(
    producer: Producer, topic: str, events: Iterable[Event], rate: float, stopped: Callable[[], bool] = lambda: False
) -> int:
    """Produce events until they end, and wait until the brokers have them.

    Args:
        producer: Of the topic's brokers.
        topic: Its name.
        events: What to produce.
        rate: Events per second, at most; what is late is made up for.
        stopped: Whether to end before that.

    Returns:
        How many were produced.

    Raises:
        UnavailableError: The brokers have not taken one, or do not say that they have all.
    """
    start, sent = time.monotonic(), 0
    for event in events:
        while (early := start + sent / rate - time.monotonic()) > 0 and not stopped():
            time.sleep(min(early, STOP_SECONDS))
        if stopped():
            break
        _produce(producer, topic, event)
        sent += 1
    if left := producer.flush(FLUSH_SECONDS):
        raise UnavailableError(f"Kafka: the brokers do not say that they have the last {left:,} of {sent:,} events")
    return sent


def _produce(producer: Producer, topic: str, event: Event) -> None:
    while True:
        try:
            producer.produce(topic, encode_event(event), event.event_id.encode(), on_delivery=_check)
        except BufferError:  # more than the brokers take
            producer.poll(STOP_SECONDS)
        else:
            producer.poll(0)
            return


def _check(error: KafkaError | None, message: Message) -> None:
    if error is not None:
        raise UnavailableError(f"Kafka: an event was not taken: {error.str()}")
