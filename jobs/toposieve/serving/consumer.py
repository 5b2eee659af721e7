"""Events from a Kafka topic to decisions in another, each exactly once.

A batch's decisions and the offsets behind it are one transaction: whatever dies, either both are there or neither, for
those who read with ``isolation.level=read_committed``. What goes wrong in between ends the transaction, and the batch
is read anew from the last committed offset. A process that has lost its partitions meanwhile cannot commit, since the
brokers compare the membership under which it was given them.

A broker that is away is waited for. Only what a user has to mend ends the loop.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

from confluent_kafka import (
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from toposieve.errors import InvalidInputError
from toposieve.serving.answers import Answer, answer
from toposieve.serving.following import Model
from toposieve.serving.hanging import Hung, finished
from toposieve.serving.metrics import Metrics
from toposieve.serving.settings import CLIENT, CONSUMER, PRODUCER, SERVERS

IDLE_SECONDS = 0.5
"""How long to wait for an event before looking around."""
CALL_SECONDS = 3.0
"""How long a request to the brokers may take before it is made again."""
GONE_SECONDS = 3
"""How long a topic has to be missing."""
LOOK_SECONDS = 10.0
"""Between two looks for the topics while no event comes: of one that is taken away the consumer says nothing."""
JOINS, JOINS_SECONDS = 4, 60.0
"""So many times in so short a time one joins a group only where another process has the same name."""
SAY_SECONDS, PAUSE_SECONDS = 10.0, 0.05
"""Between two remarks that the brokers do not answer, and between two requests, which may fail at once."""
_AWAY = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
    KafkaError._RESOLVE,
)
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION)
_FORBIDDEN = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_FENCED = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
_STRANGER = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.INVALID_TRANSACTION_TIMEOUT)

ResultT = TypeVar("ResultT")
logger = logging.getLogger(__name__)


class Stopped(Exception):
    """The job is to end while it waits for a broker."""


@dataclass(frozen=True)
class Route:
    """Where events come from and what becomes of them.

    Attributes:
        events: Topic of events' records.
        decisions: Topic of decisions' records; the key is the event's id.
        refused: Topic of messages that are no events; the headers say why, and where they were.
        group: Consumers of this name share the partitions.
        instance: Name of this process, the same when it is started again, which makes that fast; None for any.
    """

    events: str
    decisions: str
    refused: str
    group: str
    instance: str | None = None


class Stream:
    """One consumer of a group, with what it produces.

    Args:
        settings: What the user says of the brokers.
        route: The topics.
        take_model: Gives the model for the next batch.
        metrics: Told of all that happens.
        batch: Events in one transaction, at most.
        wait: Seconds to wait for more events after the first one of a batch.
        stopped: Whether to end.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        route: Route,
        take_model: Callable[[], Model],
        metrics: Metrics,
        *,
        batch: int,
        wait: float,
        stopped: Callable[[], bool],
    ) -> None:
        """Make a consumer; nothing is asked of the brokers yet."""
        self._settings, self._route = dict(settings), route
        self._take_model, self._metrics = take_model, metrics
        self._batch, self._wait, self._stopped = batch, wait, stopped
        self._looked, self._said = time.monotonic(), -SAY_SECONDS
        self._stranger: KafkaError | None = None
        self._failed: KafkaError | None = None
        self._has_answered = self._moved = False
        self._membership: Any = None
        self._identity = f"{route.group}-{route.instance or uuid4()}"
        self._joined: deque[float] = deque(maxlen=JOINS)
        self._consumer = self._new_consumer()

    def run(self) -> None:
        """Decide until stopped.

        Raises:
            InvalidInputError: A topic is not there, the brokers refuse us, or another process has our name.
        """
        try:
            self._check_topics()
            self._producer = self._new_producer()
            self._join()
            while not self._stopped():
                self.step()
        except Stopped:
            logger.info("ended while waiting for the brokers; what is not committed is decided again later")
        finally:
            with suppress(Hung):
                finished(self._consumer.close)

    def step(self) -> None:
        """Decide a batch, if there is one."""
        self._metrics.turn()
        if not self._metrics.is_ready:
            self._check_topics()
            self._producer = self._new_producer()
        try:
            self._decide()
        except KafkaException as error:
            self._join_anew(error)

    # --- one batch -------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        messages = self._receive()
        self._metrics.set_lag(self._lags())
        if not messages:
            self._look_for_topics()
            return
        answers = answer(messages, self._take_model())
        try:
            self._commit(messages, answers)
        except (KafkaException, Hung) as error:
            self._undo(error)
        else:
            self._count(messages, answers)

    def _receive(self) -> list[Any]:
        """Messages of partitions that are ours, and have been so all the time."""
        self._moved = False
        first = self._consumer.poll(IDLE_SECONDS)
        found = [] if first is None else [first, *self._consumer.consume(self._batch - 1, self._wait)]
        messages = [message for message in found if not self._is_trouble(message)]
        if self._moved and messages:  # some may be another's by now
            self._rewind()
            return []
        return messages

    def _is_trouble(self, message: Message) -> bool:
        error = message.error()
        if error is not None:
            self._check_lasting(error)
            if error.fatal() or error.code() in _FENCED:
                raise KafkaException(error)
            logger.warning("Kafka: %s", error.str())
        return error is not None

    def _commit(self, messages: Sequence[Any], answers: Sequence[Answer]) -> None:
        """Produce all answers and note the offsets, in one transaction."""
        producer, self._failed = self._producer, None
        producer.begin_transaction()
        for each in answers:
            topic = self._route.decisions if each.fault is None else self._route.refused
            producer.produce(topic, each.value, each.key, headers=each.headers, on_delivery=self._on_delivery)
        ends = {message.partition(): message.offset() + 1 for message in messages}
        offsets = [TopicPartition(self._route.events, partition, offset) for partition, offset in ends.items()]
        self._insist(partial(producer.send_offsets_to_transaction, offsets, self._membership, CALL_SECONDS))
        self._insist(partial(producer.commit_transaction, CALL_SECONDS))

    def _undo(self, error: KafkaException | Hung) -> None:
        """End the transaction, whatever state it is in, and read the batch anew."""
        cause = error.args[0]
        self._check_lasting(cause, self._failed)
        logger.warning("Kafka: %s; the batch is begun anew", cause)
        self._metrics.retried.inc()
        try:
            if isinstance(error, Hung) or cause.fatal():
                raise error
            self._insist(partial(self._producer.abort_transaction, CALL_SECONDS))
        except (KafkaException, Hung):
            self._producer = self._new_producer()
        self._rewind()

    def _rewind(self) -> None:
        """Go on from the last committed offsets."""
        assigned = self._consumer.assignment()
        self._consumer.assign([TopicPartition(each.topic, each.partition, OFFSET_STORED) for each in assigned])

    def _count(self, messages: Sequence[Message], answers: Sequence[Answer]) -> None:
        now = time.time()
        for message in messages:
            self._metrics.latency.observe(max(0.0, now - message.timestamp()[1] / 1000))
        for kind, count in Counter((each.version, each.fault) for each in answers).items():
            self._metrics.count(*kind, count)

    def _lags(self) -> dict[int, int]:
        """Partition → messages to come, as of the last answer of the brokers."""
        lags = {}
        for place in self._consumer.position(self._consumer.assignment()):
            high = self._consumer.get_watermark_offsets(place, cached=True)[1]
            if place.offset >= 0 and high >= 0:
                lags[place.partition] = max(0, high - place.offset)
        return lags

    # --- the brokers -----------------------------------------------------------------------------------------------

    def _client(self, kind: Callable[[dict[str, Any]], ResultT], ours: Mapping[str, str]) -> ResultT:
        settings = {**CLIENT, **ours, **self._settings, "error_cb": self._on_error}
        try:
            return kind(settings)
        except KafkaException as error:
            raise InvalidInputError(
                f"Kafka's settings: {error.args[0].str()}: mend it in the file of --kafka"
            ) from None

    def _new_consumer(self) -> Any:
        static = {"group.instance.id": self._route.instance} if self._route.instance else {}
        return self._client(Consumer, {**CONSUMER, "group.id": self._route.group, **static})

    def _join(self) -> None:
        """Take part in the group."""
        moved = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        self._consumer.subscribe([self._route.events], **moved)
        self._joined.append(time.monotonic())

    def _join_anew(self, error: KafkaException) -> None:
        """Take another consumer, for this one cannot go on: another has its name, or a broker came back and thinks so.

        Raises:
            InvalidInputError: That has happened before, and not long ago.
        """
        logger.warning("Kafka: %s; joining the group anew", error.args[0].str())
        if len(self._joined) == JOINS and time.monotonic() - self._joined[0] < JOINS_SECONDS:
            raise InvalidInputError(
                f"another process runs as --instance {self._route.instance} of group {self._route.group}: end one of "
                "them, or give each a name of its own"
            )
        Thread(target=self._consumer.close, daemon=True).start()  # may take for ever
        self._consumer = self._new_consumer()
        self._join()

    def _new_producer(self) -> Any:
        """A producer that has ended what an earlier one of its name has left open."""
        while True:
            producer: Any = self._client(Producer, {**PRODUCER, "transactional.id": self._identity})
            try:
                self._insist(partial(producer.init_transactions, CALL_SECONDS))
            except (KafkaException, Hung) as error:  # such as that a coordinator is still loading
                self._wait_after(error)
            else:
                return producer

    def _check_topics(self) -> None:
        """Raise if one is not there; a broker that has just come back may know of it a little later."""
        for option in ("events", "decisions", "refused"):
            name = getattr(self._route, option)
            for left in reversed(range(GONE_SECONDS)):
                asked = partial(self._consumer.list_topics, name, CALL_SECONDS)
                error = self._insist(asked, whatever=True).topics[name].error
                if error is None:
                    break
                if error.code() not in _GONE:
                    self._check_lasting(error)
                elif not left:
                    raise InvalidInputError(
                        f"topic {name} is not on {self._settings[SERVERS]}: create it, or name another with --{option}"
                    )
                time.sleep(1)

    def _look_for_topics(self) -> None:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._check_topics()
            self._looked = time.monotonic()

    def _insist(self, call: Callable[[], ResultT], *, whatever: bool = False) -> ResultT:
        """The result of a request, which is made again until the brokers answer.

        Args:
            call: The request.
            whatever: Make it again, too, where they answer something else or it does not come back.

        Raises:
            Stopped: The job is to end.
            Hung: The request does not come back.
            InvalidInputError: They refuse us.
            KafkaException: They answer something else.
        """
        while True:
            try:
                result = finished(call)
            except (KafkaException, Hung) as error:
                if not (whatever or _is_passing(error)):
                    raise
                self._wait_after(error)
            else:
                self._metrics.is_ready = self._has_answered = True
                return result

    def _wait_after(self, error: KafkaException | Hung) -> None:
        """Look around before a request is made again.

        Raises:
            Stopped: The job is to end.
            InvalidInputError: It will not be answered otherwise.
        """
        self._metrics.is_ready = False
        if not isinstance(error, Hung):  # a client that hangs for long is not alive
            self._metrics.turn()
        if not self._has_answered:
            self._consumer.poll(0)  # tells _on_error why; there is no message yet that it could take
        self._check_lasting(error.args[0], self._stranger)
        if self._stopped():
            raise Stopped
        if time.monotonic() - self._said > SAY_SECONDS:
            logger.warning("Kafka: %s does not answer (%s); waiting", self._settings[SERVERS], error.args[0])
            self._said = time.monotonic()
        time.sleep(PAUSE_SECONDS)

    def _check_lasting(self, *causes: object) -> None:
        """Raise what somebody has to mend."""
        servers = self._settings[SERVERS]
        for cause in causes:
            if not isinstance(cause, KafkaError):
                continue
            if cause.code() in _GONE:
                self._check_topics()
            if cause.code() in _FORBIDDEN:
                raise InvalidInputError(f"{servers} forbids it ({cause.str()}): let their owner grant the right")
            if cause.code() in _STRANGER:
                raise InvalidInputError(f"{servers} does not let us in ({cause.str()}): mend the settings of --kafka")

    # --- called by Kafka's clients ---------------------------------------------------------------------------------

    def _on_assign(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        """Keep the membership under which these partitions are ours: later ones may be another's."""
        self._moved, self._membership = True, consumer.consumer_group_metadata()
        logger.info("partitions: %s", sorted(each.partition for each in partitions))

    def _on_revoke(self, _consumer: Any, _partitions: Sequence[TopicPartition]) -> None:
        self._moved = True

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._failed = self._failed or error

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _STRANGER and not self._has_answered:
            self._stranger = error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._metrics.is_ready = False


def _is_passing(error: KafkaException | Hung) -> bool:
    """Whether the same request may be answered a little later."""
    cause = error.args[0]
    return isinstance(cause, KafkaError) and not cause.fatal() and (cause.retriable() or cause.code() in _AWAY)
