"""Records of a split by their numbers in it, wherever its shards lie; each is checked as it is read. No TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from toposieve.errors import InvalidInputError
from toposieve.io.tfrecord import Example, record_of
from toposieve.training.cache import Cache
from toposieve.training.order import Numbers
from toposieve.training.shards import Split, record_offsets

REQUESTS = 8
"""Shards read at once where each answer takes its time."""


class SplitRecords:
    """The records of a split.

    Args:
        split: Its shards.
        cache: What reads them.
    """

    def __init__(self, split: Split, cache: Cache) -> None:
        """Read nothing yet."""
        self._split = split
        self._cache = cache
        self._starts = np.cumsum([0, *(shard.events for shard in split.shards)])  # (shards + 1,)
        self._offsets: dict[int, Numbers] = {}
        """Of the shards that have been read from."""

    @property
    def is_remote(self) -> bool:
        """Whether an answer takes its time."""
        return self._split.shards[0].key.is_remote

    def read(self, numbers: Numbers) -> list[Example]:
        """Serialised examples of some records, in any order.

        Raises:
            InvalidInputError: A record is damaged, or its shard or the table beside it is missing or damaged.
            UnavailableError: A shard's store cannot be reached.
        """
        if not len(numbers):  # of a worker that has no rows among them
            return []
        places = np.argsort(numbers, kind="stable")
        shards = self._shards(numbers[places])
        groups = np.split(places, np.flatnonzero(np.diff(shards)) + 1)
        found: list[Example] = [b""] * len(numbers)
        parts = self._map(self._of_shard, [numbers[group] for group in groups])
        for group, records in zip(groups, parts, strict=True):
            for place, record in zip(group.tolist(), records, strict=True):
                found[place] = record
        return found

    def where(self, number: int) -> str:
        """What to call a record in messages."""
        shard = int(self._shards(np.array([number]))[0])
        return f"{self._split.shards[shard].key}: record {number - self._starts[shard]}"

    def _shards(self, numbers: Numbers) -> Numbers:
        return np.searchsorted(self._starts, numbers, side="right") - 1

    def _map(self, read: Callable[[Numbers], list[Example]], groups: Iterable[Numbers]) -> Iterable[list[Example]]:
        if not self.is_remote:
            return map(read, groups)
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(read, groups))

    def _of_shard(self, numbers: Numbers) -> list[Example]:
        """Records of one shard, in order."""
        index = int(self._shards(numbers[:1])[0])
        shard = self._split.shards[index]
        if index not in self._offsets:
            self._offsets[index] = record_offsets(shard)
        offsets, places = self._offsets[index], numbers - self._starts[index]
        starts, stops = offsets[places].tolist(), offsets[places + 1].tolist()
        frames = self._cache.read(shard.key, [(start, stop - start) for start, stop in zip(starts, stops, strict=True)])
        return [self._checked(frame, number) for frame, number in zip(frames, numbers.tolist(), strict=True)]

    def _checked(self, frame: Example, number: int) -> Example:
        record = record_of(frame)
        if record is None:
            raise InvalidInputError(f"{self.where(number)} is damaged: prepare the dataset again")
        return record
