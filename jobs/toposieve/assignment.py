"""Which event goes where: its key and the seed decide, in exact numbers, without sorting events.

The seed turns the circle of keys; balancing keeps the events that come first on it, so at most two runs of rows of each
file. Two more hashes of the key decide the split, and the place in the split's shards: neither has a likeness to the
order of files. Events are told apart by their keys alone: two of 54 million are equal once in ten thousand datasets,
and matter only where a cut falls between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.event_keys import Keys, digest64, mix
from toposieve.preprocessing import split_stops

NOT_KEPT = len(schema.SPLITS)
"""Slot of the events that balancing leaves out; smaller slots are positions in ``schema.SPLITS``."""

TRAIN = schema.SPLITS.index("train")

FITTED_EVENTS = 5_000
"""Training events of each class that the scaling of particles is fitted to, and that are read twice. Of 15,000, means
are within .002 of a width of those of all events, and widths within .01, those of vertices the farthest."""


def places(keys: Keys, seed: int) -> Keys:
    """Places on the circle that a seed turns, (events,)."""
    return keys + digest64(f"balance {seed}")


def shuffle_keys(keys: Keys, seed: int) -> Keys:
    """Hashes that put the events of a split in order, (events,)."""
    return mix(keys ^ digest64(f"shuffle {seed}"))


def _split_keys(keys: Keys, seed: int) -> Keys:
    return mix(keys ^ digest64(f"split {seed}"))


@dataclass(frozen=True)
class Cuts:
    """Where the orders of events are cut. Each cut is the first value behind it; none is at an order's end.

    Attributes:
        seed: Of balance, split and shuffle.
        kept: Label → place of the first event that balancing leaves out.
        splits: Label → split keys of the first validation and test events.
        fitted: Label → place of the first training event that scaling is not fitted to.
        shards: Split → shuffle keys of the first events of its second, third, ... shard.
    """

    seed: int
    kept: Mapping[int, Keys]
    splits: Mapping[int, Keys]
    fitted: Mapping[int, Keys]
    shards: Sequence[Keys]

    def kept_share(self, label: int) -> float:
        """About which share of a class's events balancing keeps, of each file alike: their places are uniform."""
        cut = self.kept[label]
        return int(cut[0]) / 2**64 if len(cut) else 1.0

    def slots(self, label: int, keys: Keys) -> NDArray[np.int64]:
        """Split of each event of a class, or ``NOT_KEPT``, (events,)."""
        slots = _passed(self.splits[label], _split_keys(keys, self.seed))
        slots[_passed(self.kept[label], places(keys, self.seed)) > 0] = NOT_KEPT
        return slots

    def is_fitted(self, label: int, keys: Keys, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which events scaling is fitted to, (events,)."""
        fitted: NDArray[np.bool_] = (slots == TRAIN) & (_passed(self.fitted[label], places(keys, self.seed)) == 0)
        return fitted

    def shard_numbers(self, slots: NDArray[np.int64], shuffle: Keys) -> NDArray[np.int64]:
        """Shard of each kept event, counted through all splits, (events,)."""
        numbers, first = np.full(len(slots), -1), 0
        for split, cuts in enumerate(self.shards):
            of_split = slots == split
            numbers[of_split] = first + _passed(cuts, shuffle[of_split])
            first += len(cuts) + 1
        return numbers


def find_cuts(
    keys: Mapping[int, Keys], sizes: Mapping[int, int], shard_stops: Sequence[Sequence[int]], config: PreparationConfig
) -> Cuts:
    """Cuts that give every class, split and shard exactly the wanted number of events.

    Args:
        keys: Label → of all its events, in any order.
        sizes: Label → events to keep.
        shard_stops: Split → ranks at which its shards end.
        config: The seed and the fractions.
    """
    seed = config.seed
    kept, splits, fitted = dict[int, Keys](), dict[int, Keys](), dict[int, Keys]()
    shuffled: list[list[Keys]] = [[] for _ in schema.SPLITS]
    for label, of_class in keys.items():
        ordered = np.sort(places(of_class, seed))
        kept[label] = _cut(ordered, [sizes[label]])
        chosen = ordered[: sizes[label]] - digest64(f"balance {seed}")
        hashes = _split_keys(chosen, seed)
        splits[label] = _cut(np.sort(hashes), split_stops(sizes[label], config))
        slots = _passed(splits[label], hashes)
        fitted[label] = _cut(ordered[: sizes[label]][slots == TRAIN], [FITTED_EVENTS])
        for split, of_split in enumerate(shuffled):
            of_split.append(shuffle_keys(chosen[slots == split], seed))
    shards = [_cut(np.sort(np.concatenate(each)), stops) for each, stops in zip(shuffled, shard_stops, strict=True)]
    return Cuts(seed, kept, splits, fitted, shards)


def _cut(ordered: Keys, ranks: Sequence[int]) -> Keys:
    return ordered[[rank for rank in ranks if rank < len(ordered)]]


def _passed(cuts: Keys, values: Keys) -> NDArray[np.int64]:
    return np.searchsorted(cuts, values, side="right")
