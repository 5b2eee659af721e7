"""The TFRecord shards of a dataset: which there are, which stream each belongs to, and whether they are whole.

The shards of a split form a fixed number of streams (shard i belongs to stream i modulo streams). Every global batch
takes equally many events from each stream, and a worker owns a contiguous range of streams, so that the batches do not
depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Manifest, OutputFile, read_manifest_if_any, verify_file
from toposieve.io.tfrecord import record_count
from toposieve.training.runs import dataset_fingerprint

TRAINING_SPLITS = ("train", "validation")
FOREIGN_STREAMS = 8
"""Most streams of a dataset that has no manifest to say."""


@dataclass(frozen=True)
class Shard:
    """One TFRecord file."""

    path: Path
    events: int
    file: OutputFile | None
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

    def steps(self, batch_size: int) -> int:
        """Global batches in one pass: as many as the longest stream needs."""
        quota = batch_size // self.streams
        longest = max(sum(shard.events for shard in self.stream(index)) for index in range(self.streams))
        return -(-longest // quota)


@dataclass(frozen=True)
class Dataset:
    """What training reads of a dataset directory."""

    directory: Path
    fingerprint: str
    """Of its content, as it was when it was opened."""
    train: Split
    validation: Split

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


def open_dataset(directory: Path) -> Dataset:
    """Find the training and validation shards of a dataset: by its manifest, or in file order when it has none.

    Raises:
        InvalidInputError: A split is missing or empty, or a shard is missing or of another size than the manifest says.
    """
    if not directory.is_dir():
        raise InvalidInputError(f"{directory} does not exist: run prepare_features.py first, or check --dataset")
    manifest = read_manifest_if_any(directory)
    splits = _foreign_splits(directory) if manifest is None else _listed_splits(directory, manifest)
    return Dataset(directory, dataset_fingerprint(directory, manifest), *splits)


def _listed_splits(directory: Path, manifest: Manifest) -> list[Split]:
    streams = manifest.extra.get("streams")
    if not isinstance(streams, int) or streams < 1:
        raise InvalidInputError(f"{directory}: its manifest names no number of streams; it is not a dataset's")
    splits = []
    for name in TRAINING_SPLITS:
        shards = tuple(
            Shard(_check_size(directory, file), unit.counts["events"], file)
            for unit in manifest.units
            if unit.source.partition("/")[0] == name
            for file in unit.outputs
            if file.path.endswith(".tfrecord")
        )
        splits.append(_checked_split(directory, name, shards, streams))
    return splits


def _check_size(directory: Path, file: OutputFile) -> Path:
    """A size is checked by every worker; the checksum, which reads the file, only by the one that owns the shard."""
    path = directory / file.path
    if not path.is_file() or path.stat().st_size != file.bytes:
        verify_file(directory, file)
    return path


def _foreign_splits(directory: Path) -> list[Split]:
    found = {name: _foreign_shards(directory / name) for name in TRAINING_SPLITS}
    fewest = min(len(shards) for shards in found.values())
    streams = next((n for n in (FOREIGN_STREAMS, 4, 2) if n <= fewest), 1)
    return [_checked_split(directory, name, shards, streams) for name, shards in found.items()]


def _foreign_shards(directory: Path) -> tuple[Shard, ...]:
    if not directory.is_dir():
        raise InvalidInputError(f"{directory} is missing: a dataset holds TFRecord files in train/ and validation/")
    files = [path for path in sorted(directory.iterdir()) if path.is_file() and not path.name.startswith(("_", "."))]
    return tuple(Shard(path, record_count(path), None) for path in files)


def _checked_split(directory: Path, name: str, shards: tuple[Shard, ...], streams: int) -> Split:
    split = Split(name, shards, streams)
    if split.events == 0:
        raise InvalidInputError(f"{directory} has no events in its {name} split: prepare it from more events")
    return split


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


def _check_enough(directory: Path, split: Split, share: Share) -> None:
    for worker in range(share.workers):
        owned = Share(share.batch_size, share.streams, worker, share.workers).owned
        if not any(shard.events for index in owned for shard in split.stream(index)):
            raise InvalidInputError(
                f"{directory} is too small for {share.workers} workers: its {split.name} split has "
                f"{split.events} events in {len(split.shards)} shards, none for worker {worker}; "
                "use fewer workers or more events"
            )


def verify_shards(dataset: Dataset, owned: range) -> None:
    """Compare the shards of some streams with the checksums of the manifest.

    Raises:
        InvalidInputError: A shard is missing or altered.
    """
    for split in (dataset.train, dataset.validation):
        for index in owned:
            for shard in split.stream(index):
                if shard.file is not None:
                    verify_file(dataset.directory, shard.file)
