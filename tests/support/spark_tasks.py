"""What tasks do in the tests of Spark stages; Spark's workers import it."""

from __future__ import annotations

import gc
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark import TaskContext

from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.manifests import Unit
from toposieve.io.store import Key
from toposieve.io.units import adopt_or_make

WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class Item:
    """Some work.

    Attributes:
        name: What it is called.
        events: How much it is.
        folder: Where each call leaves a file.
    """

    name: str
    events: int
    folder: Path

    def calls(self) -> int:
        """How often a function was called on it."""
        return len(list(self.folder.glob(f"{self.name}-*")))


def echo(item: Item) -> str:
    """A good task."""
    (item.folder / f"{item.name}-{uuid.uuid4().hex}").touch()
    return item.name


def task_number(_: Item) -> int:
    """Which of the job's tasks it runs in."""
    context = TaskContext.get()
    assert context is not None
    return context.partitionId()


def what_the_worker_began_with(_: Item) -> tuple[bool, bool]:
    """Whether it has modules that nobody imported in it, and does not look at them when it collects garbage."""
    return "toposieve.spark.session" in sys.modules, gc.get_freeze_count() > 0


def refuse_bad(item: Item) -> str:
    """Finds items with "bad" in their name bad."""
    echo(item)
    if "bad" in item.name:
        raise InvalidInputError(f"{item.name} is bad")
    return item.name


def refuse_bad_or_wait(item: Item) -> str:
    """The same, but others take their time."""
    refuse_bad(item)
    time.sleep(WAIT_SECONDS)
    return item.name


def crash(item: Item) -> None:
    """Has a bug."""
    echo(item)
    raise ZeroDivisionError("a bug")


def lose_the_store_once(item: Item) -> str:
    """Cannot reach its store the first time."""
    echo(item)
    if item.calls() == 1:
        raise UnavailableError("host.example does not answer")
    return item.name


def write_to_full_disk(*_: object) -> None:
    """Meets a full disk, whatever the task."""
    Path("/dev/full").write_bytes(b"content")


def make_unit_and_die_once(item: Item) -> Unit:
    """Loses its worker when its first unit is made, and is begun again."""

    def make(path: Path) -> Unit:
        path.write_text(echo(item), encoding="utf-8")
        return Unit(
            source=item.name,
            source_checksum="",
            entry_start=0,
            entry_stop=item.events,
            counts={"events": item.events},
            outputs=(),
        )

    unit = adopt_or_make(Key(str(item.folder)), f"{item.name}.made", make).unit
    dead = item.folder / "dead"
    if not dead.exists():
        dead.touch()
        os._exit(1)
    return unit


@dataclass(frozen=True)
class FailsAfter:
    """A stage's function that finds a disk full once so many units are made.

    Attributes:
        function: The stage's own.
        units: How many it makes.
        folder: Where they are counted.
    """

    function: Callable[[Any], Any]
    units: int
    folder: Path

    def __call__(self, item: Any) -> Any:
        if len(list(self.folder.iterdir())) >= self.units:
            write_to_full_disk()
        (self.folder / uuid.uuid4().hex).touch()
        return self.function(item)
