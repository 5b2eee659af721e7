"""The TFRecord shards of a dataset: which there are, and where their records begin. No TensorFlow here."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import tfrecord
from toposieve.io.datasets import SCALING_SOURCE
from toposieve.io.event_tables import TABLE_SUFFIX, read_offsets
from toposieve.io.manifests import Manifest, OutputFile, Unit, check_listed, read_manifest_if_any
from toposieve.io.names import is_ours
from toposieve.io.store import Key, Stat
from toposieve.preprocessing import Scaling
from toposieve.training.order import Order
from toposieve.training.runs import dataset_fingerprint
from toposieve.weights import signed_factor

TRAINING_SPLITS = ("train", "validation")
ADLER_DIGITS = 8


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    key: Key
    events: int
    bytes: int
    table: Key | None = None
    """The table beside it; None in a dataset of an older version, or of others."""
    table_checksum: str = ""
    offsets: NDArray[np.int64] | None = field(default=None, compare=False, repr=False)
    """Of its records, and of its end, where they are known already: (events + 1,)."""


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order."""

    name: str
    shards: tuple[Shard, ...]

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


def open_dataset(directory: Key) -> Dataset:
    """Find the training and validation shards of a dataset: by its manifest, or in file order when it has none.

    Raises:
        InvalidInputError: There is no dataset, or an unfinished one; a split is missing or empty, or a shard is missing
            or of another size than the manifest says.
    """
    entries = directory.list()
    manifest = read_manifest_if_any(directory)
    if manifest is None:
        _check_foreign(directory, entries)
        found = {name: _foreign_shards(directory / name, entries) for name in TRAINING_SPLITS}
    else:
        found = {name: listed_shards(directory, manifest, name, entries) for name in TRAINING_SPLITS}
    train, validation = (_checked_split(directory, name, shards) for name, shards in found.items())
    known = dataset_fingerprint(manifest, entries), train, validation
    return Dataset(directory, *known, signed_factors(manifest), read_scaling(directory, manifest))


def read_scaling(directory: Key, manifest: Manifest | None) -> Scaling | None:
    """How a dataset's features were scaled; None where no manifest says.

    Raises:
        InvalidInputError: The file is missing or altered.
    """
    units = manifest.units if manifest else ()
    files = [file for unit in units if unit.source == SCALING_SOURCE for file in unit.outputs]
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


def signed_factors(manifest: Manifest | None) -> list[float]:
    """For each label, :func:`~toposieve.weights.signed_factor` of its training events; 1 where no manifest says."""
    shares = manifest.extra.get("negative_share", {}) if manifest else {}
    return [signed_factor(shares.get(sample, {}).get("train", 0.0)) for sample in schema.SAMPLES]


def _check_foreign(directory: Key, entries: Mapping[str, Stat]) -> None:
    if not entries:
        raise InvalidInputError(f"{directory} does not exist: run prepare_features.py first, or check --dataset")
    if any(is_ours(f"{name.partition('/')[0]}/") for name in entries):  # what preparation makes before a manifest
        raise InvalidInputError(f"{directory} is unfinished: run prepare_features.py again")


def listed_shards(directory: Key, manifest: Manifest, split: str, entries: Mapping[str, Stat]) -> tuple[Shard, ...]:
    """Shards of a split, as a manifest lists them; their content is checked by whoever reads them.

    Args:
        directory: The dataset.
        manifest: Its manifest.
        split: Name of the split.
        entries: A listing of the dataset; it may be old.

    Raises:
        InvalidInputError: A shard is missing or has another size.
    """
    return tuple(
        _listed_shard(directory, unit, entries) for unit in manifest.units if unit.source.partition("/")[0] == split
    )


def _listed_shard(directory: Key, unit: Unit, entries: Mapping[str, Stat]) -> Shard:
    [file] = (file for file in unit.outputs if file.path.endswith(".tfrecord"))
    shard = Shard(_checked(directory, file, entries), unit.counts["events"], file.bytes)
    for table in (file for file in unit.outputs if file.path.endswith(TABLE_SUFFIX)):
        return replace(shard, table=_checked(directory, table, entries), table_checksum=table.checksum)
    return shard


def _checked(directory: Key, file: OutputFile, entries: Mapping[str, Stat]) -> Key:
    if file.path in entries and entries[file.path].size == file.bytes:
        return directory / file.path
    return check_listed(directory, file)


def _foreign_shards(folder: Key, entries: Mapping[str, Stat]) -> tuple[Shard, ...]:
    below = {path.partition("/")[2]: stat for path, stat in entries.items() if path.startswith(f"{folder.name}/")}
    if not below:
        raise InvalidInputError(f"{folder} is missing: a dataset holds TFRecord files in train/ and validation/")
    names = sorted(
        name for name in below if "/" not in name and not name.startswith(("_", ".")) and below[name].size >= 0
    )
    return tuple(_foreign_shard(folder / name) for name in names)


def _foreign_shard(key: Key) -> Shard:
    offsets = _walk(key)
    return Shard(key, len(offsets) - 1, int(offsets[-1]), offsets=offsets)


def _walk(shard: Key) -> NDArray[np.int64]:
    with shard.fetch() as path:
        return tfrecord.record_offsets(path)


def _checked_split(directory: Key, name: str, shards: tuple[Shard, ...]) -> Split:
    split = Split(name, shards)
    if split.events == 0:
        raise InvalidInputError(f"{directory} has no events in its {name} split: prepare it from more events")
    return split


def record_offsets(shard: Shard) -> NDArray[np.int64]:
    """Where each record of a shard begins, and where the shard ends, bytes: (events + 1,).

    Raises:
        InvalidInputError: The table beside it, or, where there is none, the shard is missing or damaged, or holds
            another number of events.
    """
    if shard.offsets is not None:
        return shard.offsets
    if shard.table is not None:
        return np.append(read_offsets(shard.table, shard.events), shard.bytes)
    offsets = _walk(shard.key)
    if len(offsets) != shard.events + 1:
        raise InvalidInputError(
            f"{shard.key} holds {len(offsets) - 1} events, not the {shard.events} that its manifest lists: "
            "prepare the dataset again"
        )
    return offsets
