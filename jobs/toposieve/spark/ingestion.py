"""Ingest: from ROOT files to Parquet files of the needed leaves, one per unit of work.

plan (:func:`inspect_all`, :func:`plan`) → run (:func:`ingest_unit` on Spark) → publish (:func:`events_manifest`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import IngestConfig
from toposieve.errors import InvalidInputError, RefusedError
from toposieve.io.delphes import REMEDY, SourceFile, entry_ranges, inspect_file, read_events
from toposieve.io.duplicates import Content, find_duplicates
from toposieve.io.manifests import BadFile, Manifest, Unit, gather_notes, in_order
from toposieve.io.names import sample_of, unit_name
from toposieve.io.parquet import EVENTS_SCHEMA, event_writer, events_to_arrow
from toposieve.io.raw import FoundFile, read_known, write_known
from toposieve.io.stages import Options
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.spark.run import Failure, attempt, run_on_spark, sort_out
from toposieve.spark.verification import kept_units
from toposieve.version import code_version

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

STAGE = "ingest"

INSPECTED_HERE = 8
"""Files that are inspected in less time than Spark takes to start: a file of Delphes has a thousand branches."""

BYTES_INSPECTED_HERE = 256 << 20
"""The same for what is read of them, for their checksums."""

BYTES_PER_EVENT = 20_000
"""About what an event takes in a ROOT file: only the balance of tasks depends on it."""

EVENTS_PER_OPENING = 500
"""Events that are inspected in the time that it takes to open a file."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestItem:
    """A range of entries of one file."""

    file: SourceFile
    entry_start: int
    entry_stop: int
    folder: Key
    """Where its Parquet file goes."""
    name: str
    """Of that file; it follows from everything that decides its content."""
    adopt: bool = True

    @property
    def events(self) -> int:
        """Entries to read."""
        return self.entry_stop - self.entry_start

    def unit(self, **done: object) -> Unit:
        """The record of what was done."""
        return Unit.model_validate(
            {
                "source": self.file.id,
                "source_bytes": self.file.bytes,
                "source_checksum": self.file.checksum,
                "entry_start": self.entry_start,
                "entry_stop": self.entry_stop,
                "outputs": (),
                **done,
            }
        )


def ingest_unit(item: IngestItem) -> Finished:
    """Read one range of entries and write it as Parquet, unless an earlier run did.

    Raises:
        InvalidInputError: The file cannot be read, or holds values that it must not.
    """
    return adopt_or_make(item.folder, item.name, partial(_write_events, item), adopt=item.adopt)


def _write_events(item: IngestItem, path: Path) -> Unit:
    weights: list[float] = []
    with event_writer(path, EVENTS_SCHEMA) as writer:
        for batch in read_events(item.file, item.entry_start, item.entry_stop):
            writer.write_batch(events_to_arrow(batch))
            weights += batch.weight.tolist()
    return item.unit(counts={"events": len(weights)}, weights={"events": math.fsum(weights)}, notes=item.file.notes)


# --- plan --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InspectItem:
    """A file to inspect."""

    raw: Key
    file: FoundFile

    @property
    def events(self) -> int:
        """About how many it holds, for inspection reads every byte; and what opening the file costs."""
        return EVENTS_PER_OPENING + max(self.file.size, 0) // BYTES_PER_EVENT


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


def inspect_all(raw: Key, files: Sequence[FoundFile], folder: Key, spark: SparkOnDemand) -> list[SourceFile | BadFile]:
    """Inspect files: few in this process, many on Spark, and none that has not changed since the last run.

    Args:
        raw: The folder of all raw files.
        files: What is there.
        folder: Output folder, which remembers what was inspected.
        spark: Started if there is much to inspect.
    """
    known = read_known(folder, raw)
    done = {file.id: known[file.id] for file in files if file.id in known and file.is_still(known[file.id])}
    items = [InspectItem(raw, file) for file in files if file.id not in done]
    if len(items) <= INSPECTED_HERE and sum(item.file.size for item in items) <= BYTES_INSPECTED_HERE:
        records = [attempt(number, partial(inspect, item)) for number, item in enumerate(items)]
        sort_out([record for record in records if isinstance(record, Failure)])
        results: dict[int, SourceFile | BadFile] = dict(record for record in records if not isinstance(record, Failure))
    else:
        results = run_on_spark(spark(), inspect, items, name=f"inspecting {len(items):,} files").results
    inspected = [results[number] for number in range(len(items))]
    good = [file for file in inspected if isinstance(file, SourceFile)]
    if good:
        write_known(folder, raw, {**known, **{file.id: file for file in good}}.values())
    by_id = {**done, **{file.id if isinstance(file, SourceFile) else file.source: file for file in inspected}}
    return [by_id[file.id] for file in files]


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


def check_other_samples(previous: Manifest | None, config: IngestConfig, samples: Iterable[str]) -> None:
    """Check that samples which this run does not answer for stay in the output though the code may be another now.

    Raises:
        InvalidInputError: They would leave it.
    """
    if previous is None or previous.config_hash != config.hash or previous.code == CODE_NUMBERS[STAGE]:
        return
    others = sorted({sample_of(unit.source) for unit in previous.units} - set(samples))
    if others:
        raise InvalidInputError(
            f"{', '.join(others)} were ingested by other code (number {previous.code}, now {CODE_NUMBERS[STAGE]}): "
            "run without --samples, so that all are made anew"
        )


def plan(files: Iterable[SourceFile], folder: Key, config: IngestConfig, *, adopt: bool = True) -> list[IngestItem]:
    """Units of work of the inspected files."""
    return [
        IngestItem(file, start, stop, folder, _unit_name(file, start, stop, config), adopt)
        for file in files
        for start, stop in entry_ranges(file.entries, config.entries_per_unit)
    ]


def _unit_name(file: SourceFile, start: int, stop: int, config: IngestConfig) -> str:
    return unit_name(file.id, STAGE, CODE_NUMBERS[STAGE], file.bytes, file.checksum, start, stop, config.hash)


# --- run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ingested:
    """What the files have become, now or by an earlier run."""

    units: tuple[Unit, ...]
    new_events: int
    quarantined: tuple[BadFile, ...]


def ingest_files(
    raw: Key,
    files: Sequence[FoundFile],
    publication: Publication,
    config: IngestConfig,
    spark: SparkOnDemand,
    options: Options,
) -> Ingested:
    """Bring files into an output folder; publishing is left to the caller.

    Args:
        raw: The folder of all raw files.
        files: From :func:`toposieve.io.raw.find_files`.
        publication: Where to; units of its previous manifest are kept if still good.
        config: How to cut files into units.
        spark: Started if there is something to do, or much to inspect.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is bad and may not be quarantined, or every file is bad.
    """
    inspected = inspect_all(raw, files, publication.folder, spark)
    good = {file.id: file for file in inspected if isinstance(file, SourceFile)}
    bad = [file for file in inspected if isinstance(file, BadFile)] + find_copies(good.values())
    if bad and not options.quarantine:
        raise InvalidInputError("\n".join(file.reason for file in bad))
    if options.quarantine and not options.recompute:
        # Until it changes: to lift a quarantine, ingest without one, or with --recompute.
        bad += _known_bad(publication.previous, good)
    usable = [file for file in good.values() if file.id not in _sources(bad)]
    items = plan(usable, publication.folder, config, adopt=not options.recompute)
    kept = {
        unit.outputs[0].path: unit for unit in kept_units(publication, config.hash, CODE_NUMBERS[STAGE], spark, options)
    }
    todo = [item for item in items if item.name not in kept]
    done = len(items) - len(todo)
    logger.info("%d files, %d units: %d done before, %d to do", len(files), len(items), done, len(todo))
    new, failed = _run(todo, spark, keep_going=options.quarantine)
    bad += failed
    old = [kept[item.name] for item in items if item.name in kept]
    units = in_order(unit for unit in (*old, *(finished.unit for finished in new)) if unit.source not in _sources(bad))
    if not units:
        raise InvalidInputError("every file is bad:\n" + "\n".join(file.reason for file in bad))
    made = [finished.unit for finished in new if not finished.adopted]
    new_events = sum(unit.counts["events"] for unit in made if unit.source not in _sources(bad))
    return Ingested(units, new_events, tuple(sorted(bad, key=lambda file: file.source)))


def _run(
    items: Sequence[IngestItem], spark: SparkOnDemand, *, keep_going: bool
) -> tuple[list[Finished], list[BadFile]]:
    if not items:
        return [], []
    outcome = run_on_spark(spark(), ingest_unit, items, name="ingesting", keep_going=keep_going)
    failed: dict[str, BadFile] = {}
    for number in sorted(outcome.bad, key=lambda number: items[number].entry_start, reverse=True):
        # Several units of a file may find it bad: the reason of its first stands.
        file = items[number].file
        failed[file.id] = BadFile(source=file.id, reason=outcome.bad[number], source_checksum=file.checksum)
    return list(outcome.results.values()), list(failed.values())


def _known_bad(previous: Manifest | None, files: Mapping[str, SourceFile]) -> list[BadFile]:
    quarantined = previous.quarantined if previous else ()
    return [bad for bad in quarantined if bad.source in files and files[bad.source].checksum == bad.source_checksum]


def _sources(bad: Iterable[BadFile]) -> set[str]:
    return {file.source for file in bad}


# --- publish -----------------------------------------------------------------------------------------------------


def events_manifest(
    ingested: Ingested, previous: Manifest | None, config: IngestConfig, samples: Iterable[str]
) -> Manifest:
    """The manifest to publish: what was ingested, and what the previous one holds of other samples.

    Args:
        ingested: The outcome for ``samples``.
        previous: The newest manifest so far.
        config: The configuration in use.
        samples: Samples that this run answers for. Of these, inputs that are no longer there leave the manifest.
    """
    same = previous and (previous.config_hash, previous.code) == (config.hash, CODE_NUMBERS[STAGE])
    kept = previous if same else None
    # As listed, whole or not: a damaged file is for the run that answers for its sample, and readers refuse it.
    others = [unit for unit in (kept.units if kept else ()) if sample_of(unit.source) not in samples]
    other_bad = [bad for bad in (kept.quarantined if kept else ()) if sample_of(bad.source) not in samples]
    units = in_order((*ingested.units, *others))
    quarantined = sorted((*ingested.quarantined, *other_bad), key=lambda bad: bad.source)
    gone = {unit.source for unit in previous.units} - {unit.source for unit in units} if previous else set()
    for source in sorted(gone):
        logger.warning("%s is no longer an input of this configuration: its events leave the output", source)
    for bad in quarantined:
        logger.warning("quarantined: %s", bad.reason)
    if quarantined:
        logger.warning("a file that is quarantined is tried again when it changes, and by a run without quarantine")
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        units=units,
        quarantined=tuple(quarantined),
        notes=gather_notes(units),
        code_version=code_version(),
    )
