"""Whether a trigger stays what it is: shares that pass a fixed threshold in slices of the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from toposieve.evaluation.distributions import COUNTED_FEATURES
from toposieve.evaluation.intervals import clopper_pearson
from toposieve.evaluation.metrics import BoolArray, FloatArray, IntArray, number
from toposieve.schema import MAX_PARTICLES

FEWEST = 10.0
"""Effective events of a process in a slice below which its share is not given."""

EDGES: Mapping[str, tuple[float, ...]] = {
    "pileup": (0, 10, 20, 30, 40, 60, 100),
    "LepPt": (20, 25, 30, 35, 40, 50, 70, 100, 200),
    "LepEta": (-2.5, -1.5, -0.8, 0, 0.8, 1.5, 2.5),
    "LepIsEle": (0, 1, 2),
    "nJets": (0, 1, 2, 3, 4, 5, 6, 8),
    "particles": (0, 50, 100, 150, 200, 300, 500, MAX_PARTICLES + 1),
}
"""Quantity → edges of its slices, each without its upper one; GeV where it has a unit."""


@dataclass(frozen=True)
class Quantity:
    """What the events are sliced in."""

    values: FloatArray
    """(events,); NaN where it is not known."""
    edges: tuple[float, ...]
    """(slices + 1,)."""
    names: tuple[str, ...]
    """(slices,)."""


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


def quantities(columns: Mapping[str, npt.NDArray[Any]], event_ids: pa.Array) -> dict[str, Quantity]:
    """Those of :data:`EDGES` that the events have, and the production day.

    Args:
        columns: Quantity → (events,) in physical units; NaN where it is not known.
        event_ids: (events,) ``{sample}/{day}/...:{entry}``; events of other files have no day.
    """
    found = {
        name: Quantity(_values(name, columns[name]), edges, names_of(name))
        for name, edges in EDGES.items()
        if name in columns and np.isfinite(columns[name]).any()
    }
    days = pc.struct_field(pc.extract_regex(event_ids, r"^[^/]+/(?P<day>[^/]+)/"), "day").fill_null("")
    names, places = np.unique(days.to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    if names.all():
        found["day"] = Quantity(places.astype(np.float64), tuple(range(len(names) + 1)), tuple(names.tolist()))
    return found


def _values(name: str, column: npt.NDArray[Any]) -> FloatArray:
    """Scaling and back may take a whole number below its edge."""
    values = column.astype(np.float64)
    return np.rint(values) if name in COUNTED_FEATURES else values


def names_of(name: str) -> tuple[str, ...]:
    """Of the slices in one of :data:`EDGES`."""
    edges = EDGES[name]
    if name == "LepIsEle":
        return "muon", "electron"
    if name in COUNTED_FEATURES:
        return tuple(f"{low:g}" if high == low + 1 else f"{low:g} to {high - 1:g}" for low, high in pairwise(edges))
    return tuple(f"{low:g} to {high:g}" for low, high in pairwise(edges))


def summarise(
    sliced: Mapping[str, Quantity], passes: BoolArray, labels: IntArray, weights: FloatArray, classes: Sequence[str]
) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """Quantity → process → effective events, share that passes and both ends of its interval, a value for each slice.

    Args:
        sliced: What to slice in.
        passes: (events,) at the fixed threshold.
        labels: (events,).
        weights: (events,).
        classes: Processes, in the order of their labels.
    """
    found: dict[str, dict[str, dict[str, list[float | None]]]] = {}
    for name, quantity in sliced.items():
        measured = passing_in_slices(quantity.values, quantity.edges, passes, labels, weights, len(classes))
        found[name] = {
            sample: {key: [number(one) for one in rows[label]] for key, rows in vars(measured).items()}
            for label, sample in enumerate(classes)
        }
    return found
