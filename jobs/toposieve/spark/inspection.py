"""Inspection of ROOT files: few in this process, many on Spark, and none that has not changed since the last time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from toposieve.errors import InvalidInputError, RefusedError
from toposieve.io.delphes import REMEDY, SourceFile, inspect_file
from toposieve.io.duplicates import Content, find_duplicates
from toposieve.io.manifests import BadFile, Unit
from toposieve.io.names import sample_of
from toposieve.io.raw import FoundFile, find_again, read_known, still_known, write_known
from toposieve.io.store import Key
from toposieve.spark.balance import LEAST_EVENTS
from toposieve.spark.run import Failure, attempt, run_on_spark, sort_out

if TYPE_CHECKING:
    from toposieve.spark.session import SparkOnDemand

SECONDS_HERE = 3.0
"""Files are inspected in this process for about as long as Spark takes to start; what is left then, on Spark."""

BYTES_HERE = 256 << 20
"""No larger file is begun here: every byte is read, for the checksum."""

FILES_AT_ONCE = 4_000
"""Files of one job of Spark: what a run that is ended loses, at most; and work for some 400 cores."""

BYTES_PER_EVENT = 20_000
"""About what an event takes in a ROOT file: only the balance of tasks depends on it."""


@dataclass(frozen=True)
class InspectItem:
    """A file to inspect."""

    raw: Key
    file: FoundFile

    @property
    def events(self) -> int:
        """About how many it holds, for inspection reads every byte; and what opening the file costs."""
        return LEAST_EVENTS + max(self.file.size, 0) // BYTES_PER_EVENT


def inspect(item: InspectItem) -> SourceFile | BadFile:
    """Inspect one file; if it is bad, or not the one that the simulation listed, say why."""
    if item.file.problem:
        return BadFile(source=item.file.id, reason=item.file.problem)
    try:
        found = inspect_file(item.raw, item.file.id)
    except RefusedError:
        raise
    except InvalidInputError as error:
        return BadFile(source=item.file.id, reason=str(error))
    if item.file.listed_checksum in ("", found.checksum):
        return found
    reason = (
        f"{item.file.id}: not the file that the manifest there lists; run simulate.py again to have that back, "
        "or remove the manifests there to take the files as they are"
    )
    return BadFile(source=item.file.id, source_checksum=found.checksum, reason=reason)


def inspect_all(
    raw: Key, files: Sequence[FoundFile], folder: Key, spark: SparkOnDemand, ingested: Key | None = None
) -> list[SourceFile | BadFile]:
    """Inspect files, and remember what is found while others are still read: a run that is ended is gone on with.

    Args:
        raw: The folder of all raw files.
        files: What is there.
        folder: Output folder of the stage, which remembers what was inspected.
        spark: Started if there is much to inspect.
        ingested: Another folder that may remember some of it, if there is one.
    """
    known = read_known(folder, raw)
    done = still_known(files, known)
    others = still_known([file for file in files if file.id not in done], read_known(ingested, raw) if ingested else {})
    taken_over: list[SourceFile | BadFile] = [*others.values()]
    by_id: dict[str, SourceFile | BadFile] = {**done, **others}
    items = [InspectItem(raw, file) for file in files if file.id not in by_id]
    for batch in chain([taken_over], _inspect(items, spark)):
        good = {file.id: file for file in batch if isinstance(file, SourceFile)}
        by_id |= {**good, **{file.source: file for file in batch if isinstance(file, BadFile)}}
        known |= good
        if good:
            write_known(folder, raw, known.values())
    return [by_id[file.id] for file in files]


def _inspect(items: Sequence[InspectItem], spark: SparkOnDemand) -> Iterator[list[SourceFile | BadFile]]:
    """Inspect the first few here, and the others on Spark, a batch at a time."""
    here = _inspect_here(items)
    yield here
    for start in range(len(here), len(items), FILES_AT_ONCE):
        batch = items[start : start + FILES_AT_ONCE]
        name = f"inspecting files {start + 1:,} to {start + len(batch):,} of {len(items):,}"
        results = run_on_spark(spark(), inspect, batch, name=name, unit="").results
        yield [results[number] for number in range(len(batch))]


def _inspect_here(items: Sequence[InspectItem]) -> list[SourceFile | BadFile]:
    """Inspect the first few."""
    records: list[Any] = []
    stop = time.monotonic() + SECONDS_HERE
    for number, item in enumerate(items):
        if time.monotonic() >= stop or item.file.size > BYTES_HERE:
            break
        records.append(attempt(number, partial(inspect, item)))
    sort_out([record for record in records if isinstance(record, Failure)])
    return [found for _, found in records]


def find_copies(files: Iterable[SourceFile]) -> list[BadFile]:
    """Files that are another one's copy, or a link to it: all but the first, or all where samples differ."""
    contents = [Content(file.id, (file.bytes, file.checksum), file.key) for file in files if file.entries]
    copies = []
    for group in find_duplicates(contents):
        one_sample = len({sample_of(name) for name in group}) == 1
        for name in group[one_sample:]:
            other = next(other for other in group if other != name)
            # Without a checksum: it is bad beside the other only, so whoever runs next compares again.
            copies.append(BadFile(source=name, reason=f"{name}: the same file as {other}; {REMEDY}"))
    return copies


def inspect_again(raw: Key, folder: Key, units: Iterable[Unit], spark: SparkOnDemand) -> list[SourceFile | BadFile]:
    """The files of ingested units, as they are now: inspected only if they may have changed.

    Args:
        raw: The folder of all raw files.
        folder: Output folder of ingest.
        units: Of its manifest.
        spark: Started if there is much to inspect.

    Raises:
        InvalidInputError: A file is good, but not the one that was ingested.
    """
    ingested = {unit.source: unit.input for unit in units}
    found = inspect_all(raw, find_again(raw, ingested), folder, spark)
    for file in found:
        if isinstance(file, SourceFile) and (file.bytes, file.checksum) != ingested[file.id]:
            raise InvalidInputError(f"{file.id} has changed since it was ingested: run ingest.py again, then this")
    return found
