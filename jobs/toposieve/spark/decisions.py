"""Decide: what a version of the registry says of selected events; one file for each file of theirs.

plan (:func:`unit_names`) → run (:func:`decide_unit` on Spark) → publish (:func:`decisions_manifest`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import DecisionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.decisions import NO_LABEL, decisions_schema, decisions_to_arrow, passes_column
from toposieve.io.manifests import Manifest, OutputFile, Unit, fingerprint, in_order
from toposieve.io.names import sample_of, unit_name
from toposieve.io.parquet import event_writer
from toposieve.io.selected import SelectedBatch, open_selected
from toposieve.io.stages import Options
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.serving.exports import read_export
from toposieve.serving.scorer import Scorer
from toposieve.spark.run import run_on_spark
from toposieve.spark.verification import kept_units
from toposieve.version import code_version

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

STAGE = "decide"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decider:
    """A version of the registry that has a portable form, and the working point that decides."""

    folder: Key
    """The registry's folder of its name."""
    version: int
    target: float | None
    file: OutputFile
    """Its portable form, by which it is known."""

    @classmethod
    def find(cls, folder: Key, version: int, config: DecisionConfig) -> Decider:
        """That of a version, after a look at whether it can be used.

        Raises:
            InvalidInputError: It has no portable form or no such working point, or takes other features.
        """
        found = cls(folder, version, config.target, read_export(folder, version).file)
        found.scorer()
        return found

    def scorer(self) -> Scorer:
        """It, ready to decide; loaded once in a process."""
        return _load(self)


@lru_cache(maxsize=1)
def _load(decider: Decider) -> Scorer:
    return Scorer.load(decider.folder, decider.version, decider.target)


@dataclass(frozen=True)
class DecideItem:
    """The selected events of one file."""

    source: Unit
    """Its record in the manifest of selected events."""
    selected: Key
    """The folder of that manifest."""
    folder: Key
    """Where the decisions go."""
    name: str
    """Of their file; it follows from everything that decides its content."""
    decider: Decider
    adopt: bool = True

    @property
    def events(self) -> int:
        """Events to decide on."""
        return self.source.counts[schema.CUTFLOW[-1]]


# --- plan --------------------------------------------------------------------------------------------------------


def unit_names(selected: Manifest, decider: Decider, config: DecisionConfig) -> dict[str, Unit]:
    """File name of what each unit of selected events becomes."""
    return {_unit_name(unit, decider, config): unit for unit in selected.units}


def _unit_name(unit: Unit, decider: Decider, config: DecisionConfig) -> str:
    (file,) = unit.outputs
    return unit_name(
        unit.source,
        STAGE,
        CODE_NUMBERS[STAGE],
        file.path,
        file.checksum,
        decider.file.path,
        decider.version,
        config.hash,
    )


# --- run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What the units have become, now or by an earlier run."""

    units: tuple[Unit, ...]
    new_events: int


def decide(
    names: dict[str, Unit],
    selected: Key,
    publication: Publication,
    decider: Decider,
    config: DecisionConfig,
    spark: SparkOnDemand,
    options: Options,
) -> Decided:
    """Decide on selected events; publishing is left to the caller.

    Args:
        names: As :func:`unit_names` gives them.
        selected: The folder of the selected events.
        publication: Where to; units of its previous manifest are kept if still good.
        decider: The model.
        config: How it decides.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is gone or damaged, or a score is not finite.
    """
    known = kept_units(publication, config.hash, CODE_NUMBERS[STAGE], spark, options)
    kept = {unit.outputs[0].path: unit for unit in known if unit.outputs[0].path in names}
    todo = {name: unit for name, unit in names.items() if name not in kept}
    logger.info("%d units: %d done before, %d to do", len(names), len(kept), len(todo))
    items = [
        DecideItem(unit, selected, publication.folder, name, decider, not options.recompute)
        for name, unit in todo.items()
    ]
    new: Sequence[Finished] = ()
    if items:
        new = list(run_on_spark(spark(), decide_unit, items, name="deciding").results.values())
    new_events = sum(finished.unit.counts["events"] for finished in new if not finished.adopted)
    return Decided(in_order([*kept.values(), *(finished.unit for finished in new)]), new_events)


def decide_unit(item: DecideItem) -> Finished:
    """Decide on the events of one file, unless an earlier run did.

    Raises:
        InvalidInputError: The file is missing or damaged, or a score is not finite.
    """
    return adopt_or_make(item.folder, item.name, partial(_write, item), adopt=item.adopt)


def _write(item: DecideItem, path: Path) -> Unit:
    source, scorer = item.source, item.decider.scorer()
    passing, everything = np.zeros(len(scorer.classes), np.int64), np.arange(item.events)
    with (
        open_selected(item.selected / source.outputs[0].path, source, whole=True) as file,
        event_writer(path, decisions_schema(scorer.classes)) as writer,
    ):
        for batch in file.batches(everything) if item.events else ():
            rows, counts = _decisions(batch, source.source, scorer)
            writer.write_batch(rows)
            passing += counts
    passed = {passes_column(name): int(count) for name, count in zip(scorer.classes, passing, strict=True)}
    return Unit(
        source=source.source,
        source_bytes=source.source_bytes,
        source_checksum=source.source_checksum,
        entry_start=source.entry_start,
        entry_stop=source.entry_stop,
        counts={"events": item.events, **passed},
        outputs=(),
    )


def _decisions(batch: SelectedBatch, file_id: str, scorer: Scorer) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """Rows of the file, and how many events pass as each class."""
    logits = scorer.logits_of_stored(batch.high_level, batch.particle_records(), batch.offsets)
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise InvalidInputError(
            f"version {scorer.version} gives a score that is not finite to entry {batch.entries[bad[0]]} of {file_id}: "
            "publish another"
        )
    passes, sample = scorer.accepted(logits), sample_of(file_id)
    label = scorer.classes.index(sample) if sample in scorer.classes else NO_LABEL
    event_ids = [f"{file_id}:{entry}" for entry in batch.entries.tolist()]
    return decisions_to_arrow(event_ids, label, logits, passes, scorer.classes), passes.sum(axis=0)


# --- publish -----------------------------------------------------------------------------------------------------


def decisions_manifest(
    selected_name: str, selected: Manifest, decided: Decided, decider: Decider, config: DecisionConfig
) -> Manifest:
    """The manifest to publish.

    Args:
        selected_name: The folder of the selected events, relative to the base.
        selected: The manifest there.
        decided: What became of its units.
        decider: The model.
        config: How it decides.
    """
    scorer = decider.scorer()
    model = {"name": decider.folder.name, "version": decider.version, "target": scorer.target}
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs={selected_name: fingerprint(selected)},
        units=decided.units,
        quarantined=selected.quarantined,
        notes=selected.notes,
        extra={"model": {**model, "classes": list(scorer.classes), "file": decider.file.model_dump()}},
        code_version=code_version(),
    )


def log_passing(manifest: Manifest, classes: Sequence[str]) -> None:
    """Log how many events of each sample pass as each class."""
    for sample in schema.SAMPLES:
        units = [unit for unit in manifest.units if sample_of(unit.source) == sample]
        if units:
            counts = {key: sum(unit.counts[key] for unit in units) for key in units[0].counts}
            passing = ", ".join(f"{counts[passes_column(name)]:,} as {name}" for name in classes)
            logger.info("%s: of %s events pass %s", sample, f"{counts['events']:,}", passing)
