"""Flat columns: the one data structure between generator and detector.

A :data:`Columns` holds equally long arrays, one row per particle, track or tower. Its ``event`` column says which event
of the chunk a row belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import awkward as ak
import numpy as np
from numpy.typing import NDArray

Columns: TypeAlias = dict[str, NDArray[Any]]


def take(columns: Columns, rows: NDArray[Any] | slice) -> Columns:
    """The given rows (indices, a mask or a slice) of every column."""
    if isinstance(rows, np.ndarray) and rows.dtype == bool:
        rows = np.flatnonzero(rows)
    return {name: values[rows] for name, values in columns.items()}


def concatenate(parts: list[Columns]) -> Columns:
    """Stack tables with the same columns."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def keep_events(columns: Columns, kept: NDArray[np.int64], n_events: int) -> Columns:
    """Rows of the events in ``kept``, renumbered by their position there.

    Args:
        columns: A table with an ``event`` column.
        kept: Event numbers to keep, without repeats.
        n_events: Events in ``columns``, those without rows included.
    """
    position = np.full(n_events, -1)
    position[kept] = np.arange(len(kept))
    event = position[columns["event"]]
    rows = event >= 0
    return {**take(columns, rows), "event": event[rows]}


def flat_particles(batch: Any) -> tuple[Any, NDArray[np.int64]]:
    """All particles of a batch, one after the other, and the event of each.

    What is wanted of them is taken field by field: on nested ones, Awkward Array takes as long as the detector's jets.
    """
    return ak.flatten(batch.prt), np.repeat(np.arange(len(batch)), np.asarray(ak.num(batch.prt)))


def rows(columns: Columns) -> Iterator[dict[str, float]]:
    """The rows one by one, as plain numbers."""
    for values in zip(*(column.tolist() for column in columns.values()), strict=True):
        yield dict(zip(columns, values, strict=True))


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenation of ``arange(start, start + length)`` over all pairs.

    >>> ranges(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    shifts: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    return np.arange(lengths.sum()) + shifts


def pairs(
    event: NDArray[np.int64], other: NDArray[np.int64], n_events: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of rows of the same event, in the order of the first; the events of each, of so many."""
    order = np.argsort(other, kind="stable")
    counts = np.bincount(other, minlength=n_events)
    starts = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(event)), counts[event]), order[ranges(starts[event], counts[event])]
