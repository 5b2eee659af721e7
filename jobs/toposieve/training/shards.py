"""The TFRecord shards of a dataset: which there are, and where their records begin. No TensorFlow here."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve.errors import InvalidInputError
from toposieve.io.dataset_classes import classes_of
from toposieve.io.datasets import SCALING_SOURCE
from toposieve.io.event_tables import TABLE_SUFFIX, read_offsets
from toposieve.io.manifests import Manifest, OutputFile, Unit, check_listed, fingerprint, read_manifest_if_any
from toposieve.io.names import is_ours
from toposieve.io.store import Key, Stat
from toposieve.preprocessing import Scaling
from toposieve.training.order import Order
from toposieve.weights import signed_factor

TRAINING_SPLITS = ("train", "validation")
ADLER_DIGITS = 8


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    key: Key
    events: int
    bytes: int
    table: Key
    """The table beside it."""
    table_checksum: str


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order."""

    name: str
    shards: tuple[Shard, ...]
    classes: tuple[str, ...]
    """Of the dataset, in the order of their labels."""

    @property
    def events(self) -> int:
        """Events in all shards."""
        return sum(shard.events for shard in self.shards)

    def order(self, *seed: int) -> Order:
        """The order of one pass: that of a seed, or of the shards."""
        return Order([shard.events for shard in self.shards], seed or None)

    def steps(self, batch_size: int) -> int:
        """Global batches in one pass."""
        return self.order().steps(batch_size)


@dataclass(frozen=True)
class Dataset:
    """What training reads of a dataset directory."""

    directory: Key
    fingerprint: str
    """Of its content, as it was when it was opened."""
    train: Split
    validation: Split
    signed_factors: Sequence[float]
    """For each label, the factor of its signed weights."""
    scaling: Scaling | None = None
    """How its features were scaled; None where no manifest says."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of their labels."""
        return self.train.classes


def open_dataset(directory: Key) -> Dataset:
    """Find the training and validation shards that a dataset's manifest lists.

    Raises:
        InvalidInputError: There is no dataset, or an unfinished one; a split is missing or empty, or a shard is missing
            or of another size than the manifest says.
    """
    entries = directory.list()
    manifest = read_manifest_if_any(directory)
    if manifest is None:
        raise InvalidInputError(f"{directory} {_why_none(entries)}")
    train, validation = (open_split(directory, manifest, name, entries) for name in TRAINING_SPLITS)
    scaling = read_scaling(directory, manifest)
    return Dataset(directory, fingerprint(manifest), train, validation, signed_factors(manifest), scaling)


def _why_none(entries: Mapping[str, Stat]) -> str:
    if not entries:
        return "does not exist: run prepare_features.py first, or check --dataset"
    if any(is_ours(f"{name.partition('/')[0]}/") for name in entries):  # what preparation makes before a manifest
        return "is unfinished: run prepare_features.py again"
    return "has no manifest: make a dataset of its files with import_dataset.py"


def read_scaling(directory: Key, manifest: Manifest) -> Scaling | None:
    """How a dataset's features were scaled; None where no manifest says.

    Raises:
        InvalidInputError: The file is missing or altered.
    """
    files = [file for unit in manifest.units if unit.source == SCALING_SOURCE for file in unit.outputs]
    return Scaling.from_json(read_listed(directory, files[0])) if files else None


def read_listed(directory: Key, file: OutputFile) -> str:
    """A small text that a manifest lists.

    Raises:
        InvalidInputError: It is missing or altered.
    """
    key = check_listed(directory, file)
    content = key.read_bytes()
    if len(file.checksum) == ADLER_DIGITS and f"{zlib.adler32(content):08x}" != file.checksum:
        raise InvalidInputError(f"{key} is altered: remove it, and run the stage that writes {directory} again")
    return content.decode()


def signed_factors(manifest: Manifest) -> list[float]:
    """For each label, :func:`~toposieve.weights.signed_factor` of its training events; 1 where nothing is said."""
    shares = manifest.extra.get("negative_share", {})
    return [signed_factor(shares.get(name, {}).get("train", 0.0)) for name in classes_of(manifest)]


def open_split(directory: Key, manifest: Manifest, name: str, entries: Mapping[str, Stat]) -> Split:
    """A split, as a manifest lists its shards; their content is checked by whoever reads them.

    Args:
        directory: The dataset.
        manifest: Its manifest.
        name: Of the split.
        entries: A listing of the dataset; it may be old.

    Raises:
        InvalidInputError: A shard is missing or has another size, or there are no events.
    """
    of_split = (unit for unit in manifest.units if unit.source.partition("/")[0] == name)
    split = Split(name, tuple(_listed_shard(directory, unit, entries) for unit in of_split), classes_of(manifest))
    if split.events == 0:
        raise InvalidInputError(f"{directory} has no events in its {name} split: prepare it from more events")
    return split


def _listed_shard(directory: Key, unit: Unit, entries: Mapping[str, Stat]) -> Shard:
    [shard] = (file for file in unit.outputs if file.path.endswith(".tfrecord"))
    table = next((file for file in unit.outputs if file.path.endswith(TABLE_SUFFIX)), None)
    if table is None:
        raise InvalidInputError(f"{directory} was prepared by an older version: run prepare_features.py again")
    key, table_key = (_checked(directory, file, entries) for file in (shard, table))
    return Shard(key, unit.counts["events"], shard.bytes, table_key, table.checksum)


def _checked(directory: Key, file: OutputFile, entries: Mapping[str, Stat]) -> Key:
    if file.path in entries and entries[file.path].size == file.bytes:
        return directory / file.path
    return check_listed(directory, file)


def record_offsets(shard: Shard) -> NDArray[np.int64]:
    """Where each record of a shard begins, and where the shard ends, bytes: (events + 1,).

    Raises:
        InvalidInputError: The table beside it is missing or damaged.
    """
    return np.append(read_offsets(shard.table, shard.events), shard.bytes)
