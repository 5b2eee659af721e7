"""The events of a shard of a dataset, read back one part after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import tfrecord
from toposieve.io.event_tables import OFFSET, TABLE_SUFFIX, features_of, read_table
from toposieve.io.manifests import Unit, check_listed
from toposieve.io.parquet import pileup_to_numpy
from toposieve.io.shards import ShardBatch
from toposieve.io.store import Key

BATCH_EVENTS = 512
"""Read at a time."""

Particles = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Offsets, (events + 1,), and particles, (particles, 19)."""

_NONE: Particles = np.zeros(1, np.int64), np.empty((0, len(schema.LOW_LEVEL_FEATURES)), np.float32)


def read_shard(folder: Key, unit: Unit, *, particles: bool = True) -> Iterator[ShardBatch]:
    """The events of a shard, some at a time: what :func:`~toposieve.io.shards.write_unit` was given.

    Args:
        folder: The dataset's.
        unit: Of its manifest.
        particles: Whether they are wanted; if not, there are none, and only the table is read.

    Raises:
        InvalidInputError: A file is missing or altered, or a record is damaged; the message names it.
    """
    shard, table = (next(f for f in unit.outputs if f.path.endswith(each)) for each in (".tfrecord", TABLE_SUFFIX))
    rows = read_table(folder / table.path, unit.counts["events"], table.checksum)
    ends = [*rows[OFFSET].to_pylist(), shard.bytes]
    with ExitStack() as stack:
        key = check_listed(folder, shard)
        stream = stack.enter_context(stack.enter_context(key.fetch()).open("rb")) if particles else None
        for start in range(0, len(rows), BATCH_EVENTS):
            part = rows.slice(start, BATCH_EVENTS)
            where = f"{key}: record %d"
            found = _read_particles(stream, ends[start : start + len(part) + 1], start, where) if stream else _NONE
            yield _batch_of(part, found)


def _read_particles(stream: BinaryIO, ends: Sequence[int], start: int, where: str) -> Particles:
    """Those of consecutive records, which begin and end at ``ends``; ``where`` names a record, ``start`` the first."""
    keys = {schema.RECORD_KEYS["particles"].encode(): "particles"}
    found = []
    for number, (begin, end) in enumerate(pairwise(ends), start):
        stream.seek(begin)
        record = tfrecord.record_of(stream.read(end - begin))
        if record is None:
            raise InvalidInputError(f"{where % number} is damaged: write the dataset again")
        flat = np.asarray(tfrecord.decode_example(record, keys)["particles"], np.float32)
        found.append(flat.reshape(-1, len(schema.LOW_LEVEL_FEATURES)))
    return np.cumsum([0, *map(len, found)]), np.concatenate(found)


def _batch_of(rows: pa.Table, found: Particles) -> ShardBatch:
    return ShardBatch(
        event_ids=rows["event_id"].to_pylist(),
        labels=rows["label"].to_numpy(),
        weights=rows["weight"].to_numpy(),
        pileup=pileup_to_numpy(rows[schema.PILEUP_COLUMN].combine_chunks()),
        high_level=features_of(rows),
        offsets=found[0],
        particles=found[1],
    )
