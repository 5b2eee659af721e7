"""The sink protocol: Spark hands out units of work, tasks write files, the driver publishes.

Only descriptions of the work cross the JVM. A task reads its input, computes, and writes one file per unit into the
staging directory of a :class:`~toposieve.io.manifests.Publication`; commit messages bring the units' records back. Bad
input travels in those messages too: Spark must not retry it, nor bury it in a stack trace.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import heapq
import logging
import pickle
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage

from toposieve.errors import InvalidInputError
from toposieve.io.manifests import BadFile, Manifest, Publication, Unit, describe_file, is_up_to_date, write_timing

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

TASKS_PER_CORE = 4
"""Tasks for each core, so that cores finish together."""

EVENTS_PER_TASK = 50_000
"""Most events in a task of several units: what a lost task costs."""

PROGRESS_SECONDS = 5.0
_STOP_MARKER = "stop"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """Description of one unit of work; stages add what their handler needs. Small, and picklable."""

    source: str
    """The input, as in the unit's record."""
    source_checksum: str
    entry_start: int
    entry_stop: int
    output: str
    """Name of the file that it becomes."""

    @property
    def events(self) -> int:
        """Entries to read."""
        return self.entry_stop - self.entry_start


WorkT = TypeVar("WorkT", bound=Work)


@dataclass(frozen=True)
class Summary:
    """What a handler counted in one unit: see :class:`~toposieve.io.manifests.Unit`."""

    counts: dict[str, int]
    weights: dict[str, float]
    notes: tuple[str, ...] = ()


Handler: TypeAlias = Callable[[Any, Path], Summary]
"""What a task does with one unit: read, compute, write the file at the path. Raises InvalidInputError for bad input."""


@dataclass(frozen=True)
class _Failure:
    """Why a unit was not done, without a traceback."""

    work: Work
    reason: str
    errno: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of the units."""

    units: tuple[Unit, ...]
    bad_files: tuple[BadFile, ...]


def run_units(
    spark: SparkSession, handler: Handler, works: Sequence[Work], staging: Path, *, keep_going: bool = False
) -> Outcome:
    """Do units of work on Spark.

    Args:
        spark: The session.
        handler: Does one unit; picklable.
        works: The units.
        staging: Where their files go.
        keep_going: Go on after bad input and list it in the outcome, instead of raising it.

    Raises:
        InvalidInputError: Some input is bad and ``keep_going`` is false.
        OSError: The disk is full.
    """
    if not works:
        return Outcome((), ())
    tasks = balance(works, _task_count(works, spark.sparkContext.defaultParallelism))
    rows = [(pickle.dumps(task),) for task in tasks]
    _register(spark)
    with tempfile.TemporaryDirectory(prefix="toposieve-") as folder, _progress(works, staging):
        results = Path(folder) / "results"
        settings = _Settings(pickle.dumps(handler), staging, results, keep_going)
        frame = spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), "works binary")
        frame.write.format(UnitSink.name()).mode("append").option("settings", settings.encode()).save()
        outcomes: list[Unit | _Failure] = pickle.loads(results.read_bytes())
    return _sort_out(outcomes, staging, keep_going=keep_going)


@lru_cache(maxsize=1)
def _register(spark: SparkSession) -> None:
    # Once a session: Spark warns of a second time.
    spark.dataSource.register(UnitSink)


def unit_name(source: str, checksum: str, start: int, config_hash: str) -> str:
    """File name of a unit. It follows from what decides the content, so new content never takes an old file's name.

    >>> unit_name("qcd/2026-01-01/qcd-000003.root", "1f", 250, "2e")
    'qcd-000003-250-a2bae23f9cc6.parquet'
    """
    identity = "\0".join((source, checksum, str(start), config_hash))
    digest = hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()
    return f"{PurePosixPath(source).stem}-{start}-{digest}.parquet"


def split_done(works: Sequence[WorkT], units: Iterable[Unit]) -> tuple[list[Unit], list[WorkT]]:
    """Units that earlier runs did and that are still asked for, and the works that remain."""
    done = {(unit.source, unit.source_checksum, unit.entry_start, unit.entry_stop): unit for unit in units}
    keys = [(work.source, work.source_checksum, work.entry_start, work.entry_stop) for work in works]
    kept = [done[key] for key in keys if key in done]
    return kept, [work for work, key in zip(works, keys, strict=True) if key not in done]


def balance(works: Sequence[Work], tasks: int) -> list[list[Work]]:
    """Share units out to tasks, largest first, each to the task with the fewest events so far; largest task first.

    Args:
        works: Units of any size.
        tasks: Number of tasks, at most as many as units.
    """
    heap: list[tuple[int, int]] = [(0, index) for index in range(tasks)]
    shares: list[list[Work]] = [[] for _ in range(tasks)]
    for work in sorted(works, key=lambda work: (-work.events, work.output)):
        load, index = heapq.heappop(heap)
        shares[index].append(work)
        # An empty unit counts too: opening its file takes time.
        heapq.heappush(heap, (load + max(work.events, 1), index))
    return sorted(shares, key=lambda share: -sum(work.events for work in share))


def _task_count(works: Sequence[Work], cores: int) -> int:
    events = sum(work.events for work in works)
    return min(len(works), max(TASKS_PER_CORE * cores, -(-events // EVENTS_PER_TASK)))


def _sort_out(outcomes: list[Unit | _Failure], staging: Path, *, keep_going: bool) -> Outcome:
    failures = [outcome for outcome in outcomes if isinstance(outcome, _Failure)]
    for failure in failures:
        if failure.errno is not None:
            raise OSError(failure.errno, failure.reason, str(staging))
    # Several units of a file may find it bad: the reason of its first stands.
    failures.sort(key=lambda failure: (failure.work.source, -failure.work.entry_start))
    reasons = {failure.work.source: failure.reason for failure in failures}
    bad_files = tuple(BadFile(source=source, reason=reason) for source, reason in reasons.items())
    if bad_files and not keep_going:
        raise InvalidInputError("\n".join(bad.reason for bad in bad_files))
    units = [outcome for outcome in outcomes if isinstance(outcome, Unit)]
    return Outcome(in_order(units), bad_files)


def in_order(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Units as manifests list them: by source, then entry."""
    return tuple(sorted(units, key=lambda unit: (unit.source, unit.entry_start)))


def publish(publication: Publication, manifest: Manifest, new: Sequence[Unit], started: float) -> None:
    """Publish what a stage did, unless it changes nothing, and log how it ended.

    Args:
        publication: Holds the new units' files in its staging directory.
        manifest: The stage's new manifest.
        new: Those of its units that were done just now.
        started: When the stage began, as ``time.monotonic`` gave it.
    """
    done, total = (sum(unit.counts["events"] for unit in units) for units in (new, manifest.units))
    for note, count in Counter(note.partition(": ")[2] for note in manifest.notes).items():
        logger.warning("%s (%d of the files)", note, count)
    if not new and is_up_to_date(publication.previous, manifest):
        logger.info("nothing to do: %s has all %s events already", publication.directory, f"{total:,}")
        return
    publication.publish(manifest, [file for unit in new for file in unit.outputs])
    seconds = time.monotonic() - started
    write_timing(publication.directory, seconds=seconds, events=done)
    logger.info("done: %s new events of %s in %.1f s", f"{done:,}", f"{total:,}", seconds)


# --- in the tasks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Settings:
    """What every task of one run needs to know."""

    handler: bytes
    """Pickled, since only tasks have a use for what it imports."""
    staging: Path
    results: Path
    keep_going: bool

    def encode(self) -> str:
        """As a data source option."""
        return base64.b64encode(pickle.dumps(self)).decode()


@dataclass
class _Message(WriterCommitMessage):
    outcomes: list[Unit | _Failure]


class UnitSink(DataSource):
    """Spark data source whose rows are pickled lists of works."""

    @classmethod
    def name(cls) -> str:
        """Name for ``DataFrame.write.format``."""
        return "toposieve-units"

    def writer(self, schema: Any, overwrite: bool) -> UnitWriter:
        """The writer that Spark sends to the tasks."""
        return UnitWriter(pickle.loads(base64.b64decode(self.options["settings"])))


class UnitWriter(DataSourceArrowWriter):
    """Does the work of one task, and hands all records to the driver in the end."""

    def __init__(self, settings: _Settings) -> None:
        """Keep what every task needs."""
        self.settings = settings

    def write(self, iterator: Iterator[pa.RecordBatch]) -> WriterCommitMessage:
        """Do every unit of the task."""
        handler: Handler = pickle.loads(self.settings.handler)
        outcomes: list[Unit | _Failure] = []
        for batch in iterator:
            for row in batch.column(0):
                for work in pickle.loads(row.as_py()):
                    if not self._stopped():
                        outcomes.append(self._attempt(handler, work))
        return _Message(outcomes)

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """Leave the records for the driver, which runs in another process on this machine."""
        outcomes = [outcome for message in messages if isinstance(message, _Message) for outcome in message.outcomes]
        self.settings.results.write_bytes(pickle.dumps(outcomes))

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Nothing to do: the staging directory goes away with its Publication."""

    def _stopped(self) -> bool:
        return (self.settings.staging / _STOP_MARKER).exists()

    def _attempt(self, handler: Handler, work: Work) -> Unit | _Failure:
        try:
            return self._write_unit(handler, work)
        except InvalidInputError as error:
            if not self.settings.keep_going:
                (self.settings.staging / _STOP_MARKER).touch()
            return _Failure(work, str(error))
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            # Raised here it would reach the driver as a text inside a Spark error.
            return _Failure(work, str(error), error.errno)

    def _write_unit(self, handler: Handler, work: Work) -> Unit:
        staged = self.settings.staging / work.output
        # Attempts of one task may overlap: each has a file of its own until it is whole.
        attempt = staged.with_name(f".{staged.name}.{uuid.uuid4().hex}")
        try:
            summary = handler(work, attempt)
            attempt.replace(staged)
        finally:
            attempt.unlink(missing_ok=True)
        return Unit(
            source=work.source,
            source_checksum=work.source_checksum,
            entry_start=work.entry_start,
            entry_stop=work.entry_stop,
            counts=summary.counts,
            weights=summary.weights,
            outputs=(describe_file(staged, self.settings.staging),),
            notes=summary.notes,
        )


# --- progress ----------------------------------------------------------------------------------------------------


@contextmanager
def _progress(works: Sequence[Work], staging: Path) -> Iterator[None]:
    """Log how far the tasks are while the block runs: a unit is done when its file is in the staging directory."""
    ended = threading.Event()
    thread = threading.Thread(target=_report, args=(works, staging, ended), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _report(works: Sequence[Work], staging: Path, ended: threading.Event) -> None:
    start = time.monotonic()
    while not ended.wait(PROGRESS_SECONDS):
        done = [work for work in works if (staging / work.output).exists()]
        events = sum(work.events for work in done)
        rate = events / (time.monotonic() - start)
        logger.info("%d of %d units done, %s events, %s events/s", len(done), len(works), f"{events:,}", f"{rate:,.0f}")
