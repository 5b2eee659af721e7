"""Select: from ``events`` files to ``selected`` files, one to one.

plan (:func:`plan`) → run (:func:`select_unit` on Spark) → publish (:func:`selected_manifest`, :func:`write_cutflow`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Manifest, Unit, fingerprint, gather_notes, in_order, weight_fields
from toposieve.io.names import sample_of, unit_name
from toposieve.io.parquet import read_event_batches, selected_to_arrow
from toposieve.io.selected import write_ordered
from toposieve.io.stages import Options
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.physics.events import Events
from toposieve.physics.selection import select_events
from toposieve.spark.run import run_on_spark
from toposieve.spark.verification import kept_units
from toposieve.version import code_version
from toposieve.weights import WeightSums

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

STAGE = "select"
CUTFLOW_NAME = "cutflow.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SelectItem:
    """One ``events`` file."""

    events_folder: Key
    source: Unit
    """Its entry in the manifest there."""
    folder: Key
    """Where the selected events go."""
    name: str
    """Of the file that it becomes; it follows from everything that decides its content."""
    config: SelectionConfig
    adopt: bool = True

    @property
    def events(self) -> int:
        """Events to read."""
        return self.source.entry_stop - self.source.entry_start

    @property
    def key(self) -> Key:
        """The file."""
        return self.events_folder / self.source.outputs[0].path


# --- plan --------------------------------------------------------------------------------------------------------


def plan(
    events_folder: Key, events: Manifest, folder: Key, config: SelectionConfig, *, adopt: bool = True
) -> list[SelectItem]:
    """Units of work: one for each unit of an ``events`` manifest.

    Raises:
        InvalidInputError: A unit's sample is none that we know.
    """
    for unit in events.units:
        sample_of(unit.source)
    return [SelectItem(events_folder, unit, folder, _unit_name(unit, config), config, adopt) for unit in events.units]


def _unit_name(source: Unit, config: SelectionConfig) -> str:
    # The name of the events' file follows from all that decides its content.
    file = source.outputs[0]
    return unit_name(source.source, STAGE, CODE_NUMBERS[STAGE], file.path, file.bytes, config.hash)


# --- run ---------------------------------------------------------------------------------------------------------


def select_partition(
    items: Sequence[SelectItem],
    publication: Publication,
    config: SelectionConfig,
    spark: SparkOnDemand,
    options: Options,
) -> tuple[tuple[Unit, ...], int]:
    """Select the events of a partition; publishing is left to the caller.

    Args:
        items: From :func:`plan`.
        publication: Where to; units of its previous manifest are kept if still good.
        config: Cuts.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Returns:
        Every unit, and the number of events of those that this run has made.

    Raises:
        InvalidInputError: A file of events is missing, damaged, or holds other events than its manifest says.
    """
    units = kept_units(publication, config.hash, CODE_NUMBERS[STAGE], spark, options)
    kept = {unit.outputs[0].path: unit for unit in units}
    todo = [item for item in items if item.name not in kept]
    logger.info("%d units: %d done before, %d to do", len(items), len(items) - len(todo), len(todo))
    results = run_on_spark(spark(), select_unit, todo, name="selecting").results if todo else {}
    new: Iterable[Finished] = results.values()
    old = (kept[item.name] for item in items if item.name in kept)
    new_events = sum(finished.unit.counts["events"] for finished in new if not finished.adopted)
    return in_order((*old, *(finished.unit for finished in new))), new_events


def select_unit(item: SelectItem) -> Finished:
    """Select the events of one file and write their features, unless an earlier run did.

    Raises:
        InvalidInputError: The file is missing or damaged, or holds other events than its manifest says.
    """
    return adopt_or_make(item.folder, item.name, partial(_write_selected, item), adopt=item.adopt)


def _write_selected(item: SelectItem, path: Path) -> Unit:
    counts = dict.fromkeys(schema.CUTFLOW, 0)
    weights: dict[str, list[float]] = {cut: [] for cut in schema.CUTFLOW}
    mask = item.config.btag_mask[sample_of(item.source.source)]  # type: ignore[index]
    other_bits = False

    def passed() -> Iterator[pa.RecordBatch]:
        nonlocal other_bits
        for batch in read_event_batches(item.key):
            selected = select_events(batch.events, item.config, btag_mask=mask)
            yield selected_to_arrow(batch, selected)
            for cut, passing in selected.passing.items():
                counts[cut] += int(passing.sum())
                weights[cut] += batch.weight[passing].tolist()
            other_bits |= _has_other_bits(batch.events, mask)

    write_ordered(path, item.source.source, passed())
    if counts["events"] != item.events:
        raise InvalidInputError(
            f"{item.key}: {counts['events']} events, its manifest says {item.events}; run ingest.py --recompute"
        )
    file = item.source.outputs[0]
    return Unit(
        source=item.source.source,
        source_bytes=file.bytes,
        source_checksum=file.checksum,
        entry_start=item.source.entry_start,
        entry_stop=item.source.entry_stop,
        counts=counts,
        **weight_fields({cut: WeightSums.of(each) for cut, each in weights.items()}),
        notes=(f"Jet.BTag has bits beside the mask {mask} (btag_mask)",) if other_bits else (),
        outputs=(),
    )


def _has_other_bits(events: Events, mask: int) -> bool:
    bits = int(np.bitwise_or.reduce(events["Jet"].leaves["BTag"], initial=np.uint32(0)))
    return bits & ~mask != 0


# --- publish -----------------------------------------------------------------------------------------------------


def selected_manifest(events_name: str, events: Manifest, units: tuple[Unit, ...], config: SelectionConfig) -> Manifest:
    """The manifest to publish.

    Args:
        events_name: Folder of the events, relative to the base.
        events: Their manifest.
        units: What became of its units.
        config: Cuts.
    """
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs={events_name: fingerprint(events)},
        units=units,
        quarantined=events.quarantined,
        notes=tuple(sorted({*events.notes, *gather_notes(units)})),
        code_version=code_version(),
    )


def cutflow(manifest: Manifest) -> dict[str, Any]:
    """Content of ``cutflow.json``: per sample, the events after each cut and their weights; the quarantined files."""
    content: dict[str, Any] = {}
    for sample in schema.SAMPLES:
        units = [unit for unit in manifest.units if sample_of(unit.source) == sample]
        if units:
            content[sample] = {cut: sum(unit.counts[cut] for unit in units) for cut in schema.CUTFLOW}
            sums = {cut: WeightSums.merge(unit.weight_sums(cut) for unit in units) for cut in schema.CUTFLOW}
            content[sample]["weighted"] = {cut: each.total for cut, each in sums.items()}
            content[sample]["negative_share"] = {cut: each.negative_share for cut, each in sums.items()}
            content[sample]["effective_events"] = {cut: each.effective_events for cut, each in sums.items()}
    content["quarantined"] = [bad.model_dump() for bad in manifest.quarantined]
    return content


def write_cutflow(folder: Key, manifest: Manifest) -> None:
    """Write ``cutflow.json`` beside the manifest that it follows from, unless it is there already, and log it."""
    content = cutflow(manifest)
    for sample in schema.SAMPLES:
        if sample in content:
            logger.info("%s: %s", sample, ", ".join(f"{cut} {content[sample][cut]:,}" for cut in schema.CUTFLOW))
    key, text = folder / CUTFLOW_NAME, json.dumps(content, indent=1) + "\n"
    if key.stat() is None or key.read_text() != text:
        key.write_text(text)
