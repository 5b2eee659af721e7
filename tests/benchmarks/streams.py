"""Decisions by the stream on two cores: a broker and two processes, from events in one topic to decisions in another.

The model is the one with particles, with random weights, on events of the simulation.
"""

from __future__ import annotations

import itertools
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.table import Figure
from support.repository import REPOSITORY
from support.servers.kafka_broker import KafkaBroker
from support.servers.processes import ServerProcess, Unobtainable
from support.serving_data import portable
from support.serving_processes import point_to
from support.show_stream import SETTLED_SECONDS, Source, arrived, quantiles
from toposieve import registry
from toposieve.io.store import root_key
from toposieve.serving.events import Event
from toposieve.serving.exports import keep_export
from toposieve.serving.record import decode_decision, encode_event

MODEL = "inclusive"
EVENTS, DECISIONS, REFUSED = TOPICS = ("events", "decisions", "refused")
PROCESSES = 2
BACKLOG = 20_000
RATE, RATE_SECONDS = 200.0, 20.0
GOALS = {"rate": (3000.0, 4500.0), "p50": (25.0, 15.0), "p99": (200.0, 100.0), "restart": (8.0, 3.0)}
"""What must and should be: events/s, ms, ms, s."""
WAIT_SECONDS = 300.0


def rows(events: Sequence[Event], speed: float) -> list[Figure]:
    """A backlog, a steady rate, and a restart.

    Args:
        events: Taken again and again.
        speed: Of this machine, by which goals are scaled.
    """
    with tempfile.TemporaryDirectory(prefix="toposieve-stream-") as folder, ExitStack() as stack:
        try:
            broker = KafkaBroker(Path(folder) / "kafka")
        except Unobtainable as reason:
            print(f"stream left out: {reason}")
            return []
        stack.callback(broker.stop)
        stream = Stream(broker.wait(), Path(folder), stack)
        found = {
            "rate": stream.decide_backlog(events),
            **stream.decide_steadily(events),
            "restart": stream.restart(events),
        }
    name = f"stream, {MODEL}, two cores: "
    (must, stretch), rate = GOALS["rate"], found["rate"]
    figures = [Figure(f"{name}a backlog", rate, "events/s", must=must * speed, stretch=stretch * speed)]
    for key, what, unit in (
        ("p50", f"median at {RATE:.0f} events/s", "ms"),
        ("p99", f"99 of 100 within, at {RATE:.0f} events/s", "ms"),
        ("restart", "from a start after kill -9 to a decision", "s"),
    ):
        must, stretch = (goal / speed for goal in GOALS[key])
        figures.append(Figure(f"  the same, {what}", found[key], unit, must=must, stretch=stretch, at_most=True))
    return figures


class Stream:
    """Processes that decide, and a consumer of their decisions."""

    def __init__(self, broker: KafkaBroker, folder: Path, stack: ExitStack) -> None:
        self._broker, self._folder, self._stack = broker, folder, stack
        broker.make_topics(*TOPICS, partitions=PROCESSES)
        self._producer = Producer(
            {"bootstrap.servers": broker.address, "queue.buffering.max.kbytes": 1 << 20, "log_level": 0}
        )
        kept = registry.registry_folder(root_key("--base", str(folder)), "topology")
        keep_export(kept, 1, portable(MODEL), events=0, difference=0.0)
        point_to(kept, 1)
        options = {"isolation.level": "read_committed", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        self._consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "watch", "log_level": 0, **options})
        self._consumer.assign([TopicPartition(DECISIONS, number, 0) for number in range(PROCESSES)])

    def decide_backlog(self, events: Sequence[Event]) -> float:
        """Events per second of the middle of a backlog: without the start, and the end of the slower process."""
        for number, event in zip(range(BACKLOG), itertools.cycle(events), strict=False):
            record = encode_event(Event(f"{event.event_id}#{number}", event.high_level, event.particles))
            self._producer.produce(EVENTS, record, partition=number % PROCESSES)
            self._producer.poll(0)
        assert self._producer.flush(WAIT_SECONDS) == 0
        self._processes = self._start()
        times: list[float] = []
        end = time.monotonic() + WAIT_SECONDS
        while len(times) < BACKLOG:
            assert time.monotonic() < end, "the backlog is not decided"
            times += [message.timestamp()[1] / 1000 for message in self._consumer.consume(1000, 0.1)]
        first, last = np.quantile(times, [0.2, 0.8])
        return 0.6 * BACKLOG / float(last - first)

    def decide_steadily(self, events: Sequence[Event]) -> dict[str, float]:
        """Milliseconds from an event's production to its decision's arrival."""
        source, late = Source(self._broker, events, RATE), list[float]()
        start = time.monotonic()
        while time.monotonic() < start + RATE_SECONDS:
            now, messages = arrived(self._consumer, 0.05)
            if now > start + SETTLED_SECONDS:
                decided = [decode_decision(message.value() or b"").event_id for message in messages]
                late += [1000 * (now - source.produced(event_id)) for event_id in decided]
        source.stop()
        assert late, "nothing is decided"
        p50, p99 = quantiles(late)
        return {"p50": p50, "p99": p99}

    def restart(self, events: Sequence[Event]) -> float:
        """Seconds from the start of processes that were killed while events came to their first decision."""
        for process in self._processes:
            process.signal(signal.SIGKILL)
        for number, event in enumerate(events):
            self._producer.produce(EVENTS, encode_event(event), partition=number % PROCESSES)
        assert self._producer.flush(WAIT_SECONDS) == 0
        while self._consumer.consume(1000, 0.5):
            pass
        start = time.monotonic()
        self._start()
        while not self._consumer.consume(1, 0.01):
            assert time.monotonic() < start + WAIT_SECONDS, "nothing is decided after the restart"
        return time.monotonic() - start

    def _start(self) -> list[ServerProcess]:
        job = [sys.executable, str(REPOSITORY / "jobs/serve.py"), "--base", str(self._folder)]
        processes = []
        for number in range(PROCESSES):
            command = [*job, "--brokers", self._broker.address, "--instance", str(number)]
            processes.append(ServerProcess(command, self._folder / f"serve-{number}"))
            self._stack.callback(processes[-1].stop)
        return processes
