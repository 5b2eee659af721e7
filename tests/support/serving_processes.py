"""Topics of a test's own on the session's broker, a registry that points to versions, and processes that serve."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from urllib.error import HTTPError

import numpy as np
from confluent_kafka import KafkaException, Message, Producer

from support.repository import REPOSITORY
from support.served_stream import at, decide
from support.servers.kafka_broker import KafkaBroker
from support.streamed_events import random_event
from toposieve import registry
from toposieve.io.store import Key, root_key
from toposieve.serving.events import Decision
from toposieve.serving.record import decode_decision, encode_event

TOPICS = ("events", "decisions", "refused")
SECONDS = 180.0
PATH = os.pathsep.join(str(REPOSITORY / name) for name in ("jobs", "tests"))


class ServedStream:
    """Serving processes on three topics, and what goes in and comes out."""

    def __init__(self, broker: KafkaBroker, name: str, base: Path, partitions: int = 2) -> None:
        self.broker, self.base, self._name = broker, base, name
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder = registry.registry_folder(root_key("--base", str(base)), "topology")
        broker.make_topics(*(self.topic(kind) for kind in TOPICS), partitions=partitions)
        self._producer = Producer(
            {"bootstrap.servers": broker.address, "reconnect.backoff.max.ms": "500", "log_level": "0"}
        )
        self.publish(1)

    def topic(self, kind: str) -> str:
        return f"{self._name}-{kind}"

    def publish(self, version: int) -> None:
        """Point to a version, which need not be there: the cheap model asks for none."""
        point_to(self._folder, version)

    def start(
        self,
        *options: str,
        milliseconds: float = 2.0,
        point: str = "",
        number: int = signal.SIGKILL,
        victim: int = 0,
        variables: dict[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A serving process; its log is beside the data.

        Args:
            options: Of ``serve.py``.
            milliseconds: That a batch takes.
            point: Where in its third batch it sends a signal, one of ``served_stream.POINTS``; nowhere without.
            number: The signal.
            victim: Process that it goes to; 0 for itself.
            variables: Of its environment.
        """
        topics = [part for kind in TOPICS for part in (f"--{kind}", self.topic(kind))]
        brokers = [] if "--kafka" in options else ["--brokers", self.broker.address]
        command = [sys.executable, "-m", "support.served_stream", str(milliseconds), "--base", str(self.base)]
        group = ["--group", self._name, "--look", "0.1"]
        environment = {**os.environ, "PYTHONPATH": PATH, **at(point, number, victim), **(variables or {})}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*command, *topics, *brokers, *group, *options], env=environment, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.base / "serve.log"

    @contextmanager
    def feeding(self, rate: float, particles: int = 5) -> Iterator[list[int]]:
        """Produce so many events a second while the block runs; gives the numbers of those that are on their way."""
        numbers, ended = list[int](), Event()

        def run() -> None:
            start = time.monotonic()
            while not ended.wait(max(0.0, start + len(numbers) / rate - time.monotonic())):
                numbers.append(len(numbers))
                self._put_event(numbers[-1], particles)

        thread = Thread(target=run, daemon=True)
        thread.start()
        try:
            yield numbers
        finally:
            ended.set()
            thread.join()
        self.flush()

    def feed(self, numbers: Iterable[int], particles: int = 5) -> None:
        """Produce these events."""
        for number in numbers:
            self._put_event(number, particles)
        self.flush()

    def flush(self) -> None:
        """Return once the broker has all."""
        assert self._producer.flush(30) == 0

    def _put_event(self, number: int, particles: int) -> None:
        event = random_event(number, particles)
        self._producer.produce(self.topic("events"), encode_event(event), event.event_id.encode())
        self._producer.poll(0)

    def read(self, kind: str) -> list[Message]:
        return self.broker.read(self.topic(kind))

    def decisions(self) -> list[Decision]:
        return [decode_decision(message.value() or b"") for message in self.read("decisions")]

    def wait_for(self, what: Callable[[], bool], seconds: float = SECONDS) -> None:
        """Return once it is so; a broker that has just come back may not know it yet."""
        end, is_so = time.monotonic() + seconds, False
        while not is_so:
            with suppress(KafkaException):
                is_so = what()
            assert is_so or time.monotonic() < end, self.said()[-3000:]
            time.sleep(0.05)

    def wait_for_more(self, count: int) -> None:
        """Return once so many more decisions are there, about."""
        ends: list[int] = []

        def are_there() -> bool:
            ends.append(self.broker.committed(self.topic("decisions")))
            return ends[-1] > ends[0] + count

        self.wait_for(are_there)

    def wait_for_decisions(self, count: int) -> None:
        self.wait_for(lambda: self.broker.committed(self.topic("decisions")) >= count)
        self.wait_for(lambda: len(self.read("decisions")) >= count)

    def check_each_once(self, numbers: Iterable[int], versions: Sequence[int] = (1,)) -> None:
        """Every event has one decision, and it is what the model says."""
        found = self.decisions()
        events = {event.event_id: event for event in map(random_event, numbers)}
        assert len(found) == len({each.event_id for each in found}), "some are twice"
        assert {each.event_id for each in found} == set(events), "some are lost"
        for each in found:
            np.testing.assert_array_equal(each.logits, decide(events[each.event_id], each.version).logits)
        assert {each.version for each in found} == set(versions)

    def ask(self, path: str) -> str:
        """What the last process answers that shows its metrics, well or not."""
        *_, port = re.findall(r"metrics: port (\d+)", self.said())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            return str(error.read().decode())

    def metric(self, name: str) -> float:
        """A number of that process."""
        found = re.search(rf"^{name} (\S+)$", self.ask("/metrics"), re.MULTILINE)
        assert found, name
        return float(found[1])

    def lags(self) -> dict[int, float]:
        """Partition → messages still to be read by that process."""
        found = re.findall(r'^toposieve_lag_messages{partition="(\d+)"} (\S+)$', self.ask("/metrics"), re.MULTILINE)
        return {int(partition): float(lag) for partition, lag in found}

    def wait_for_partitions(self, *counts: int, after: int) -> None:
        """Return once as many processes as there are counts have got so many each, as the log says from there on."""

        def were_given() -> bool:
            given = re.findall(r"partitions: \[(\d.*)\]", self.said()[after:])
            return not Counter(counts) - Counter(len(each.split(",")) for each in given)

        self.wait_for(were_given)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def point_to(folder: Key, version: int) -> None:
    """Publish a version of which nothing need be there."""
    number = len((folder / registry.PUBLISHED).list()) + 1
    pointer = registry.Pointer(version=version, action="publish", who="a test", when="now", why="because")
    (folder / registry.PUBLISHED / f"{number:06d}.json").write_bytes(pointer.to_bytes())


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send a signal, and return what the process ends with."""
    process.send_signal(number)
    return process.wait(SECONDS)
