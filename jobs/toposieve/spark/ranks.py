"""Exact cuts in a hash order, without sorting: how many events fall on each side is asked, and given to the event.

Events are in order of (key, unit, entry), where the key is a hash of the event's identity; unit and entry only break
ties. A histogram over the keys' top bits says in which bin a wanted rank lies; only the events of those bins are looked
at. The driver holds histograms and such bins, never all events, and the cost is linear.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

BIN_BITS = 16
"""Top bits of a key that make its bin: a bin holds 1 / 65,536 of the events."""

Position = tuple[int, int, int]
"""Place of an event in the order: its key, its unit, its entry."""


def hash_key(seed: int, salt: str, *identity: str) -> Column:
    """A 64-bit hash of columns that identify an event, independent for each salt and seed."""
    return F.xxhash64(F.lit(seed), F.lit(salt), *(F.col(name) for name in identity))


@dataclass(frozen=True)
class KeyHistogram:
    """Events of each group by the top bits of their key.

    Attributes:
        frame: Columns ``unit``, ``entry``, and those named next; read again for the bins of interest.
        group: Name of the column that tells groups (small integers) apart.
        key: Name of the key's column.
        counts: Group → occupied bins in increasing order, and events in each.
    """

    frame: DataFrame
    group: str
    key: str
    counts: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]]

    @classmethod
    def of(cls, frame: DataFrame, group: str, key: str) -> KeyHistogram:
        """Count the events of ``frame``."""
        table = frame.groupBy(F.col(group).alias("group"), _bin(key).alias("bin")).count().toArrow()
        table = table.sort_by([("group", "ascending"), ("bin", "ascending")])
        groups, bins, counts = (table[name].to_numpy() for name in ("group", "bin", "count"))
        return cls(frame, group, key, {int(g): (bins[groups == g], counts[groups == g]) for g in np.unique(groups)})

    def total(self, group: int) -> int:
        """Events of a group."""
        return int(self.counts[group][1].sum()) if group in self.counts else 0

    def boundaries(self, stops: Mapping[int, Sequence[int]]) -> dict[int, list[Position]]:
        """Where a group's order has to be cut to get slots of exactly the wanted sizes.

        Args:
            stops: Group → increasing ranks at which its slots end.

        Returns:
            Group → positions of the first events of the next slots: slot ``i`` ends before the ``i``-th of them. A
            stop at the group's end needs none.
        """
        wanted = {
            group: [self._locate(group, stop) for stop in ends if stop < self.total(group)]
            for group, ends in stops.items()
        }
        members = self._members({(group, bin_) for group, places in wanted.items() for bin_, _ in places})
        return {group: [members[group, bin_][rank] for bin_, rank in places] for group, places in wanted.items()}

    def _locate(self, group: int, rank: int) -> tuple[int, int]:
        """The bin that holds the event of a rank, and its rank in that bin."""
        bins, counts = self.counts[group]
        ends = np.cumsum(counts)
        index = int(np.searchsorted(ends, rank, side="right"))
        return int(bins[index]), int(rank - ends[index] + counts[index])

    def _members(self, bins: set[tuple[int, int]]) -> dict[tuple[int, int], list[Position]]:
        """The events of some bins, in order."""
        if not bins:
            return {}
        identity = F.col(self.group).cast("long") * F.lit(1 << BIN_BITS) + _bin(self.key)
        chosen = identity.isin([group * (1 << BIN_BITS) + bin_ for group, bin_ in bins])
        columns = [F.col(self.group), _bin(self.key), F.col(self.key), F.col("unit"), F.col("entry")]
        members: dict[tuple[int, int], list[Position]] = {place: [] for place in bins}
        for group, bin_, *position in zip(*_collect(self.frame.filter(chosen).select(*columns)), strict=True):
            members[group, bin_].append(tuple(position))
        return {place: sorted(positions) for place, positions in members.items()}


def slot_column(group: str, key: str, boundaries: Mapping[int, Sequence[Position]]) -> Column:
    """Column with each event's slot: the number of its group's boundaries at or before it. Meant for few boundaries."""
    slot = F.lit(None).cast("int")
    for value, cuts in boundaries.items():
        slot = F.when(F.col(group) == value, _sum(_reached(key, cut).cast("int") for cut in cuts)).otherwise(slot)
    return slot


def slot_of(position: Position, boundaries: Sequence[Position]) -> int:
    """One event's slot, by bisection: for many boundaries."""
    return bisect_right(boundaries, position)


def _bin(key: str) -> Column:
    # The arithmetic shift keeps the order of signed keys; adding half the range makes bins count from 0.
    return F.shiftright(F.col(key), 64 - BIN_BITS) + F.lit(1 << (BIN_BITS - 1))


def _reached(key: str, boundary: Position) -> Column:
    hashed, unit, entry = boundary
    later_entry = (F.col("unit") == unit) & (F.col("entry") >= entry)
    return (F.col(key) > hashed) | ((F.col(key) == hashed) & ((F.col("unit") > unit) | later_entry))


def _sum(columns: Iterable[Column]) -> Column:
    return reduce(lambda total, column: total + column, columns, F.lit(0))


def _collect(frame: DataFrame) -> list[list[int]]:
    return [column.to_pylist() for column in frame.toArrow().columns]
