"""Published datasets (arXiv:1909.10389) as our shards: other files, the same events.

Their records hold 801 particles, zero-padded, scaled, in sequence order; 14 high-level features; and a one-hot label:
no weight, no length, no name, and no scaling to undo. Files are TFRecord, compressed by gzip or not, or Parquet with
arrays of numbers, whatever they are called.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import ImportConfig
from toposieve.errors import InvalidInputError
from toposieve.event_keys import digest64, event_keys, mix
from toposieve.io.dataset_classes import CLASSES
from toposieve.io.datasets import IMPORT_STAGE
from toposieve.io.manifests import Manifest, Unit, adler32
from toposieve.io.names import digest, unit_name
from toposieve.io.publication import Publication
from toposieve.io.shards import ShardBatch, write_unit
from toposieve.io.store import Key
from toposieve.io.units import find_unit
from toposieve.version import code_version

BATCH_EVENTS = 256
_WIDTH = len(schema.LOW_LEVEL_FEATURES)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A published file.

    Attributes:
        name: ``{train or test}/{its name in its folder}``.
        key: Where it lies.
        bytes: Its size.
    """

    name: str
    key: Key
    bytes: int

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that its events go to; validation is cut from what is published for training."""
        return ("train", "validation") if self.name.startswith("train/") else ("test",)


@dataclass(frozen=True)
class Rows:
    """Some consecutive events of a file, as it holds them.

    Attributes:
        high_level: (events, 14).
        particles: Flat, of all events one after the other, (particles * 19,).
        widths: How many numbers of ``particles`` each event has, (events,).
        labels: One-hot, (events, classes).
    """

    high_level: NDArray[np.float32]
    particles: NDArray[np.float32]
    widths: NDArray[np.int64]
    labels: NDArray[np.float32]


def find_sources(train: Key, test: Key) -> list[Source]:
    """The files of two folders, but those that are hidden or marks of Hadoop.

    Raises:
        InvalidInputError: A folder has none.
    """
    sources = []
    for split, folder in (("train", train), ("test", test)):
        found = {name: stat for name, stat in sorted(folder.list().items()) if "/" not in name and name[0] not in "._"}
        if not any(stat.size for stat in found.values()):
            raise InvalidInputError(f"{folder} has no files: give --{split} the folder of the {split} files")
        sources += [Source(f"{split}/{name}", folder / name, stat.size) for name, stat in found.items() if stat.size]
    return sources


def import_files(
    publication: Publication, sources: Sequence[Source], config: ImportConfig, *, adopt: bool = True
) -> tuple[list[Unit], int]:
    """The shards of all files, one for each split that has events: as an earlier run left them, or written now.

    A file is fetched once, and parsed for each of its splits: no file's events need fit into memory.

    Args:
        publication: Of the dataset's folder.
        sources: The files.
        config: Which keys they have, and how validation is cut from them.
        adopt: Take over what an earlier run has finished.

    Returns:
        Units, and how many events of them this run has written.

    Raises:
        InvalidInputError: A file is damaged, lacks a key, or holds what training cannot use.
    """
    reusable = publication.reusable(config.hash, CODE_NUMBERS[IMPORT_STAGE]) if adopt else []
    kept = {unit.outputs[0].path: unit for unit in reusable}
    units: list[Unit] = []
    new = 0
    for number, source in enumerate(sources, 1):
        with source.key.fetch() as path:
            checksum = adler32(path)
            for split in source.splits:
                name = _shard_name(source, checksum, split, config)
                unit = kept.get(name) or (find_unit(publication.folder, name) if adopt else None)
                if unit is None:
                    batches = _batches(path, source, config, split)
                    unit = write_unit(
                        publication.folder,
                        name,
                        batches,
                        config.classes,
                        source=f"{split}/{source.name}",
                        source_bytes=source.bytes,
                        source_checksum=checksum,
                        entry_start=0,
                    )
                    new += unit.counts["events"]
                units += [unit] if unit.counts["events"] else []
        logger.info("%s: file %d of %d, %s events so far", source.key, number, len(sources), f"{_events(units):,}")
    return units, new


def _shard_name(source: Source, checksum: str, split: str, config: ImportConfig) -> str:
    folder = digest(IMPORT_STAGE, CODE_NUMBERS[IMPORT_STAGE], config.hash)
    return f"{folder}/{split}/{unit_name(source.name, checksum, suffix='.tfrecord')}"


def _events(units: Iterable[Unit]) -> int:
    return sum(unit.counts["events"] for unit in units)


def dataset_manifest(units: Sequence[Unit], config: ImportConfig) -> Manifest:
    """The manifest of an imported dataset.

    Raises:
        InvalidInputError: A split has no events.
    """
    splits = {split: [unit for unit in units if unit.source.startswith(f"{split}/")] for split in schema.SPLITS}
    empty = [split for split, found in splits.items() if not found]
    if empty:
        raise InvalidInputError(f"the files hold no events for {', '.join(empty)}: give more, or validation_fraction")
    return Manifest(
        stage=IMPORT_STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[IMPORT_STAGE],
        units=tuple(units),
        extra={
            CLASSES: list(config.classes),
            "splits": {split: {"events": _events(found)} for split, found in splits.items()},
        },
        code_version=code_version(),
    )


def _batches(path: Path, source: Source, config: ImportConfig, split: str) -> Iterator[ShardBatch]:
    """Those of a file's events that belong to a split."""
    start = 0
    for rows in read_rows(path, source.key, config):
        entries = np.arange(start, start + len(rows.labels))
        start += len(entries)
        batch = _checked(rows, f"{source.key}: record %d", entries)
        yield _chosen(batch, source, entries, splits_of(source, entries, config) == split)


def splits_of(source: Source, entries: NDArray[np.int64], config: ImportConfig) -> NDArray[np.str_]:
    """The split of each event: by a hash of seed, file and record."""
    if source.splits == ("test",):
        return np.full(len(entries), "test")
    share = mix(event_keys(source.name, entries) ^ digest64(f"validation {config.seed}")) / 2.0**64
    return np.where(share < config.validation_fraction, "validation", "train")


def _chosen(batch: ShardBatch, source: Source, entries: NDArray[np.int64], chosen: NDArray[np.bool_]) -> ShardBatch:
    lengths = np.diff(batch.offsets)
    return ShardBatch(
        event_ids=[f"{source.name}:{entry}" for entry in entries[chosen].tolist()],
        labels=batch.labels[chosen],
        weights=batch.weights[chosen],
        pileup=batch.pileup[chosen],
        high_level=batch.high_level[chosen],
        offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]),
        particles=batch.particles[np.repeat(chosen, lengths)],
    )


def _checked(rows: Rows, where: str, entries: NDArray[np.int64]) -> ShardBatch:
    """Events without padding; ``where`` names a record, for what is wrong with it."""

    def check(good: NDArray[np.bool_], what: str) -> None:
        if not good.all():
            raise InvalidInputError(f"{where % entries[np.argmin(good)]} {what}: leave its file out, or write it again")

    check(rows.widths % _WIDTH == 0, f"has particles of other than {_WIDTH} numbers")
    stored = rows.widths // _WIDTH
    particles, owners = rows.particles.reshape(-1, _WIDTH), np.repeat(np.arange(len(stored)), stored)
    not_finite = np.bincount(owners[~np.isfinite(particles).all(axis=1)], minlength=len(stored)) > 0
    check(np.isfinite(rows.high_level).all(axis=1) & ~not_finite, "has a number that is not finite")
    one_hot = np.eye(rows.labels.shape[1])[-1]  # sorted
    check((np.sort(rows.labels) == one_hot).all(axis=1), "has a label not one-hot")
    lengths = np.zeros(len(stored), np.int64)
    place = np.arange(len(owners)) - np.repeat(np.cumsum(stored) - stored, stored)  # of a particle in its event
    real = particles.any(axis=1)
    np.maximum.at(lengths, owners[real], place[real] + 1)
    check((lengths > 0) & (lengths <= schema.MAX_PARTICLES), f"has no particles, or more than {schema.MAX_PARTICLES}")
    return ShardBatch(
        event_ids=[],
        labels=rows.labels.argmax(axis=1),
        weights=np.ones(len(stored), np.float32),
        pileup=np.full(len(stored), schema.NO_PILEUP, np.int32),
        high_level=rows.high_level,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        particles=particles[place < lengths[owners]],
    )


# --- the two kinds of files --------------------------------------------------------------------------------------


def read_rows(path: Path, where: Key, config: ImportConfig) -> Iterator[Rows]:
    """Read a file of either kind.

    Args:
        path: It, on this machine.
        where: What it is called in messages.
        config: Its keys.

    Raises:
        InvalidInputError: It is damaged, or lacks a key; the message names those that it has.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"PAR1":
        return _read_parquet(path, where, config)
    return _read_records(path, where, config, "GZIP" if magic[:2] == b"\x1f\x8b" else "")


def _read_parquet(path: Path, where: Key, config: ImportConfig) -> Iterator[Rows]:
    try:
        file = pq.ParquetFile(path)
        _check_keys(where, config.keys, file.schema_arrow.names)
        for batch in file.iter_batches(BATCH_EVENTS, columns=list(config.keys)):
            high_level, particles, labels = (_numbers(batch.column(key), key, where) for key in config.keys)
            yield Rows(
                _of_width(where, config.high_level_key, high_level, len(schema.HIGH_LEVEL_FEATURES)),
                *particles,
                _of_width(where, config.label_key, labels, len(config.classes)),
            )
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInputError(f"{where} cannot be read ({error}): write it again") from None


Numbers = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Numbers of all rows, one after the other, and how many each row has."""


def _numbers(column: pa.Array, key: str, where: Key) -> Numbers:
    """Numbers of a column of lists, of lists of lists, and so on."""
    ends = np.arange(len(column) + 1)
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        offsets = column.offsets.to_numpy()
        column, ends = column.flatten(), offsets[ends] - offsets[0]
    if column.null_count or not pa.types.is_floating(column.type):
        raise InvalidInputError(f"{where}: {key} holds {column.type}, or nulls; it must hold arrays of numbers")
    return column.to_numpy().astype(np.float32), np.diff(ends)


def _of_width(where: Key, key: str, numbers: Numbers, width: int) -> NDArray[np.float32]:
    if (numbers[1] != width).any():
        raise InvalidInputError(f"{where}: {key} has rows that do not hold {width} numbers")
    return numbers[0].reshape(-1, width)


def _read_records(path: Path, where: Key, config: ImportConfig, compression: str) -> Iterator[Rows]:
    import tensorflow as tf

    features = {
        config.high_level_key: tf.io.FixedLenFeature((len(schema.HIGH_LEVEL_FEATURES),), tf.float32),
        config.particles_key: tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
        config.label_key: tf.io.FixedLenFeature((len(config.classes),), tf.float32),
    }
    records = tf.data.TFRecordDataset(str(path), compression_type=compression)
    try:
        for first in records.take(1):
            _check_keys(where, config.keys, tf.train.Example.FromString(first.numpy()).features.feature)
        for serialized in records.batch(BATCH_EVENTS):
            parsed = tf.io.parse_example(serialized, features)
            high_level, particles, labels = (parsed[key] for key in config.keys)
            widths = particles.row_lengths().numpy()
            yield Rows(high_level.numpy(), particles.flat_values.numpy(), widths, labels.numpy())
    except tf.errors.OpError as error:
        raise InvalidInputError(f"{where} cannot be read ({error.message}): write it again") from None


def _check_keys(where: Key, wanted: tuple[str, ...], there: Any) -> None:
    missing = [key for key in wanted if key not in there]
    if missing:
        raise InvalidInputError(
            f"{where} has no {', '.join(missing)}, but {', '.join(sorted(there))}: set high_level_key, particles_key "
            "and label_key"
        )
