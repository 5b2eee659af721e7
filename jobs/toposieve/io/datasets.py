"""What a dataset is made from, and the manifest that says what it holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from toposieve import schema
from toposieve.classes import labels_of
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import PreparationConfig, StageConfig
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import manifests
from toposieve.io.dataset_classes import CLASSES
from toposieve.io.names import digest, sample_of
from toposieve.io.publication import Publication
from toposieve.io.sample_cross_sections import CROSS_SECTIONS, cross_section_notes, sample_cross_section
from toposieve.io.store import Key
from toposieve.preprocessing import SplitSizes
from toposieve.version import code_version
from toposieve.weights import WeightSums

SCALING_NAME = "scaling.json"
SCALING_SOURCE = "scaling"
"""``source`` of the manifest unit that lists ``scaling.json``; every other unit is a shard, ``{split}/{number}``."""

STAGE = "prepare"
IMPORT_STAGE = "import"
"""Of a dataset that others prepared."""

_MOST_NAMED = 3

logger = logging.getLogger(__name__)

Cutflow = dict[str, dict[str, Any]]
"""Sample → step → events (or what their weights come to), from raw events to splits."""

WeightedCutflow = Mapping[str, Mapping[str, WeightSums]]
"""Sample → step → sums of the events' weights."""


class DatasetConfig(StageConfig):
    """What decides a dataset besides its inputs' content: other values are another dataset."""

    preparation: PreparationConfig
    partitions: tuple[str, ...]


def content_folder(inputs: SelectedInputs, config: DatasetConfig) -> str:
    """Folder of a dataset's files below the dataset's own: other inputs, values or code, another folder.

    So a run that is killed while it replaces a dataset leaves every file that the old manifest lists as it was, and
    nobody takes its unfinished shards for a dataset.
    """
    return digest(STAGE, CODE_NUMBERS[STAGE], config.hash, json.dumps(inputs.fingerprints, sort_keys=True))


@dataclass(frozen=True)
class SelectedUnit:
    """A unit of the selection, as a task needs it.

    Attributes:
        folder: Of its partition, ``{base}/selected/{partition}``.
        unit: Its entry in that folder's manifest.
        label: Of its sample, in the dataset that is made.
    """

    folder: Key
    unit: manifests.Unit
    label: int

    @property
    def sample(self) -> str:
        """The sample it belongs to."""
        return sample_of(self.unit.source)

    @property
    def key(self) -> Key:
        """Its Parquet file."""
        return self.folder / self.unit.outputs[0].path

    @property
    def events(self) -> int:
        """Its selected events."""
        return self.unit.counts[schema.CUTFLOW[-1]]


@dataclass(frozen=True)
class SelectedInputs:
    """Selected partitions that make one dataset.

    Attributes:
        base: Where all data lives.
        manifests: Partition → manifest of its selection.
        classes: Samples that the dataset takes, in the order of their labels.
    """

    base: Key
    manifests: Mapping[str, manifests.Manifest]
    classes: tuple[str, ...]

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """``selected/{partition}`` → fingerprint of its manifest."""
        return {f"selected/{name}": manifests.fingerprint(manifest) for name, manifest in self.manifests.items()}

    @property
    def units(self) -> list[SelectedUnit]:
        """Every unit of a class, in order of file id and entries: the same whatever the order of partitions."""
        labels = labels_of(self.classes)
        units = [
            SelectedUnit(self.base / "selected" / partition, unit, labels[sample])
            for partition, manifest in self.manifests.items()
            for unit in manifest.units
            if (sample := sample_of(unit.source)) in labels
        ]
        return sorted(units, key=lambda each: (each.unit.source, each.unit.entry_start))

    @property
    def selection(self) -> dict[str, Any]:
        """The configuration that all partitions were selected with."""
        return next(iter(self.manifests.values())).config

    def cutflow(self) -> Cutflow:
        """Events of each sample after each cut of the selection."""
        return self._per_sample(lambda unit, cut: unit.counts.get(cut, 0), sum)

    def weighted_cutflow(self) -> WeightedCutflow:
        """Sums of the same events' weights."""
        return self._per_sample(manifests.Unit.weight_sums, WeightSums.merge)

    def cross_sections(self) -> dict[str, dict[str, Any] | None]:
        """Cross-section of each sample's selected events, pb, its error, and who says so; None where nobody does."""
        of_sample = {sample: [each.unit for each in self.units if each.sample == sample] for sample in self.classes}
        found = {sample: sample_cross_section(units, schema.CUTFLOW[-1]) for sample, units in of_sample.items()}
        return {
            sample: {"pb": each.pb, "error": each.error, "source": "simulation"} if each else None
            for sample, each in found.items()
        }

    def remarks(self) -> list[str]:
        """What a reader should know of all partitions together."""
        return cross_section_notes(each.unit for each in self.units)

    def _per_sample(self, value: Any, add: Any) -> Cutflow:
        units = self.units
        return {
            sample: {
                cut: add(value(each.unit, cut) for each in units if each.sample == sample) for cut in schema.CUTFLOW
            }
            for sample in self.classes
        }

    def check_unchanged(self) -> None:
        """Check that nobody selected again meanwhile.

        Raises:
            ConflictError: A partition's manifest is another one now.
        """
        changed = [name for name, known in self.fingerprints.items() if _fingerprint(self.base / name) != known]
        if changed:
            raise ConflictError(
                f"{', '.join(changed)} changed under {self.base} meanwhile; run again to use what is there"
            )


def read_inputs(base: Key, partitions: Iterable[str], classes: tuple[str, ...]) -> SelectedInputs:
    """Read the manifests of selected partitions, and check that they fit together.

    Args:
        base: Where all data lives.
        partitions: Their names.
        classes: Samples that the dataset takes, in the order of their labels.

    Raises:
        InvalidInputError: A partition is not selected, or is older than its events; partitions differ in their
            selection; a file belongs to no known sample, or is another's copy. The message names what it is about.
    """
    names = sorted(set(partitions))
    folders = {name: base / "selected" / name for name in names}
    found = {name: manifests.read_manifest_if_any(folder) for name, folder in folders.items()}
    missing = [name for name, manifest in found.items() if manifest is None]
    if missing:
        raise InvalidInputError(
            f"not selected under {base / 'selected'}: {', '.join(missing)}; run select_events.py for each of them first"
        )
    inputs = SelectedInputs(base, {name: manifest for name, manifest in found.items() if manifest is not None}, classes)
    _check_current(inputs)
    _check_same_selection(inputs)
    _check_duplicates(inputs)
    return inputs


def _check_current(inputs: SelectedInputs) -> None:
    stale = [
        partition
        for partition, manifest in inputs.manifests.items()
        for upstream, known in manifest.inputs.items()
        # Events may have been deleted to save space; where they are, the selection must be of these.
        if _fingerprint(inputs.base / upstream) not in (None, known)
    ]
    if stale:
        raise InvalidInputError(
            f"events changed after the selection of {', '.join(stale)}: run select_events.py for each of them again"
        )


def _check_same_selection(inputs: SelectedInputs) -> None:
    by_making: dict[str, list[str]] = {}
    for partition, manifest in inputs.manifests.items():
        by_making.setdefault(f"{manifest.config_hash}, code {manifest.code}", []).append(partition)
    if len(by_making) > 1:
        groups = "; ".join(f"{', '.join(names)} ({making})" for making, names in by_making.items())
        raise InvalidInputError(
            f"partitions were selected with different configurations or code: {groups}; "
            "run select_events.py --replace with one configuration for all"
        )


def _check_duplicates(inputs: SelectedInputs) -> None:
    names: dict[tuple[int, int, str], list[str]] = {}
    for unit in (each.unit for each in inputs.units if each.unit.content):
        names.setdefault((unit.entry_start, unit.entry_stop, unit.content), []).append(unit.source)
    groups = sorted({" = ".join(group) for group in names.values() if len(group) > 1})
    if groups:
        raise InvalidInputError(
            f"the same events under several names: {'; '.join(groups[:_MOST_NAMED])}; remove all but one under raw/ "
            "(where simulated, run simulate.py --replace with another seed for all partitions but one), "
            "then run ingest.py --drop-missing and select_events.py for their partitions"
        )


def _fingerprint(folder: Key) -> str | None:
    manifest = manifests.read_manifest_if_any(folder)
    return manifests.fingerprint(manifest) if manifest else None


@dataclass(frozen=True)
class DatasetContent:
    """What preparation made of its inputs.

    Attributes:
        shards: One manifest unit per shard, in order.
        scaling: ``scaling.json``.
        sizes: Events per split and sample.
        weights: Sample → ``balanced`` and every split → sums of the event weights.
    """

    shards: Sequence[manifests.Unit]
    scaling: manifests.OutputFile
    sizes: SplitSizes
    weights: WeightedCutflow


def dataset_manifest(inputs: SelectedInputs, config: DatasetConfig, content: DatasetContent) -> manifests.Manifest:
    """The manifest of a dataset: shards, and the cutflow from raw events to splits."""
    scaling = manifests.Unit(
        source=SCALING_SOURCE, source_checksum="", entry_start=0, entry_stop=0, counts={}, outputs=(content.scaling,)
    )
    weights = _extended(inputs.weighted_cutflow(), content.weights)
    return manifests.Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs=inputs.fingerprints,
        units=(*content.shards, scaling),
        notes=tuple(sorted({*(note for each in inputs.manifests.values() for note in each.notes), *inputs.remarks()})),
        extra={
            CLASSES: list(inputs.classes),
            "splits": {split: {"events": sum(counts.values()), **counts} for split, counts in content.sizes.items()},
            "cutflow": _extended(inputs.cutflow(), _kept_counts(content.sizes)),
            "weighted_cutflow": _each(weights, "total"),
            "negative_share": _each(weights, "negative_share"),
            "effective_events": _each(weights, "effective_events"),
            CROSS_SECTIONS: inputs.cross_sections(),
            "selection": inputs.selection,
            "quarantined": [bad.model_dump() for manifest in inputs.manifests.values() for bad in manifest.quarantined],
        },
        code_version=code_version(),
    )


def _kept_counts(sizes: SplitSizes) -> Cutflow:
    counts = {sample: {split: sizes[split][sample] for split in schema.SPLITS} for sample in sizes[schema.SPLITS[0]]}
    return {sample: {"balanced": sum(splits.values()), **splits} for sample, splits in counts.items()}


def _extended(first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]) -> Cutflow:
    return {sample: {**of_first, **second[sample]} for sample, of_first in first.items()}


def _each(weights: WeightedCutflow, name: str) -> Cutflow:
    return {sample: {step: getattr(sums, name) for step, sums in steps.items()} for sample, steps in weights.items()}


def is_complete(publication: Publication, kept: Sequence[manifests.Unit], inputs: SelectedInputs) -> bool:
    """Whether a dataset is there already, whole, and made of these inputs; if not, the log says why.

    Args:
        publication: The dataset's.
        kept: Those of its units that are of the wanted configuration, and whole.
        inputs: What it is to be made of.
    """
    previous = publication.previous
    if previous is None:
        return False
    changed = sorted(name for name, known in inputs.fingerprints.items() if previous.inputs.get(name) != known)
    if kept and changed:
        logger.info("%s changed since %s was made: making it again", ", ".join(changed), publication.folder)
        return False
    return len(kept) == len(previous.units)
