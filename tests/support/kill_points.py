"""Stages in a process of their own, without Spark, that is ended or meets an error at one operation of its store."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from support.repository import REPOSITORY
from toposieve.errors import UnavailableError
from toposieve.io import store
from toposieve.io.names import RECORDS
from toposieve.io.store import Stat, Store
from toposieve.io.store.file import FileStore

PHASES = (
    "before the first unit",
    "inside a write",
    "between unit and record",
    "between last unit and manifest",
    "between manifest and clean-up",
)
MANNERS = ("SIGKILL", "exit", "SIGTERM", "disk full", "store away")
WRITING = ("create", "create if absent")
AWAY_OPERATIONS = 9
"""How many operations fail when the store goes away: more than a unit is tried."""

_CHANCE = re.compile(r"[0-9a-f]{32}")
_UNIT = re.compile(r"[^/]*-[0-9a-f]{12}\.parquet")
_EXIT_CODE = 77
_PATH = os.pathsep.join(str(REPOSITORY / folder) for folder in ("tests", "jobs"))


@dataclass(frozen=True)
class Point:
    """A moment in a stage's run."""

    verb: str
    key: str
    """With a star in place of what comes from chance."""
    nth: int
    """How often this was done to that before."""
    moment: str
    """before, half-way or after."""

    def __str__(self) -> str:
        return f"{self.moment} {self.verb} {self.key} #{self.nth}"


@dataclass(frozen=True)
class Order:
    """What to run, where, and what is to go wrong."""

    job: str
    """Module of the job."""
    arguments: Sequence[str]
    log: Path
    """Gets a line for each operation that was done."""
    point: Point | None = None
    manner: str = ""


# --- in the tests ------------------------------------------------------------------------------------------------


def run_apart(order: Order) -> int:
    """Run a stage in a process of its own; what it exits with, or minus the signal that ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "support.warm_stages", "support.kill_points"])
    process = context.Process(target=run_stage, args=(order,))
    with mock.patch.dict(os.environ, PYTHONPATH=_PATH):  # of the process that all are forked from
        process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"{order} hangs")
    return process.exitcode


def operations(log: Path) -> list[tuple[str, str]]:
    """Verb and key of every operation that was done."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [(verb, key) for verb, _, key in (line.partition("\t") for line in lines)]


def made(done: Sequence[tuple[str, str]]) -> list[str]:
    """Units written by the operations, in order."""
    return [key for verb, key in done if verb == "create" and _is_unit(key)]


def recorded(done: Sequence[tuple[str, str]]) -> list[str]:
    """Units whose records were written, in order."""
    return [_unit_of(key) for verb, key in done if verb == "create" and _is_record(key)]


def points(done: Sequence[tuple[str, str]]) -> dict[str, list[Point]]:
    """Moments of an undisturbed run, by phase."""
    first = next(i for i, each in enumerate(done) if made([each]))
    last = max(i for i, each in enumerate(done) if recorded([each]))
    manifest = next(i for i, (verb, _) in enumerate(done) if verb == "create if absent")
    found: dict[str, list[Point]] = {phase: [] for phase in PHASES}
    seen: Counter[tuple[str, str]] = Counter()
    for i, (verb, raw_key) in enumerate(done):
        key = _without_chance(raw_key)
        before, half_way, after = (Point(verb, key, seen[verb, key], each) for each in ("before", "half-way", "after"))
        seen[verb, key] += 1
        if verb in (*WRITING, "delete"):
            found["inside a write"].append(half_way)
        if i < first:
            found["before the first unit"] += [before, after]
        elif i > manifest:
            found["between manifest and clean-up"] += [before, after]
        elif i > last:
            found["between last unit and manifest"] += [before] if i == manifest else [before, after]
        elif made([(verb, raw_key)]):
            found["between unit and record"].append(after)
        elif recorded([(verb, raw_key)]):
            found["between unit and record"].append(before)
        if i == manifest:
            found["between manifest and clean-up"].append(after)
    return found


# --- in the process ----------------------------------------------------------------------------------------------


def run_stage(order: Order) -> None:
    """Run a job's main function, each unit after the other, and exit as the job does."""
    from importlib import import_module

    from support.on_spark import run_here
    from toposieve import cli
    from toposieve.spark import ingestion, run, selection, session

    job = import_module(order.job)
    trace = Trace(order.log, order.point, order.manner)
    opened = cache(lambda root, pid: KillingStore(FileStore(Path(root)), trace))

    def run_plainly(spark: Any, function: Callable[[Any], Any], items: Sequence[Any], **options: Any) -> Any:
        return run_here(spark, lambda item: _attempted(function, item), items, **options)

    with (
        order.log.with_suffix(".out").open("a") as out,
        redirect_stdout(out),
        redirect_stderr(out),
        mock.patch.object(store, "_opened", opened),
        mock.patch.object(run, "RETRY_SECONDS", (0.0, 0.0, 0.0)),
        mock.patch.object(session.SparkOnDemand, "__call__", return_value=None),
        mock.patch.object(ingestion, "run_on_spark", run_plainly),
        mock.patch.object(selection, "run_on_spark", run_plainly),
        mock.patch.object(sys, "argv", [order.job, *order.arguments]),
    ):
        cli.run(job.main, job.arg_parser())


def _attempted(function: Callable[[Any], Any], item: Any) -> Any:
    from toposieve.spark.run import Failure, attempt, sort_out

    record = attempt(0, lambda: function(item))
    if isinstance(record, Failure):
        sort_out([record])
        raise AssertionError("a failure is raised")
    return record[1]


@dataclass
class Trace:
    """Counts operations, and strikes at one of them."""

    log: Path
    point: Point | None
    manner: str
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    away: int = 0
    """Operations that still fail."""
    full: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def at(self, verb: str, key: str) -> Iterator[Callable[[str], None]]:
        """Around an operation; what it gives is called at the operation's own moments, with their names."""
        with self.lock:
            nth = self.seen[verb, _without_chance(key)]
            self.seen[verb, _without_chance(key)] += 1

        def moment(name: str) -> None:
            if self.point == Point(verb, _without_chance(key), nth, name):
                self._strike(name)

        moment("before")
        self._fail_if_away()
        yield moment
        if self.full and verb in WRITING:
            raise _full_disk()
        with self.log.open("a", encoding="utf-8") as stream:
            stream.write(f"{verb}\t{key}\n")
        moment("after")

    def _fail_if_away(self) -> None:
        if self.away:
            self.away -= 1
            raise UnavailableError("the test's store does not answer")

    def _strike(self, moment: str) -> None:
        if self.manner == "exit":
            os._exit(_EXIT_CODE)
        elif self.manner == "disk full":
            self.full = True
            if moment != "after":
                raise _full_disk()
        elif self.manner == "store away":
            self.away = AWAY_OPERATIONS
            self._fail_if_away()
        else:
            os.kill(os.getpid(), signal.Signals[self.manner])
            signal.pause()


class KillingStore:
    """A store at whose operations a trace may strike.

    Args:
        inner: The real one.
        trace: Is told of each operation.
    """

    def __init__(self, inner: Store, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        with self._trace.at("list", f"{folder}/{prefix}"):
            found = list(self._inner.list(folder, prefix))
        return iter(found)

    def stat(self, key: str) -> Stat | None:
        with self._trace.at("stat", key):
            return self._inner.stat(key)

    def checksum(self, key: str) -> str | None:
        with self._trace.at("checksum", key):
            return self._inner.checksum(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        with self._trace.at("read", key):
            return self._inner.read_ranges(key, ranges)

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        with self._trace.at("fetch", key), self._inner.fetch(key) as path:
            yield path

    @contextmanager
    def create(self, key: str, suffix: str = "") -> Iterator[Path]:
        with self._trace.at("create", key) as moment, self._inner.create(key, suffix) as path:
            yield path
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            moment("half-way")
            if self._trace.full:
                raise _full_disk()
            path.write_bytes(whole)

    def create_if_absent(self, key: str, content: bytes) -> bool:
        link = os.link

        def link_or_die(source: str | Path, target: str | Path) -> None:
            moment("half-way")
            link(source, target)

        with self._trace.at("create if absent", key) as moment, mock.patch.object(os, "link", link_or_die):
            if self._trace.full:
                raise _full_disk()
            return self._inner.create_if_absent(key, content)

    def delete(self, *keys: str) -> None:
        with self._trace.at("delete", keys[0]) as moment:
            half = (len(keys) + 1) // 2
            self._inner.delete(*keys[:half])
            moment("half-way")
            self._inner.delete(*keys[half:])


def _full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _without_chance(key: str) -> str:
    return _CHANCE.sub("*", key)


def _is_unit(key: str) -> bool:
    return bool(_UNIT.fullmatch(key.rpartition("/")[2]))


def _is_record(key: str) -> bool:
    return f"/{RECORDS}/" in key


def _unit_of(record: str) -> str:
    return record.replace(f"{RECORDS}/", "").removesuffix(".json")
