"""What ``score.py`` may be asked to decide on: selected events, a dataset's, or raw ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from toposieve import schema
from toposieve.config import SelectionConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.io.dataset_classes import classes_of
from toposieve.io.datasets import SCALING_SOURCE
from toposieve.io.manifests import Manifest, Unit, read_manifest
from toposieve.io.raw import find_files
from toposieve.io.stages import Options
from toposieve.io.store import Key
from toposieve.preprocessing import Scaling
from toposieve.registry import Version
from toposieve.serving.stored_events import DatasetEvents, Events, SelectedEvents
from toposieve.spark.decisions import Decided, Decider, decide, decide_raw, unit_names
from toposieve.spark.ingestion import look_into
from toposieve.todo import Works, decide_raw_work, decide_work

if TYPE_CHECKING:
    from toposieve.io.publication import Publication
    from toposieve.spark.session import SparkOnDemand

logger = logging.getLogger(__name__)


class Inputs(Protocol):
    """Events to decide on."""

    @property
    def name(self) -> str:
        """Of their folder, relative to the base."""
        ...

    @property
    def where(self) -> str:
        """They are, for the log."""
        ...

    def work(self, publication: Publication, *, recompute: bool) -> Works:
        """What there is to do, where so much is published."""
        ...

    def decide(self, publication: Publication, spark: SparkOnDemand, options: Options) -> tuple[Manifest, Decided]:
        """The manifest of what is decided on, and what became of its units.

        Raises:
            InvalidInputError: A file is gone, damaged or bad, or a score is not finite.
        """
        ...


@dataclass(frozen=True)
class ListedInputs:
    """Events of files that a manifest lists."""

    name: str
    where: str
    manifest: Manifest
    units: Mapping[str, Unit]
    """File that each of them becomes → the unit."""
    origin: Callable[[Unit], Events]
    """Where the events of one are."""
    decider: Decider

    def work(self, publication: Publication, *, recompute: bool) -> Works:
        """Units that are not decided on."""
        return decide_work(self.units, publication, self.decider.config, recompute=recompute)

    def decide(self, publication: Publication, spark: SparkOnDemand, options: Options) -> tuple[Manifest, Decided]:
        """As the protocol has it."""
        made = decide(self.units, self.origin, publication, self.decider, spark, options)
        return self.manifest, made


def selected_inputs(base: Key, partition: str, version: Version, decider: Decider) -> Inputs:
    """The selected events of a partition.

    Args:
        base: Where all data lives.
        partition: Its name.
        version: Of the registry, as whose cuts others are not.
        decider: The same, ready to decide.

    Raises:
        InvalidInputError: The partition is not selected.
    """
    folder = base / "selected" / partition
    manifest = read_manifest(folder)
    _compare_selections(version.configuration.get("selection"), manifest.config)

    def origin(unit: Unit) -> SelectedEvents:
        return SelectedEvents(folder / unit.outputs[0].path, unit)

    names = unit_names(manifest.units, decider)
    return ListedInputs(folder.relative_to(base), str(folder), manifest, names, origin, decider)


def _compare_selections(trained: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> None:
    """Say which cuts are others than those of the model's events: a variation, or a mistake."""
    if trained is None or given is None:  # an imported dataset: nobody knows
        return
    others = sorted(key for key in {*trained, *given} if trained.get(key) != given.get(key))
    for key in others:
        logger.warning("selected with %s = %s, but the model's events with %s", key, given.get(key), trained.get(key))


def dataset_inputs(
    base: Key, folder: Key, manifest: Manifest, scaling: Scaling | None, version: Version, decider: Decider
) -> Inputs:
    """The events of all splits of a dataset.

    Args:
        base: Where all data lives.
        folder: The dataset's.
        manifest: The dataset's.
        scaling: As it says; None for an imported one.
        version: As of :func:`selected_inputs`.
        decider: The same, ready to decide.
    """
    name, classes = folder.relative_to(base), classes_of(manifest)
    _compare_selections(version.configuration.get("selection"), manifest.extra.get("selection"))
    if scaling is None and name not in version.lineage:
        logger.warning("the model is of another dataset than %s: right only if both were scaled alike", folder)

    def origin(unit: Unit) -> DatasetEvents:
        return DatasetEvents(folder, unit, classes, scaling)

    names = unit_names([unit for unit in manifest.units if unit.source != SCALING_SOURCE], decider)
    return ListedInputs(name, str(folder), manifest, names, origin, decider)


@dataclass(frozen=True)
class RawInputs:
    """Events of a partition's ROOT files."""

    raw: Key
    ingested: Key
    """Where ingest remembers what it found in them, if it was there."""
    partition: str
    selection: SelectionConfig
    """By which they are selected."""
    decider: Decider

    @property
    def name(self) -> str:
        """Of no one folder: samples have their own."""
        return f"raw/{self.partition}"

    @property
    def where(self) -> str:
        """As ingest says it."""
        return f"{self.raw}/{{sample}}/{self.partition}"

    def work(self, publication: Publication, *, recompute: bool) -> Works:
        """Files that are not decided on."""
        files = find_files(self.raw, schema.SAMPLES, self.partition)
        return decide_raw_work(self.raw, files, self.ingested, publication, self.decider.config, recompute=recompute)

    def decide(self, publication: Publication, spark: SparkOnDemand, options: Options) -> tuple[Manifest, Decided]:
        """As the protocol has it."""
        found = look_into(self.raw, self.partition, publication.folder, self.ingested, spark, options)
        made = decide_raw(found, publication, self.decider, self.selection, spark, options)
        return found.manifest, made


def raw_inputs(base: Key, raw: Key, partition: str, version: Version, decider: Decider) -> Inputs:
    """The events of a partition's ROOT files that pass the cuts of a version's own events.

    Args:
        base: Where all data lives.
        raw: The folder of all raw files.
        partition: Its name.
        version: As of :func:`selected_inputs`.
        decider: The same, ready to decide.

    Raises:
        InvalidInputError: It is of an imported dataset, of which nobody knows the cuts.
    """
    known = version.configuration.get("selection")
    if known is None:
        raise InvalidInputError(f"version {decider.version} does not say how its events were selected: take another")
    selection = load_config(SelectionConfig, json.dumps(known))
    return RawInputs(raw, base / "events" / partition, partition, selection, decider)
