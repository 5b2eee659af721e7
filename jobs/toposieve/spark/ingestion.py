"""Ingest: from ROOT files to Parquet files of the needed leaves, one per unit of work."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from toposieve import schema
from toposieve.config import IngestConfig
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile, entry_ranges, inspect_file, read_events
from toposieve.io.filesystems import sample_of
from toposieve.io.manifests import (
    MANIFEST_NAME,
    BadFile,
    Manifest,
    Publication,
    Unit,
    gather_notes,
    read_manifest_if_any,
    reusable_units,
)
from toposieve.io.parquet import EVENTS_SCHEMA, event_writer, events_to_arrow
from toposieve.spark.session import spark_session
from toposieve.spark.sink import Outcome, Summary, Work, in_order, run_units, split_done, unit_name
from toposieve.version import code_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BATCH_ENTRIES = 1000
"""Events in memory at a time, and in one row group."""

INSPECTED_HERE = 256 << 20
"""Bytes of files that are read for their checksums in less time than Spark takes to start."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestWork(Work):
    """A range of entries of one file."""

    file: SourceFile


def ingest_unit(work: IngestWork, path: Path) -> Summary:
    """Read one range of entries and write it as Parquet.

    Raises:
        InvalidInputError: The file cannot be read, or holds values that it must not.
    """
    events, weight = 0, 0.0
    with event_writer(path, EVENTS_SCHEMA) as writer:
        for batch in read_events(work.file, work.entry_start, work.entry_stop, BATCH_ENTRIES):
            writer.write_batch(events_to_arrow(batch))
            events += len(batch.weight)
            weight += float(batch.weight.sum(dtype=np.float64))
    return Summary({"events": events}, {"events": weight}, work.file.notes)


def find_files(raw: Path, samples: Sequence[str] | None, partition: str) -> dict[str, str]:
    """A partition's ROOT files: file id → checksum that the simulation's manifest lists, "" where there is none.

    Args:
        raw: The folder ``{base}/raw``.
        samples: Samples to look for, each of which must have files; None takes those that have some.
        partition: The production day, or any other key.

    Raises:
        InvalidInputError: There are none, or none of a sample asked for.
    """
    found = {sample: _sample_files(raw, sample, partition) for sample in samples or schema.SAMPLES}
    empty = [sample for sample, files in found.items() if not files]
    if (samples and empty) or len(empty) == len(found):
        folders = ", ".join(str(raw / sample / partition) for sample in empty)
        raise InvalidInputError(f"no ROOT files (*.root) in {folders}: put some there, or run simulate.py")
    if empty:
        logger.info("no files of %s in partition %s", ", ".join(empty), partition)
    return {file: listed for files in found.values() for file, listed in files.items()}


def _sample_files(raw: Path, sample: str, partition: str) -> dict[str, str]:
    folder = raw / sample / partition
    files = {path.name: "" for path in folder.glob("*.root")}
    manifest = read_manifest_if_any(folder)
    if manifest is not None:
        files = _listed_files(folder, manifest, set(files))
    return {f"{sample}/{partition}/{name}": files[name] for name in sorted(files)}


def _listed_files(folder: Path, manifest: Manifest, present: set[str]) -> dict[str, str]:
    listed = {file.path: file.checksum for file in manifest.outputs()}
    if unlisted := sorted(present - listed.keys()):
        logger.warning("%s: left out since the manifest there does not list them: %s", folder, ", ".join(unlisted))
    return listed


def inspect_files(raw: Path, files: Mapping[str, str]) -> list[SourceFile | BadFile]:
    """Inspect a few files in threads of this process: done before Spark has started."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(partial(inspect, raw), files, files.values()))


def inspect_on_spark(spark: SparkSession, raw: Path, files: Mapping[str, str]) -> list[SourceFile | BadFile]:
    """Inspect files on Spark: it reads every byte, for the checksum."""
    slices = min(len(files), 4 * spark.sparkContext.defaultParallelism)
    folder = str(raw)
    return (
        spark.sparkContext.parallelize(list(files.items()), slices)
        .map(lambda file: inspect(Path(folder), *file))
        .collect()
    )


def inspect(raw: Path, file_id: str, listed: str) -> SourceFile | BadFile:
    """Inspect one file; if it is bad, or not the one that the simulation listed (see :func:`find_files`), say why."""
    try:
        file = inspect_file(raw, file_id)
    except InvalidInputError as error:
        return BadFile(source=file_id, reason=str(error))
    if listed in ("", file.checksum):
        return file
    reason = (
        f"{file_id}: not the file that {MANIFEST_NAME} lists; run simulate.py again to have that back, "
        f"or remove {MANIFEST_NAME} there to take the files as they are"
    )
    return BadFile(source=file_id, source_checksum=file.checksum, reason=reason)


def plan(files: Iterable[SourceFile], config: IngestConfig) -> list[IngestWork]:
    """Units of work of the inspected files."""
    return [
        IngestWork(file.id, file.checksum, start, stop, unit_name(file.id, file.checksum, start, config.hash), file)
        for file in files
        for start, stop in entry_ranges(file.entries, config.entries_per_unit)
    ]


@dataclass(frozen=True)
class Ingested:
    """What the files have become, in the publication's staging directory or by an earlier run."""

    units: tuple[Unit, ...]
    new: tuple[Unit, ...]
    """Those of the units that were done just now."""
    quarantined: tuple[BadFile, ...]


def ingest_files(
    raw: Path,
    files: Mapping[str, str],
    publication: Publication,
    config: IngestConfig,
    master: str | None,
    *,
    quarantine: bool,
) -> Ingested:
    """Bring files into the staging directory of a publication; units of its previous manifest are kept if still good.

    Args:
        raw: The folder ``{base}/raw``.
        files: From :func:`find_files`.
        publication: Where to; publishing is left to the caller.
        config: How to cut files into units.
        master: Spark master; Spark starts only if there is something to do, or much to inspect.
        quarantine: Go on without bad files, and list them. A file known to be bad is not tried again until it changes.

    Raises:
        InvalidInputError: A file is bad and ``quarantine`` is false, or every file is bad.
    """
    with ExitStack() as stack:
        if _total_bytes(raw, files) <= INSPECTED_HERE:
            inspected = inspect_files(raw, files)
        else:
            inspected = inspect_on_spark(stack.enter_context(spark_session("ingest", master)), raw, files)
        return _ingest_inspected(inspected, publication, config, master, quarantine=quarantine)


def _total_bytes(raw: Path, files: Iterable[str]) -> int:
    paths = [raw / file for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())


def _ingest_inspected(
    inspected: Sequence[SourceFile | BadFile],
    publication: Publication,
    config: IngestConfig,
    master: str | None,
    *,
    quarantine: bool,
) -> Ingested:
    good = {file.id: file for file in inspected if isinstance(file, SourceFile)}
    bad = [file for file in inspected if isinstance(file, BadFile)]
    if bad and not quarantine:
        raise InvalidInputError("\n".join(file.reason for file in bad))
    if quarantine:
        bad += _known_bad(publication.previous, good)
    works = plan((file for file in good.values() if file.id not in _sources(bad)), config)
    kept, todo = split_done(works, _reusable(publication, config, set(good)))
    logger.info("%d files, %d units: %d done before, %d to do", len(inspected), len(works), len(kept), len(todo))
    outcome = _run(todo, publication.staging, master, keep_going=quarantine)
    bad += [file.model_copy(update={"source_checksum": good[file.source].checksum}) for file in outcome.bad_files]
    new = tuple(unit for unit in outcome.units if unit.source not in _sources(bad))
    units = in_order(unit for unit in (*kept, *new) if unit.source not in _sources(bad))
    if not units:
        raise InvalidInputError("every file is bad:\n" + "\n".join(file.reason for file in bad))
    return Ingested(units, new, tuple(sorted(bad, key=lambda file: file.source)))


def _run(works: Sequence[IngestWork], staging: Path, master: str | None, *, keep_going: bool) -> Outcome:
    if not works:
        return Outcome((), ())
    with spark_session("ingest", master) as spark:
        return run_units(spark, ingest_unit, works, staging, keep_going=keep_going)


def events_manifest(
    ingested: Ingested, publication: Publication, config: IngestConfig, samples: Iterable[str]
) -> Manifest:
    """The manifest to publish: what was ingested, and what the previous one holds of other samples.

    Args:
        ingested: The outcome for ``samples``.
        publication: Where it will be published.
        config: The configuration in use.
        samples: Samples that this run answers for. Of these, inputs that are gone leave the manifest.
    """
    previous = publication.previous
    kept = previous if previous and previous.config_hash == config.hash else None
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
    return Manifest(
        stage="ingest",
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        units=units,
        quarantined=tuple(quarantined),
        notes=gather_notes(units),
        code_version=code_version(),
    )


def _reusable(publication: Publication, config: IngestConfig, sources: set[str]) -> list[Unit]:
    """Units of the previous manifest that were made from these files, and are still whole."""
    previous = publication.previous
    if previous is not None:
        units = tuple(unit for unit in previous.units if unit.source in sources)
        previous = previous.model_copy(update={"units": units})
    return reusable_units(publication.directory, previous, config.hash)


def _known_bad(previous: Manifest | None, files: Mapping[str, SourceFile]) -> list[BadFile]:
    quarantined = previous.quarantined if previous else ()
    return [bad for bad in quarantined if bad.source in files and files[bad.source].checksum == bad.source_checksum]


def _sources(bad: Iterable[BadFile]) -> set[str]:
    return {file.source for file in bad}
