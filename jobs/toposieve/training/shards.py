"""The TFRecord shards of a dataset: which there are, and which stream each belongs to.

The shards of a split form a fixed number of streams (shard i belongs to stream i modulo streams). Every global batch
takes equally many events from each stream, and a worker owns a contiguous range of streams, so that the batches do not
depend on the number of workers.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.datasets import SCALING_SOURCE
from toposieve.io.manifests import Manifest, OutputFile, adler32, check_listed, read_manifest_if_any
from toposieve.io.names import is_ours
from toposieve.io.store import Key, Stat
from toposieve.io.tfrecord import record_count
from toposieve.preprocessing import Scaling
from toposieve.training.runs import dataset_fingerprint
from toposieve.weights import signed_factor

TRAINING_SPLITS = ("train", "validation")
ADLER_DIGITS = 8
FOREIGN_STREAMS = 8
"""Most streams of a dataset that has no manifest to say."""


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    key: Key
    events: int
    bytes: int
    file: OutputFile | None = None
    """Its entry in the manifest; None in a dataset without one."""


@dataclass(frozen=True)
class Split:
    """The shards of one split, in order."""

    name: str
    shards: tuple[Shard, ...]
    streams: int

    @property
    def events(self) -> int:
        """Events in all shards."""
        return sum(shard.events for shard in self.shards)

    def stream(self, index: int) -> tuple[Shard, ...]:
        """Shards of one stream, in order."""
        return self.shards[index :: self.streams]

    def owned_by(self, share: Share) -> list[Shard]:
        """Shards of a worker's streams, in order."""
        return [shard for number, shard in enumerate(self.shards) if number % self.streams in share.owned]

    def steps(self, batch_size: int) -> int:
        """Global batches in one pass: as many as the longest stream needs."""
        quota = batch_size // self.streams
        longest = max(sum(shard.events for shard in self.stream(index)) for index in range(self.streams))
        return -(-longest // quota)


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
    def streams(self) -> int:
        """Streams of each split."""
        return self.train.streams


@dataclass(frozen=True)
class Share:
    """One worker's part of every global batch."""

    batch_size: int
    """Events in a global batch."""
    streams: int
    worker: int = 0
    workers: int = 1

    @property
    def quota(self) -> int:
        """Events that each stream gives to a batch."""
        return self.batch_size // self.streams

    @property
    def owned(self) -> range:
        """The worker's streams."""
        per_worker = self.streams // self.workers
        return range(self.worker * per_worker, (self.worker + 1) * per_worker)

    @property
    def rows(self) -> range:
        """The worker's rows of a global batch."""
        return range(self.owned.start * self.quota, self.owned.stop * self.quota)


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
        train, validation = _foreign_splits(directory, entries)
    else:
        train, validation = _listed_splits(directory, manifest, entries)
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


def _listed_splits(directory: Key, manifest: Manifest, entries: Mapping[str, Stat]) -> list[Split]:
    streams = manifest.extra.get("streams")
    if not isinstance(streams, int) or streams < 1:
        raise InvalidInputError(f"{directory}: its manifest names no number of streams; it is not a dataset's")
    return [
        _checked_split(directory, name, listed_shards(directory, manifest, name, entries), streams)
        for name in TRAINING_SPLITS
    ]


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
        Shard(_checked(directory, file, entries), unit.counts["events"], file.bytes, file)
        for unit in manifest.units
        if unit.source.partition("/")[0] == split
        for file in unit.outputs
        if file.path.endswith(".tfrecord")
    )


def _checked(directory: Key, file: OutputFile, entries: Mapping[str, Stat]) -> Key:
    if file.path in entries and entries[file.path].size == file.bytes:
        return directory / file.path
    return check_listed(directory, file)


def _foreign_splits(directory: Key, entries: Mapping[str, Stat]) -> list[Split]:
    found = {name: _foreign_shards(directory / name, entries) for name in TRAINING_SPLITS}
    fewest = min(len(shards) for shards in found.values())
    streams = next((n for n in (FOREIGN_STREAMS, 4, 2) if n <= fewest), 1)
    return [_checked_split(directory, name, shards, streams) for name, shards in found.items()]


def _foreign_shards(folder: Key, entries: Mapping[str, Stat]) -> tuple[Shard, ...]:
    below = {path.partition("/")[2]: stat for path, stat in entries.items() if path.startswith(f"{folder.name}/")}
    if not below:
        raise InvalidInputError(f"{folder} is missing: a dataset holds TFRecord files in train/ and validation/")
    names = sorted(
        name for name in below if "/" not in name and not name.startswith(("_", ".")) and below[name].size >= 0
    )
    return tuple(Shard(folder / name, _count(folder / name), below[name].size) for name in names)


def _count(shard: Key) -> int:
    with shard.fetch() as path:
        return record_count(path)


def _checked_split(directory: Key, name: str, shards: tuple[Shard, ...], streams: int) -> Split:
    split = Split(name, shards, streams)
    if split.events == 0:
        raise InvalidInputError(f"{directory} has no events in its {name} split: prepare it from more events")
    return split


def is_altered(path: Path, file: OutputFile | None) -> bool:
    """Whether a local file's content is not what a manifest says; older manifests have checksums of another kind."""
    return file is not None and len(file.checksum) == ADLER_DIGITS and adler32(path) != file.checksum


def check_share(dataset: Dataset, batch_size: int, workers: int) -> None:
    """Check that batches divide into streams, streams into workers, and that every worker has something to do.

    Raises:
        InvalidInputError: They do not; the message names the key or number to change.
    """
    streams = dataset.streams
    if batch_size % streams:
        raise InvalidInputError(
            f"batch_size {batch_size} is not a multiple of the {streams} streams of {dataset.directory}"
        )
    if streams % workers:
        raise InvalidInputError(
            f"{workers} workers cannot share {streams} streams evenly: use a number of workers that divides {streams}"
        )
    for split in (dataset.train, dataset.validation):
        _check_enough(dataset.directory, split, Share(batch_size, streams, workers=workers))


def _check_enough(directory: Key, split: Split, share: Share) -> None:
    for worker in range(share.workers):
        owned = Share(share.batch_size, share.streams, worker, share.workers).owned
        if not any(shard.events for index in owned for shard in split.stream(index)):
            raise InvalidInputError(
                f"{directory} is too small for {share.workers} workers: its {split.name} split has "
                f"{split.events} events in {len(split.shards)} shards, none for worker {worker}; "
                "use fewer workers or more events"
            )
