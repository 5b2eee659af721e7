"""Whether a trigger stays what it is: shares that pass a fixed threshold in slices of the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from toposieve.evaluation.intervals import clopper_pearson
from toposieve.evaluation.metrics import BoolArray, FloatArray, IntArray

FEWEST = 10.0
"""Effective events of a process in a slice below which its share is not given."""

EDGES: Mapping[str, tuple[float, ...]] = {
    "pileup": (0, 10, 20, 30, 40, 60, 100),
    "LepPt": (20, 25, 30, 35, 40, 50, 70, 100, 200),
    "LepEta": (-2.5, -1.5, -0.8, 0, 0.8, 1.5, 2.5),
    "LepIsEle": (0, 1, 2),
    "nJets": (0, 1, 2, 3, 4, 5, 6, 8),
    "particles": (0, 50, 100, 150, 200, 300, 500, 801),
}
"""Quantity → edges of its slices, each without its upper one; GeV where it has a unit."""


@dataclass(frozen=True)
class Slices:
    """Shares that pass, (classes, slices) each; NaN with less than :data:`FEWEST` effective events."""

    events: FloatArray
    """Effective ones, (Σw)² / Σw²."""
    share: FloatArray
    low: FloatArray
    """Lower end of the 68 % interval, on effective counts."""
    high: FloatArray


def passing_in_slices(
    values: FloatArray, edges: Sequence[float], passes: BoolArray, labels: IntArray, weights: FloatArray, classes: int
) -> Slices:
    """Share of each process that passes, in each slice.

    Args:
        values: (events,) of the quantity; NaN where it is not known: such events are in no slice.
        edges: (slices + 1,) increasing.
        passes: (events,) at the fixed threshold.
        labels: (events,).
        weights: (events,).
        classes: How many there are.
    """
    places = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), 0)
    cells = labels * (len(edges) + 1) + places  # the first and the last place are outside
    total, squares, passed = (
        np.bincount(cells, each, classes * (len(edges) + 1)).reshape(classes, -1)[:, 1:-1]
        for each in (weights, weights**2, weights * passes)
    )
    events = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    enough = (events >= FEWEST) & (total > 0)
    share = np.clip(np.divide(passed, total, out=np.full_like(total, np.nan), where=enough), 0, 1)
    low, high = clopper_pearson(events * share, events)
    return Slices(events, share, np.where(enough, low, np.nan), np.where(enough, high, np.nan))
