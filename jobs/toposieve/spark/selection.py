"""Select: from ``events`` files to ``selected`` files, one to one."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.filesystems import sample_of
from toposieve.io.manifests import (
    Manifest,
    OutputFile,
    Publication,
    Unit,
    fingerprint,
    gather_notes,
    read_manifest,
    replace_file,
    reusable_units,
    verify_file,
)
from toposieve.io.parquet import SELECTED_SCHEMA, event_writer, read_event_batches, selected_to_arrow
from toposieve.physics.events import Events
from toposieve.physics.selection import select_events
from toposieve.spark.session import spark_session
from toposieve.spark.sink import Summary, Work, in_order, run_units, split_done, unit_name
from toposieve.version import code_version

CUTFLOW_NAME = "cutflow.json"
WEIGHTED = "weighted"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectWork(Work):
    """One ``events`` file."""

    directory: Path
    file: OutputFile
    config: SelectionConfig


def select_partition(
    base: Path, partition: str, publication: Publication, config: SelectionConfig, master: str | None
) -> tuple[Manifest, tuple[Unit, ...]]:
    """Select the events of a partition into the staging directory of a publication; publishing is left to the caller.

    Args:
        base: The base folder.
        partition: The production day, or any other key.
        publication: Where to; units of its previous manifest are kept if still good.
        config: Cuts.
        master: Spark master; Spark starts only if there is something to do.

    Returns:
        The new manifest, and those of its units that were done just now.

    Raises:
        InvalidInputError: The events manifest is missing, or lists files that are missing or altered.
    """
    source = base / "events" / partition
    events = read_manifest(source)
    works = plan(source, events, config)
    kept, todo = split_done(works, reusable_units(publication.directory, publication.previous, config.hash))
    logger.info("%d units: %d done before, %d to do", len(works), len(kept), len(todo))
    new = _run(todo, publication.staging, master)
    units = in_order((*kept, *new))
    manifest = Manifest(
        stage="select",
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        inputs={f"events/{partition}": fingerprint(events)},
        units=units,
        quarantined=events.quarantined,
        notes=tuple(sorted({*events.notes, *gather_notes(units)})),
        code_version=code_version(),
    )
    return manifest, new


def _run(works: Sequence[SelectWork], staging: Path, master: str | None) -> tuple[Unit, ...]:
    if not works:
        return ()
    with spark_session("select", master) as spark:
        return run_units(spark, select_unit, works, staging).units


def plan(directory: Path, events: Manifest, config: SelectionConfig) -> list[SelectWork]:
    """Units of work: one for each unit of an ``events`` manifest.

    Raises:
        InvalidInputError: A unit's sample is none that we know.
    """
    return [_work(directory, unit, config) for unit in events.units]


def _work(directory: Path, unit: Unit, config: SelectionConfig) -> SelectWork:
    sample_of(unit.source)
    (file,) = unit.outputs
    name = unit_name(unit.source, file.checksum, unit.entry_start, config.hash)
    return SelectWork(unit.source, file.checksum, unit.entry_start, unit.entry_stop, name, directory, file, config)


def select_unit(work: SelectWork, path: Path) -> Summary:
    """Select the events of one file and write their features.

    Raises:
        InvalidInputError: The file is not the one that its manifest lists, or holds other events than recorded.
    """
    counts = dict.fromkeys(schema.CUTFLOW, 0)
    weights = dict.fromkeys(schema.CUTFLOW, 0.0)
    mask = work.config.btag_mask[sample_of(work.source)]  # type: ignore[index]
    other_bits = False
    with event_writer(path, SELECTED_SCHEMA) as writer:
        for batch in read_event_batches(verify_file(work.directory, work.file)):
            selected = select_events(batch.events, work.config, btag_mask=mask)
            writer.write_batch(selected_to_arrow(batch, selected))
            for cut, passing in selected.passing.items():
                counts[cut] += int(passing.sum())
                weights[cut] += float(batch.weight[passing].sum(dtype=np.float64))
            other_bits |= _has_other_bits(batch.events, mask)
    if counts["events"] != work.events:
        raise InvalidInputError(
            f"{work.directory / work.file.path}: {counts['events']} events, its manifest says {work.events}; "
            f"delete {work.directory} and run ingest.py again"
        )
    return Summary(counts, weights, (f"Jet.BTag has bits beside the mask {mask} (btag_mask)",) if other_bits else ())


def _has_other_bits(events: Events, mask: int) -> bool:
    bits = int(np.bitwise_or.reduce(events["Jet"].leaves["BTag"], initial=np.uint32(0)))
    return bits & ~mask != 0


def cutflow(manifest: Manifest) -> dict[str, Any]:
    """Content of ``cutflow.json``: events after each cut, and their weights, per sample; and the quarantined files."""
    content: dict[str, Any] = {}
    for sample in schema.SAMPLES:
        units = [unit for unit in manifest.units if sample_of(unit.source) == sample]
        if units:
            content[sample] = {cut: sum(unit.counts[cut] for unit in units) for cut in schema.CUTFLOW}
            content[sample][WEIGHTED] = {cut: math.fsum(unit.weights[cut] for unit in units) for cut in schema.CUTFLOW}
    content["quarantined"] = [bad.model_dump() for bad in manifest.quarantined]
    return content


def write_cutflow(directory: Path, manifest: Manifest) -> None:
    """Write ``cutflow.json`` beside the manifest that it follows from, unless it is there already, and log it."""
    content = cutflow(manifest)
    for sample in schema.SAMPLES:
        if sample in content:
            logger.info("%s: %s", sample, ", ".join(f"{cut} {content[sample][cut]:,}" for cut in schema.CUTFLOW))
    path, text = directory / CUTFLOW_NAME, json.dumps(content, indent=1).encode() + b"\n"
    if not path.is_file() or path.read_bytes() != text:
        replace_file(path, text)
