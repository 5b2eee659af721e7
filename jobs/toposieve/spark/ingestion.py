"""Ingest: which ROOT files there are, and what is in them; and their needed leaves as Parquet, if that is asked for.

plan (:func:`~toposieve.spark.inspection.inspect_all`, :func:`plan`) → run (:func:`store_unit` on Spark, where events
are to be stored) → publish (:func:`events_manifest`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import IngestConfig
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile, entry_ranges, read_events
from toposieve.io.manifests import BadFile, Manifest, Unit, gather_notes, in_order
from toposieve.io.names import sample_of, unit_name
from toposieve.io.parquet import EVENTS_SCHEMA, event_writer, events_to_arrow
from toposieve.io.raw import FoundFile, Ingested, find_files
from toposieve.io.stages import Options, warn_of_quarantined
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.spark.inspection import find_copies, inspect_all
from toposieve.spark.run import run_on_spark
from toposieve.spark.verification import kept_units
from toposieve.version import code_version

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

STAGE = "ingest"

UNIT_BYTES = 850_000_000
"""Most bytes of a file in a unit, as it is stored: 10,000 events of the published sample, 3,300 with a pile-up of 200,
of which those that are selected, 0.4 MB each, fill a task's memory with 0.8 GB at most."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestItem:
    """A range of entries of one file."""

    file: SourceFile
    entry_start: int
    entry_stop: int
    folder: Key
    """Where its Parquet file goes, if its events are stored."""
    name: str
    """Of that file; it follows from everything that decides its content."""
    adopt: bool = True

    @property
    def events(self) -> int:
        """Its entries."""
        return self.entry_stop - self.entry_start

    def unit(self) -> Unit:
        """Its record, without a file."""
        return Unit(
            source=self.file.id,
            source_bytes=self.file.bytes,
            source_checksum=self.file.checksum,
            entry_start=self.entry_start,
            entry_stop=self.entry_stop,
            counts={"events": self.events},
            notes=self.file.notes,
            outputs=(),
        )


def store_unit(item: IngestItem) -> Finished:
    """Read one range of entries and write it as Parquet, unless an earlier run did.

    Raises:
        InvalidInputError: The file cannot be read, or holds values that it must not.
    """
    return adopt_or_make(item.folder, item.name, partial(_write_events, item), adopt=item.adopt)


def _write_events(item: IngestItem, path: Path) -> Unit:
    with event_writer(path, EVENTS_SCHEMA) as writer:
        for batch in read_events(item.file, item.entry_start, item.entry_stop):
            writer.write_batch(events_to_arrow(batch))
    return item.unit()


# --- plan --------------------------------------------------------------------------------------------------------


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
        for start, stop in entry_ranges(file.entries, unit_entries(file.entries, file.bytes, config))
    ]


def unit_entries(entries: int, size: int, config: IngestConfig) -> int:
    """Most entries of a unit, of a file with so many and of so many bytes."""
    return min(config.entries_per_unit, max(1, UNIT_BYTES * entries // max(1, size)))


def _unit_name(file: SourceFile, start: int, stop: int, config: IngestConfig) -> str:
    return unit_name(file.id, STAGE, CODE_NUMBERS[STAGE], file.bytes, file.checksum, start, stop, config.hash)


# --- run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IngestedFiles:
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
) -> IngestedFiles:
    """Bring files into an output folder; publishing is left to the caller.

    Args:
        raw: The folder of all raw files.
        files: From :func:`toposieve.io.raw.find_files`.
        publication: Where to; units of its previous manifest are kept if still good.
        config: How to cut files into units, and whether to store their events.
        spark: Started if there are events to store, or much to inspect.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is bad and may not be quarantined, or every file is bad.
    """
    good, bad = _sort_out(inspect_all(raw, files, publication.folder, spark), options)
    items = plan(good, publication.folder, config, adopt=not options.recompute)
    kept = kept_units(publication, config.hash, CODE_NUMBERS[STAGE], spark, options)
    before = {(unit.range, unit.input): unit for unit in kept}
    units = [before.get((unit.range, unit.input), unit) for unit in map(IngestItem.unit, items)]
    done = [(unit.range, unit.input) in before and (bool(unit.outputs) or not config.store_events) for unit in units]
    todo = [number for number, is_done in enumerate(done) if not is_done]
    logger.info("%d files, %d units: %d done before, %d to do", len(files), len(items), sum(done), len(todo))
    made = todo
    if config.store_events and todo:
        stored = _store([items[n] for n in todo], spark, keep_going=options.quarantine)
        for number, finished in stored.items():
            units[todo[number]] = finished.unit
        made = [todo[number] for number, finished in stored.items() if not finished.adopted]
    new_events = sum(items[number].events for number in made)
    return IngestedFiles(_with_cross_sections(units, files), new_events, bad)


def look_into(raw: Key, partition: str, folder: Key, ingested: Key, spark: SparkOnDemand, options: Options) -> Ingested:
    """A partition of raw files as ingest would put it on record, for a stage that needs no such record.

    Args:
        raw: The folder of all raw files.
        partition: Whose files are looked for.
        folder: The stage's output folder, which remembers what was inspected.
        ingested: Ingest's, which may remember some of it.
        spark: Started if there is much to inspect.
        options: What the command line wants.

    Raises:
        InvalidInputError: There are no files, one is bad and may not be quarantined, or every one is bad.
    """
    config, files = IngestConfig(), find_files(raw, schema.SAMPLES, partition)
    good, bad = _sort_out(inspect_all(raw, files, folder, spark, ingested), options)
    units = _with_cross_sections([item.unit() for item in plan(good, folder, config)], files)
    return Ingested(raw, folder, events_manifest(IngestedFiles(units, 0, bad), None, config, schema.SAMPLES))


def _sort_out(
    inspected: Sequence[SourceFile | BadFile], options: Options
) -> tuple[list[SourceFile], tuple[BadFile, ...]]:
    """Good files, and the others."""
    good = [file for file in inspected if isinstance(file, SourceFile)]
    bad = [file for file in inspected if isinstance(file, BadFile)] + find_copies(good)
    reasons = "\n".join(file.reason for file in bad)
    if bad and not options.quarantine:
        raise InvalidInputError(reasons)
    sources = {file.source for file in bad}
    good = [file for file in good if file.id not in sources]
    if not good:
        raise InvalidInputError(f"every file is bad:\n{reasons}")
    return good, tuple(sorted(bad, key=lambda file: file.source))


def _with_cross_sections(units: Iterable[Unit], files: Iterable[FoundFile]) -> tuple[Unit, ...]:
    said = {file.id: file.cross_section for file in files}
    return in_order(unit.model_copy(update={"cross_section": said[unit.source]}) for unit in units)


def _store(items: Sequence[IngestItem], spark: SparkOnDemand, *, keep_going: bool) -> dict[int, Finished]:
    outcome = run_on_spark(spark(), store_unit, items, name="storing events", keep_going=keep_going)
    for reason in outcome.bad.values():
        logger.warning("not stored, and left to the selection to refuse: %s", reason)
    return outcome.results


# --- publish -----------------------------------------------------------------------------------------------------


def events_manifest(
    ingested: IngestedFiles, previous: Manifest | None, config: IngestConfig, samples: Iterable[str]
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
    warn_of_quarantined(quarantined)
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
