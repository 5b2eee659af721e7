"""Which records make up each global batch: arithmetic on their numbers, from seed and epoch alone.

A split's records are numbered in the order of its shards. Chunks of consecutive records come in an order over the whole
split; windows of some chunks are mixed record by record; a global batch is the next records. So the batches depend on
nothing but the split, the seed and the epoch, and the place of any of them is known without those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from toposieve.event_keys import digest64, mix

CHUNK_RECORDS = 32
WINDOW_CHUNKS = 64
NOBODY = -1
"""In place of a record's number, in a row without one."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """One worker's part of every global batch."""

    batch_size: int
    """Events in a global batch."""
    worker: int = 0
    workers: int = 1

    @property
    def rows(self) -> range:
        """The worker's rows of a global batch: as many for every worker, those beyond the batch without a record."""
        each = -(-self.batch_size // self.workers)
        return range(self.worker * each, (self.worker + 1) * each)


@dataclass(frozen=True)
class Order:
    """The order of one pass over a split.

    Args:
        sizes: Records of each shard.
        seed: What the order follows from, such as seed and epoch; None keeps the records in order.
    """

    sizes: Sequence[int]
    seed: tuple[int, ...] | None = None

    @property
    def records(self) -> int:
        """Records of the split."""
        return sum(self.sizes)

    def steps(self, batch_size: int) -> int:
        """Global batches in the pass; the last one may be smaller."""
        return -(-self.records // batch_size)

    @cached_property
    def _chunks(self) -> tuple[Numbers, Numbers]:
        """First record of each chunk, and the one after its last, in the order of the pass: (chunks,) each."""
        ends = np.cumsum(self.sizes, dtype=np.int64)  # of the shards
        counts = -(-np.asarray(self.sizes, np.int64) // CHUNK_RECORDS)
        place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # of a chunk in its shard
        first = np.repeat(ends - self.sizes, counts) + place * CHUNK_RECORDS
        last = np.minimum(first + CHUNK_RECORDS, np.repeat(ends, counts))
        order = self._mixed(len(first), "chunks")
        return first[order], last[order]

    @cached_property
    def _windows(self) -> Numbers:
        """Position in the pass at which each window begins, and the end: (windows + 1,)."""
        first, last = self._chunks
        return np.append(np.append(0, np.cumsum(last - first))[: len(first) : WINDOW_CHUNKS], self.records)

    def numbers(self, start: int, stop: int) -> Numbers:
        """Numbers of the records at some positions of the pass, (stop - start,)."""
        first, last = np.searchsorted(self._windows, [start, stop - 1], side="right")
        mixed = np.concatenate([self._window(number) for number in range(first - 1, last)])
        offset = start - self._windows[first - 1]
        return mixed[offset : offset + stop - start]

    def _window(self, number: int) -> Numbers:
        chunks = slice(number * WINDOW_CHUNKS, (number + 1) * WINDOW_CHUNKS)
        first, last = (each[chunks] for each in self._chunks)
        records = np.concatenate([np.arange(*ends) for ends in zip(first, last, strict=True)])
        return records[self._mixed(len(records), f"window {number}")]

    def _mixed(self, count: int, what: str) -> Numbers:
        if self.seed is None:
            return np.arange(count)
        # Not numpy's generators, whose next version may draw otherwise.
        return np.argsort(mix(np.arange(count, dtype=np.uint64) ^ digest64(f"{what} {self.seed}")))

    def batches(self, first: int, stop: int, share: Share) -> Numbers:
        """Records of a worker's rows in some global batches.

        A batch is sorted: so a worker's records are neighbours, and lie in about its own part of the split.

        Args:
            first: The first batch's number in the pass.
            stop: The one after the last; at most :meth:`steps`.
            share: Whose rows.

        Returns:
            (stop - first, rows), :data:`NOBODY` where a row has no record.
        """
        size, beyond = share.batch_size, self.records
        found = np.full((stop - first, share.workers * len(share.rows)), beyond)
        batches = np.full((stop - first) * size, beyond)
        numbers = self.numbers(first * size, min(stop * size, self.records))
        batches[: len(numbers)] = numbers
        found[:, :size] = np.sort(batches.reshape(-1, size), axis=1)
        own = found[:, share.rows.start : share.rows.stop]
        return np.where(own == beyond, NOBODY, own)
