"""Decide: what a version of the registry says of events; one file for each file, or range of entries, of theirs.

plan (:func:`unit_names`) → run (:func:`decide_unit` on Spark) → publish (:func:`decisions_manifest`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import DecisionConfig, SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.decisions import NOT_SELECTED, decisions_schema, decisions_to_arrow, events_of, passes_column
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import BadFile, Manifest, OutputFile, Unit, fingerprint, gather_notes, in_order
from toposieve.io.names import unit_name
from toposieve.io.parquet import event_writer
from toposieve.io.raw import Ingested
from toposieve.io.stages import Options, warn_of_quarantined
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.serving.exports import read_export
from toposieve.serving.scorer import Scorer
from toposieve.serving.stored_events import Events, Scored, SelectedEvents
from toposieve.spark.run import run_on_spark
from toposieve.spark.selection import SelectItem, make_of_events, write_selected
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
    config: DecisionConfig
    """How it decides."""
    file: OutputFile
    """Its portable form, by which it is known."""
    scaled: bool = False
    """Whether events come as an imported dataset has them, not in physical units."""

    @classmethod
    def find(cls, folder: Key, version: int, config: DecisionConfig, *, scaled: bool = False) -> Decider:
        """That of a version, after a look at whether it can be used.

        Args:
            folder: The registry's folder of its name.
            version: Its number.
            config: How it decides.
            scaled: As of the class.

        Raises:
            InvalidInputError: It has no portable form or no such working point, or takes other features.
        """
        found = cls(folder, version, config, read_export(folder, version).file, scaled)
        found.scorer()
        return found

    def scorer(self) -> Scorer:
        """It, ready to decide; loaded once in a process."""
        return _load(self)


@lru_cache(maxsize=1)
def _load(decider: Decider) -> Scorer:
    return Scorer.load(decider.folder, decider.version, decider.config.target, scaled=decider.scaled)


@dataclass(frozen=True)
class DecideItem:
    """The events of one unit."""

    source: Unit
    """Its record in the manifest of what is decided on."""
    origin: Events | SelectItem
    """Where they are; of raw events, what the selection would be told."""
    folder: Key
    """Where the decisions go."""
    name: str
    """Of their file; it follows from everything that decides its content."""
    decider: Decider
    adopt: bool = True

    @property
    def events(self) -> int:
        """Events to read."""
        return events_of(self.source)


# --- plan --------------------------------------------------------------------------------------------------------


def unit_names(units: Iterable[Unit], decider: Decider) -> dict[str, Unit]:
    """File name of what each unit becomes, of selected events or of a dataset."""
    listed = ((unit, unit.outputs[0]) for unit in units)
    return {_unit_name(unit, (file.path, file.checksum), decider): unit for unit, file in listed}


def raw_unit_names(units: Iterable[Unit], decider: Decider, selection: SelectionConfig) -> dict[str, Unit]:
    """The same of units of ROOT files."""
    of = CODE_NUMBERS["select"], selection.hash
    return {_unit_name(unit, (*of, *unit.input, unit.entry_start, unit.entry_stop), decider): unit for unit in units}


def _unit_name(unit: Unit, content: Iterable[str | int], decider: Decider) -> str:
    of_decider = decider.file.path, decider.version, decider.config.hash
    return unit_name(unit.source, STAGE, CODE_NUMBERS[STAGE], *content, *of_decider)


# --- run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What the units have become, now or by an earlier run."""

    units: tuple[Unit, ...]
    new_events: int
    quarantined: tuple[BadFile, ...] = ()
    """Files that turned out bad when they were read."""


def decide(
    names: Mapping[str, Unit],
    origin: Callable[[Unit], Events],
    publication: Publication,
    decider: Decider,
    spark: SparkOnDemand,
    options: Options,
) -> Decided:
    """Decide on selected events, or those of a dataset; publishing is left to the caller.

    Args:
        names: As :func:`unit_names` gives them.
        origin: Where the events of a unit are.
        publication: Where to; units of its previous manifest are kept if still good.
        decider: The model.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is gone or damaged, or a score is not finite.
    """
    known = kept_units(publication, decider.config.hash, CODE_NUMBERS[STAGE], spark, options)
    kept = {unit.outputs[0].path: unit for unit in known if unit.outputs[0].path in names}
    todo = {name: unit for name, unit in names.items() if name not in kept}
    logger.info("%d units: %d done before, %d to do", len(names), len(kept), len(todo))
    items = [
        DecideItem(unit, origin(unit), publication.folder, name, decider, not options.recompute)
        for name, unit in todo.items()
    ]
    new: Sequence[Finished] = ()
    if items:
        new = list(run_on_spark(spark(), decide_unit, items, name="deciding").results.values())
    new_events = sum(finished.unit.counts["events"] for finished in new if not finished.adopted)
    return Decided(in_order([*kept.values(), *(finished.unit for finished in new)]), new_events)


def decide_raw(
    ingested: Ingested,
    publication: Publication,
    decider: Decider,
    selection: SelectionConfig,
    spark: SparkOnDemand,
    options: Options,
) -> Decided:
    """Decide on those events of ROOT files that the selection keeps; publishing is left to the caller.

    Args:
        ingested: The files.
        publication: Where to; units of its previous manifest are kept if still good.
        decider: The model.
        selection: The model's cuts.
        spark: Started only if there is something to do.
        options: What the command line wants.

    Raises:
        InvalidInputError: A file is bad and may not be quarantined, or every one is bad; or a score is not finite.
    """

    def item(name: str, unit: Unit, origin: SourceFile | Key) -> DecideItem:
        select = SelectItem(unit, origin, publication.folder, name, selection)
        return DecideItem(unit, select, publication.folder, name, decider, not options.recompute)

    names = raw_unit_names(ingested.manifest.units, decider, selection)
    kept = kept_units(publication, decider.config.hash, CODE_NUMBERS[STAGE], spark, options)
    made = make_of_events(ingested, publication, names, kept, item, decide_unit, spark, options)
    return Decided(made.units, made.new_events, made.quarantined)


def decide_unit(item: DecideItem) -> Finished:
    """Decide on the events of one unit, unless an earlier run did.

    Raises:
        InvalidInputError: The file is missing, damaged or bad, or a score is not finite.
    """
    return adopt_or_make(item.folder, item.name, partial(_write, item), adopt=item.adopt)


def _write(item: DecideItem, path: Path) -> Unit:
    if not isinstance(item.origin, SelectItem):
        return _write_decisions(item, item.origin, path)
    # By the selected file, which is there for that long: the same events in the same order get the same bits.
    with TemporaryDirectory(prefix="toposieve-") as scratch:
        selected = Path(scratch) / item.name
        unit = write_selected(item.origin, selected)
        made = _write_decisions(item, SelectedEvents(Key(str(selected)), unit), path)
    dropped = {NOT_SELECTED: item.events - made.counts["events"]}
    return made.model_copy(update={"counts": made.counts | dropped, "notes": unit.notes})


def _write_decisions(item: DecideItem, origin: Events, path: Path) -> Unit:
    source, scorer = item.source, item.decider.scorer()
    events, passing = 0, np.zeros(len(scorer.classes), np.int64)
    with event_writer(path, decisions_schema(scorer.classes)) as writer:
        for scored in origin.scored(scorer):
            _check_finite(scored, scorer)
            passes = scorer.accepted(scored.logits)
            writer.write_batch(decisions_to_arrow(*scored, passes, scorer.classes))
            events, passing = events + len(passes), passing + passes.sum(axis=0)
    counts = {"events": events, **dict(zip(map(passes_column, scorer.classes), passing.tolist(), strict=True))}
    return Unit(
        source=source.source,
        source_bytes=source.source_bytes,
        source_checksum=source.source_checksum,
        entry_start=source.entry_start,
        entry_stop=source.entry_stop,
        counts=counts,
        outputs=(),
    )


def _check_finite(scored: Scored, scorer: Scorer) -> None:
    bad = np.flatnonzero(~np.isfinite(scored.logits).all(axis=1))
    if len(bad):
        raise InvalidInputError(
            f"version {scorer.version} gives a score that is not finite to {scored.event_ids[bad[0]]}: publish another"
        )


# --- publish -----------------------------------------------------------------------------------------------------


def decisions_manifest(name: str, upstream: Manifest, decided: Decided, decider: Decider) -> Manifest:
    """The manifest to publish.

    Args:
        name: What was decided on: a folder of selected events or a dataset, relative to the base; or raw/{partition}.
        upstream: The manifest there.
        decided: What became of its units.
        decider: The model.
    """
    warn_of_quarantined(decided.quarantined)
    scorer = decider.scorer()
    model = {"name": decider.folder.name, "version": decider.version, "target": scorer.target}
    return Manifest(
        stage=STAGE,
        config_hash=decider.config.hash,
        config=decider.config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs={name: fingerprint(upstream)},
        units=decided.units,
        quarantined=tuple(sorted((*upstream.quarantined, *decided.quarantined), key=lambda bad: bad.source)),
        notes=tuple(sorted({*upstream.notes, *gather_notes(decided.units)})),
        extra={"model": {**model, "classes": list(scorer.classes), "file": decider.file.model_dump()}},
        code_version=code_version(),
    )


def log_passing(manifest: Manifest, classes: Sequence[str]) -> None:
    """Log how many events of each sample, or split of a dataset, pass as each class, and how many no model saw."""
    totals: dict[str, Counter[str]] = {}
    for unit in manifest.units:
        totals.setdefault(unit.source.partition("/")[0], Counter()).update(unit.counts)
    for name, counts in totals.items():
        passing = ", ".join(f"{counts[passes_column(each)]:,} as {each}" for each in classes)
        dropped = f"; {counts[NOT_SELECTED]:,} were not selected: no decision" if NOT_SELECTED in counts else ""
        logger.info("%s: of %s events pass %s%s", name, f"{counts['events']:,}", passing, dropped)
