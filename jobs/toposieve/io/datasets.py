"""What a dataset is made from, and the manifest that says what it holds."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toposieve import schema
from toposieve.config import PreparationConfig, StageConfig
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import manifests
from toposieve.preprocessing import SplitSizes
from toposieve.version import code_version

SCALING_NAME = "scaling.json"
SCALING_SOURCE = "scaling"
"""``source`` of the manifest unit that lists ``scaling.json``; every other unit is a shard, ``{split}/{number}``."""

STAGE = "prepare"

logger = logging.getLogger(__name__)

Cutflow = dict[str, dict[str, Any]]
"""Sample → step → events (or their summed weight), from raw events to splits."""


class DatasetConfig(StageConfig):
    """What decides a dataset besides its inputs' content: other values are another dataset."""

    preparation: PreparationConfig
    partitions: tuple[str, ...]


def name_digits(inputs: SelectedInputs, config: DatasetConfig) -> str:
    """Digits that name a dataset's shards: other inputs or values, other names.

    So a run that is killed while it replaces a dataset leaves every shard that the old manifest lists as it was.
    """
    identity = json.dumps([config.hash, inputs.fingerprints], sort_keys=True)
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True)
class SelectedUnit:
    """A unit of the selection, as a task needs it.

    Attributes:
        directory: Folder of its partition, ``{base}/selected/{partition}``.
        unit: Its entry in that folder's manifest.
    """

    directory: Path
    unit: manifests.Unit

    @property
    def sample(self) -> str:
        """The sample it belongs to: the first component of its file id."""
        return self.unit.source.split("/", 1)[0]

    @property
    def path(self) -> Path:
        """Its Parquet file."""
        return self.directory / self.unit.outputs[0].path


@dataclass(frozen=True)
class SelectedInputs:
    """Selected partitions that make one dataset.

    Attributes:
        base: Folder under which all data lives.
        manifests: Partition → manifest of its selection.
    """

    base: Path
    manifests: Mapping[str, manifests.Manifest]

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """``selected/{partition}`` → fingerprint of its manifest."""
        return {f"selected/{name}": manifests.fingerprint(manifest) for name, manifest in self.manifests.items()}

    @property
    def units(self) -> list[SelectedUnit]:
        """Every unit, in order of file id and entries: the same whatever the order of partitions."""
        units = [
            SelectedUnit(self.base / "selected" / partition, unit)
            for partition, manifest in self.manifests.items()
            for unit in manifest.units
        ]
        return sorted(units, key=lambda each: (each.unit.source, each.unit.entry_start))

    @property
    def selection(self) -> dict[str, Any]:
        """The configuration that all partitions were selected with."""
        return next(iter(self.manifests.values())).config

    def cutflow(self) -> Cutflow:
        """Events of each sample after each cut of the selection."""
        return self._per_sample(lambda unit, cut: unit.counts.get(cut, 0), sum)

    def weighted_cutflow(self) -> Cutflow:
        """Summed weights of the same events."""
        return self._per_sample(lambda unit, cut: unit.weights.get(cut, 0.0), math.fsum)

    def _per_sample(self, value: Any, add: Any) -> Cutflow:
        units = self.units
        return {
            sample: {
                cut: add(value(each.unit, cut) for each in units if each.sample == sample) for cut in schema.CUTFLOW
            }
            for sample in schema.SAMPLES
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


def read_inputs(base: Path, partitions: Iterable[str]) -> SelectedInputs:
    """Read the manifests of selected partitions, and check that they fit together.

    Raises:
        InvalidInputError: A partition is not selected, or is older than its events; partitions differ in their
            selection; a file belongs to no known sample. The message names the partitions.
    """
    names = sorted(set(partitions))
    folders = {name: base / "selected" / name for name in names}
    found = {name: manifests.read_manifest_if_any(folder) for name, folder in folders.items()}
    missing = [name for name, manifest in found.items() if manifest is None]
    if missing:
        raise InvalidInputError(
            f"not selected under {base / 'selected'}: {', '.join(missing)}; run select_events.py for each of them first"
        )
    inputs = SelectedInputs(base, {name: manifest for name, manifest in found.items() if manifest is not None})
    _check_current(inputs)
    _check_same_selection(inputs)
    _check_samples(inputs)
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
    by_config: dict[str, list[str]] = {}
    for partition, manifest in inputs.manifests.items():
        by_config.setdefault(manifest.config_hash, []).append(partition)
    if len(by_config) > 1:
        groups = "; ".join(f"{', '.join(names)} ({config_hash})" for config_hash, names in by_config.items())
        raise InvalidInputError(
            f"partitions were selected with different configurations: {groups}; "
            "run select_events.py --replace with one configuration for all"
        )


def _check_samples(inputs: SelectedInputs) -> None:
    unknown = sorted({unit.unit.source for unit in inputs.units if unit.sample not in schema.LABELS})
    if unknown:
        raise InvalidInputError(
            f"{unknown[0]}: unknown sample ({len(unknown)} such files); "
            f"a file id starts with one of {', '.join(schema.SAMPLES)}"
        )


def _fingerprint(directory: Path) -> str | None:
    manifest = manifests.read_manifest_if_any(directory)
    return manifests.fingerprint(manifest) if manifest else None


@dataclass(frozen=True)
class DatasetContent:
    """What preparation made of its inputs.

    Attributes:
        shards: One manifest unit per shard, in order.
        scaling: ``scaling.json``.
        sizes: Events per split and sample.
        weights: Sample → ``balanced`` and every split → summed event weight.
    """

    shards: Sequence[manifests.Unit]
    scaling: manifests.OutputFile
    sizes: SplitSizes
    weights: Cutflow


def dataset_manifest(inputs: SelectedInputs, config: DatasetConfig, content: DatasetContent) -> manifests.Manifest:
    """The manifest of a dataset: shards, and the cutflow from raw events to splits."""
    scaling = manifests.Unit(
        source=SCALING_SOURCE, source_checksum="", entry_start=0, entry_stop=0, counts={}, outputs=(content.scaling,)
    )
    return manifests.Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        inputs=inputs.fingerprints,
        units=(*content.shards, scaling),
        notes=tuple(sorted({note for manifest in inputs.manifests.values() for note in manifest.notes})),
        extra={
            "streams": config.preparation.streams,
            "splits": {split: {"events": sum(counts.values()), **counts} for split, counts in content.sizes.items()},
            "cutflow": _extended(inputs.cutflow(), _kept_counts(content.sizes)),
            "weighted_cutflow": _extended(inputs.weighted_cutflow(), content.weights),
            "selection": inputs.selection,
            "quarantined": [bad.model_dump() for manifest in inputs.manifests.values() for bad in manifest.quarantined],
        },
        code_version=code_version(),
    )


def _kept_counts(sizes: SplitSizes) -> Cutflow:
    counts = {sample: {split: sizes[split][sample] for split in schema.SPLITS} for sample in schema.SAMPLES}
    return {sample: {"balanced": sum(splits.values()), **splits} for sample, splits in counts.items()}


def _extended(first: Cutflow, second: Cutflow) -> Cutflow:
    return {sample: {**first[sample], **second[sample]} for sample in schema.SAMPLES}


def is_complete(
    directory: Path, previous: manifests.Manifest | None, inputs: SelectedInputs, config: DatasetConfig
) -> bool:
    """Whether a dataset is there already, whole, and made of these inputs; if not, the log says why."""
    if previous is None:
        return False
    changed = sorted(name for name, known in inputs.fingerprints.items() if previous.inputs.get(name) != known)
    if previous.config_hash == config.hash and changed:
        logger.info("%s changed since %s was made: making it again", ", ".join(changed), directory)
        return False
    return len(manifests.reusable_units(directory, previous, config.hash)) == len(previous.units)
