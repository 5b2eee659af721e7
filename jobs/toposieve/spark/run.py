"""The one way to run a function over items on Spark.

Items travel in rows, a few for each task, and results come back as records: no task is sent more than its own. What a
task finds wrong is a record too: bad input, a fault of the machine or the network (tried again first), or a defect of
ours. Raised, it would be retried by Spark and then buried in a stack trace.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pyspark.accumulators import AccumulatorParam

from toposieve.errors import InvalidInputError, RefusedError, is_transient
from toposieve.spark.balance import balance

if TYPE_CHECKING:
    from pyspark import Accumulator, SparkContext
    from pyspark.sql import SparkSession

RETRY_SECONDS = (1.0, 5.0, 15.0)
"""Pauses before what a machine or network failed at is tried again."""

WATCH_SECONDS = 0.5
PROGRESS_SECONDS = 5.0
MAX_PROBLEMS = 5

logger = logging.getLogger(__name__)


class Item(Protocol):
    """Description of some work: small, and picklable."""

    @property
    def events(self) -> int:
        """How much work it is."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Failure:
    """Why an item has no result."""

    number: int
    """Of the item."""
    error: Exception | None
    """What was raised, where that tells a user what to do: bad input, a full disk, a store that stayed away."""
    trace: str = ""
    """Where in our code something else was raised."""


@dataclass(frozen=True)
class Outcome:
    """What became of the items.

    Attributes:
        results: Item's number → what the function returned.
        bad: Item's number → why its input is bad; empty unless asked to go on.
    """

    results: dict[int, Any]
    bad: dict[int, str]


def run_on_spark(
    spark: SparkSession,
    function: Callable[[ItemT], ResultT],
    items: Sequence[ItemT],
    *,
    name: str,
    keep_going: bool = False,
    quiet: bool = False,
    unit: str = "events",
) -> Outcome:
    """Call a function on each item, in tasks of Spark.

    Attempts may overlap, and a lost task is done again, so the function must bear being called twice on an item.

    Args:
        spark: The session.
        function: Of a module; raises InvalidInputError for bad input.
        items: Any number.
        name: What is done, for the progress in the log.
        keep_going: Go on after bad input and list it in the outcome, instead of raising it.
        quiet: Leave the progress to the caller.
        unit: What the items' work is counted in, for the progress; empty where it is but a weight.

    Raises:
        InvalidInputError: Input is bad and ``keep_going`` is false; the first few reasons.
        OSError: A disk is full, or a store stayed away.
        RuntimeError: The function has a defect; with its stack trace.
    """
    if not items:
        return Outcome({}, {})
    shares = [[(n, items[n]) for n in share] for share in balance([item.events for item in items])]
    context = spark.sparkContext
    watch = Watch.of(context, "" if quiet else name, sum(item.events for item in items), unit)
    task = _Task(function, keep_going, watch.done, watch.failures)
    rows = [pickle.dumps(share) for share in shares]
    with watch.watching(stop_early=not keep_going):
        context.setJobGroup(watch.group, name)
        try:
            found = context.parallelize(rows, len(rows)).flatMap(task).collect()
        except Exception:
            # Cancelled, or lost: what a task has found wrong says more.
            sort_out(watch.failures.value, keep_going=False)
            raise
    failures = [record for record in found if isinstance(record, Failure)]
    bad = sort_out(failures, keep_going=keep_going)
    return Outcome(dict(record for record in found if not isinstance(record, Failure)), bad)


@contextmanager
def job_pool(spark: SparkSession, threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each wait for Spark jobs; what still runs in the end is of no use and is cancelled."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="job")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # first: what is cancelled makes room for no other
        spark.sparkContext.cancelAllJobs()
        pool.shutdown()


def is_bad_input(error: Exception | None) -> bool:
    """Whether an input is at fault, rather than the machine, a store that refuses us, or our code."""
    return isinstance(error, InvalidInputError) and not isinstance(error, RefusedError)


def sort_out(failures: Sequence[Failure], *, keep_going: bool = False) -> dict[int, str]:
    """Reasons of bad input by number, if that may be; anything else is raised, what matters most first.

    Raises:
        InvalidInputError: Input is bad and ``keep_going`` is false.
        OSError: A disk is full, or a store stayed away.
        RuntimeError: There is a defect of ours.
    """
    for failure in sorted(failures, key=lambda failure: failure.error is not None):
        if failure.error is None:
            raise RuntimeError(f"a task failed:\n{failure.trace}")
        if not is_bad_input(failure.error):
            raise failure.error
    bad = {failure.number: str(failure.error) for failure in failures}
    if bad and not keep_going:
        reasons = list(dict.fromkeys(bad[number] for number in sorted(bad)))
        more = [f"and {len(reasons) - MAX_PROBLEMS} more"] if len(reasons) > MAX_PROBLEMS else []
        raise InvalidInputError("\n".join([*reasons[:MAX_PROBLEMS], *more]))
    return bad


# --- in the tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """What each task does with its rows."""

    function: Callable[[Any], Any]
    keep_going: bool
    done: Accumulator[int]
    failures: Accumulator[list[Failure]]

    def __call__(self, row: bytes) -> Iterator[tuple[int, Any] | Failure]:
        for number, item in pickle.loads(row):
            record = attempt(number, partial(self.function, item))
            yield record
            self.done.add(max(item.events, 1))
            if isinstance(record, Failure) and not (self.keep_going and is_bad_input(record.error)):
                self.failures.add([record])
                return


def attempt(number: int, function: Callable[[], ResultT]) -> tuple[int, ResultT] | Failure:
    """A number and what a function returns, or why it could not. What may pass is tried a few times."""
    for pause in (*RETRY_SECONDS, None):
        try:
            return number, function()
        except (InvalidInputError, OSError) as error:
            if not is_transient(error) or pause is None:
                return Failure(number, error)
            logger.warning("%s; trying again in %.0f s", error, pause)
            time.sleep(pause)
        except Exception:
            return Failure(number, None, traceback.format_exc())
    raise AssertionError("the last try has no pause")


# --- progress ----------------------------------------------------------------------------------------------------


class _Failures(AccumulatorParam[list[Failure]]):
    """Adds failures up."""

    def zero(self, value: list[Failure]) -> list[Failure]:
        return []

    def addInPlace(self, value1: list[Failure], value2: list[Failure]) -> list[Failure]:
        return [*value1, *value2]


@dataclass(frozen=True)
class Watch:
    """Watches a job while it runs: logs how far it is, and ends it early where there is no point in going on."""

    context: SparkContext
    name: str
    """What the log says; empty for no progress."""
    group: str
    total: int
    done: Accumulator[int]
    failures: Accumulator[list[Failure]]
    unit: str
    """Of the total; empty to log the share that is done instead."""

    @classmethod
    def of(cls, context: SparkContext, name: str, total: int, unit: str = "events") -> Watch:
        """Watch a job of so many events, or whatever else its work is counted in."""
        failures = context.accumulator([], _Failures())
        return cls(context, name, uuid.uuid4().hex, total, context.accumulator(0), failures, unit)

    @contextmanager
    def watching(self, *, stop_early: bool = False) -> Iterator[None]:
        """Watch while the block runs; its tasks add to :attr:`done`, which is seen when a task ends."""
        ended = threading.Event()
        thread = threading.Thread(target=self._watch, args=(ended, stop_early), name="progress", daemon=True)
        start = time.monotonic()
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if self.name:
            logger.info("%s: done in %.1f s", self.name, time.monotonic() - start)

    def _watch(self, ended: threading.Event, stop_early: bool) -> None:
        start = shown = time.monotonic()
        while not ended.wait(WATCH_SECONDS):
            if stop_early and self.failures.value:
                self.context.cancelJobGroup(self.group)
                return
            if not self.name or time.monotonic() - shown < PROGRESS_SECONDS:
                continue
            shown = time.monotonic()
            logger.info("%s: %s", self.name, self._progress(self.done.value, shown - start))

    def _progress(self, done: int, seconds: float) -> str:
        rate = done / seconds
        so_far = f"{done:,} of {self.total:,} {self.unit}, {rate:,.0f} {self.unit}/s"
        left = f", about {(self.total - done) / rate:,.0f} s left" if rate else ""
        return (so_far if self.unit else f"{done / self.total:.0%}") + left
