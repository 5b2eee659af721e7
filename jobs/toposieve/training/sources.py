"""What batches are made of: records, or, where no particles are wanted, tables held in memory."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.event_tables import read_table
from toposieve.io.tfrecord import Example
from toposieve.models import HIGH_LEVEL
from toposieve.training.cache import Cache
from toposieve.training.order import NOBODY, Numbers
from toposieve.training.records import EVENT_ID, BadRecordError, Batch, RecordReader
from toposieve.training.shards import Shard, Split
from toposieve.training.split_records import SplitRecords

BATCHES_AHEAD = 2
"""Batches that are parsed before they are asked for."""

MEMORY_BYTES = 2 * 10**9
"""Tables above this lie in a scratch file mapped to memory: what of it is not in use need not be there."""

ROW = np.dtype(
    [
        (HIGH_LEVEL, np.float32, (len(schema.HIGH_LEVEL_FEATURES),)),
        ("label", np.int64),
        ("weight", np.float32),
        ("present", np.float32),
    ]
)

_Item = TypeVar("_Item")


class Source(Protocol):
    """Events of a split, by their numbers in it."""

    spec: dict[str, tf.TensorSpec]
    """Shapes and types of a batch, but for its rows: (None, …)."""

    def batches(self, blocks: Iterator[Numbers]) -> Iterator[Batch]:
        """One batch for each row of each block, (batches, rows), :data:`NOBODY` an event that counts for nothing.

        What is read at a time is a block.

        Raises:
            InvalidInputError: A file is missing or damaged, or a record is not what its reader expects.
            UnavailableError: A store cannot be reached.
        """
        ...


def open_source(split: Split, inputs: tuple[str, ...], cache: Cache, device: str | None = None) -> Source:
    """The cheapest source that has what is wanted; both give the same batches.

    Args:
        split: The events.
        inputs: Roles that the model takes; ``event_id`` too, by whoever wants it.
        cache: What reads records.
        device: Where batches of records are copied to before they are asked for; None leaves them as arrays. Those of
            tables stay arrays: they are small, and several steps take theirs together.

    Raises:
        InvalidInputError: A table is missing or damaged.
    """
    if {HIGH_LEVEL, EVENT_ID}.issuperset(inputs):
        return _Tables(split, EVENT_ID in inputs)
    return _Records(split, inputs, cache, device)


class _Records:
    """Reads the records of the batches asked for, and parses them."""

    def __init__(self, split: Split, inputs: tuple[str, ...], cache: Cache, device: str | None) -> None:
        self._device = device
        self._records = SplitRecords(split, cache)
        self._reader = RecordReader(inputs, len(split.classes))
        self.spec = _spec(self._reader.read([b""]))

    def batches(self, blocks: Iterator[Numbers]) -> Iterator[Batch]:
        read = ((numbers, self._records.read(numbers[numbers != NOBODY])) for numbers in blocks)
        # A thread more costs more than it saves where nothing has to be waited for.
        early = _ahead(read, 1) if self._records.is_remote else read
        batches = (batch for each in early for batch in self._parsed(*each))
        return _ahead((_placed(batch, self._device) for batch in batches), BATCHES_AHEAD)

    def _parsed(self, numbers: Numbers, records: Iterable[Example]) -> Iterator[Batch]:
        left = iter(records)
        for batch in numbers.tolist():
            examples = [b"" if number == NOBODY else next(left) for number in batch]
            try:
                yield self._reader.read(examples)
            except BadRecordError as error:
                where = self._records.where(batch[error.place])
                raise InvalidInputError(f"{where} holds bad values ({error}): write it again") from None


class _Tables:
    """All rows of the tables beside the shards, and an empty one at the end."""

    def __init__(self, split: Split, has_event_ids: bool) -> None:
        self._rows = _zeros(split.events + 1)
        self._event_ids = np.full(len(self._rows) if has_event_ids else 0, b"", object)
        ends = np.cumsum([0, *(shard.events for shard in split.shards)]).tolist()
        for shard, (start, stop) in zip(split.shards, pairwise(ends), strict=True):
            _fill(shard, self._rows[start:stop], self._event_ids[start:stop] if has_event_ids else None)
            _check_labels(shard, self._rows["label"][start:stop], len(split.classes))
        self.spec = _spec(next(self.batches(iter([np.full((1, 1), NOBODY)]))))

    def batches(self, blocks: Iterator[Numbers]) -> Iterator[Batch]:
        for numbers in blocks:
            rows = self._rows[numbers]  # (batches, rows); NOBODY is the last
            columns = {name: np.ascontiguousarray(rows[name]) for name in ROW.names or ()}
            if len(self._event_ids):
                columns[EVENT_ID] = self._event_ids[numbers]
            for place in range(len(numbers)):
                yield {name: column[place] for name, column in columns.items()}


def _spec(batch: Batch) -> dict[str, tf.TensorSpec]:
    types = {name: tf.string if column.dtype == object else column.dtype for name, column in batch.items()}
    return {name: tf.TensorSpec((None, *column.shape[1:]), types[name]) for name, column in batch.items()}


def _zeros(rows: int) -> NDArray[np.void]:
    if rows * ROW.itemsize <= MEMORY_BYTES:
        return np.zeros(rows, ROW)
    with tempfile.TemporaryFile(prefix="toposieve-") as scratch:
        return np.memmap(scratch, ROW, shape=(rows,))


def _ahead(items: Iterator[_Item], count: int) -> Iterator[_Item]:
    """The same items, some made in a thread before they are asked for."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="input")
    waiting = deque(pool.submit(next, items, None) for _ in range(count))
    try:
        while (item := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, items, None))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def _placed(batch: Batch, device: str | None) -> Batch:
    if device is None:
        return batch
    with tf.device(device):
        return {name: tf.identity(column) for name, column in batch.items()}


def _fill(shard: Shard, rows: NDArray[np.void], event_ids: NDArray[np.object_] | None) -> None:
    table = read_table(shard.table, shard.events, shard.table_checksum)
    for place, name in enumerate(schema.HIGH_LEVEL_FEATURES):
        rows[HIGH_LEVEL][:, place] = table[name]
    rows["label"], rows["weight"], rows["present"] = table["label"], table["weight"], 1.0
    if event_ids is not None:
        event_ids[:] = table["event_id"].cast("binary").to_pylist()


def _check_labels(shard: Shard, labels: NDArray[np.int64], classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise InvalidInputError(f"{shard.table}: row {wrong[0]} holds bad values (label out of range): write it again")
