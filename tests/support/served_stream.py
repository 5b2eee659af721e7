"""``jobs/serve.py`` as a process of its own, with a model that is cheap and whose answers anybody can work out.

    python -m support.served_stream MILLISECONDS ARGUMENTS...

A batch takes so many milliseconds. What is published is what the registry points to, but nothing of it is read. Where
``TOPOSIEVE_TEST_POINT`` names one of :data:`POINTS`, with a signal and a process, it is sent there, in its third batch.
This one counts as alive for as many seconds after a turn of its loop as ``TOPOSIEVE_TEST_ALIVE`` says.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from threading import Timer
from typing import Any

import numpy as np
from confluent_kafka import Producer

import serve
from toposieve import cli
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.serving import consumer, metrics
from toposieve.serving.events import Decision, Event, Refused

WITHDRAWN, NO_ROOM = 13, 14
"""Versions that cannot be loaded."""
POINT_VARIABLE, ALIVE_VARIABLE = "TOPOSIEVE_TEST_POINT", "TOPOSIEVE_TEST_ALIVE"
POINTS = ("scoring", "produced", "offsets", "committing", "committed")
"""Where in a batch: it is being scored; decisions are with the broker; so are offsets; it may be committed; it is."""
BATCH = 3


def decide(event: Event, version: int) -> Decision:
    """What the cheap model of a version says of an event."""
    number = zlib.crc32(event.high_level.tobytes() + event.particles.tobytes()) % 1000
    return Decision(event.event_id, version, np.array([number, version], np.float32), (number > 500, True))


class CheapModel:
    """Decides by :func:`decide`."""

    def __init__(self, version: int, seconds: float) -> None:
        self.version, self._seconds = version, seconds

    def score(self, events: Sequence[Event]) -> list[Decision | Refused]:
        reach("scoring")
        time.sleep(self._seconds)
        return [decide(event, self.version) for event in events]


class MortalProducer(Producer):
    """Passes all points but the first."""

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        self.flush()
        reach("produced")
        super().send_offsets_to_transaction(*arguments)
        reach("offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        reach("committing", after=0.002)  # about as long as it takes
        super().commit_transaction(*arguments)
        reach("committed")


passed: Counter[str] = Counter()


def at(point: str, number: int, victim: int = 0) -> dict[str, str]:
    """A variable by which a signal is sent at a point, to the process itself if there is no other victim."""
    return {POINT_VARIABLE: f"{point} {number:d} {victim}"}


def reach(point: str, after: float = 0.0) -> None:
    """Send the signal, if this is the point, and the batch the one; or a little later."""
    passed[point] += 1
    wanted, number, victim = os.environ[POINT_VARIABLE].rsplit(" ", 2)
    if wanted == point and passed[point] == BATCH:
        arguments = (int(victim) or os.getpid(), int(number))
        if after:
            Timer(after, os.kill, arguments).start()
        else:
            os.kill(*arguments)


def load(seconds: float, folder: Key, version: int) -> CheapModel:
    if version == WITHDRAWN:
        raise InvalidInputError(f"version {version} of {folder} is gone: publish another")
    if version == NO_ROOM:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scratch")
    return CheapModel(version, seconds)


if __name__ == "__main__":
    consumer.Producer = MortalProducer
    metrics.ALIVE_SECONDS = float(os.environ.get(ALIVE_VARIABLE, metrics.ALIVE_SECONDS))
    seconds = float(sys.argv.pop(1)) / 1000
    cli.run(functools.partial(serve.main, load=functools.partial(load, seconds)), serve.arg_parser())
