"""Reading the ``selected`` Parquet files: their check, their event numbers, and their events as flat arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.parquet import PARTICLE_COLUMNS, SELECTED_SCHEMA, open_parquet
from toposieve.io.store import Key

BATCH_EVENTS = 64
"""Events handled at a time: their features (about 560 particles each) fit a processor's cache."""

PARTICLE_RECORD = np.dtype(list(PARTICLE_COLUMNS.items()))
"""One particle as it is stored, packed: how particles travel in a shuffle."""


@dataclass(frozen=True)
class SelectedBatch:
    """Some events of one file.

    Attributes:
        rows: Their positions in the file, (events,).
        entries: Their entries in the ROOT file, (events,).
        weights: (events,).
        high_level: (events, 14).
        offsets: Event ``i`` owns particles ``offsets[i]:offsets[i + 1]``, (events + 1,).
        particles: Stored feature → flat array over the particles.
    """

    rows: NDArray[np.int64]
    entries: NDArray[np.int64]
    weights: NDArray[np.float32]
    high_level: NDArray[np.float32]
    offsets: NDArray[np.int64]
    particles: Mapping[str, NDArray[Any]]

    def particle_records(self) -> NDArray[np.void]:
        """The particles, packed, (particles,)."""
        records = np.empty(int(self.offsets[-1]), PARTICLE_RECORD)
        for name, values in self.particles.items():
            records[name] = values
        return records


def check_file(key: Key, unit: manifests.Unit) -> None:
    """Check a unit's file against its manifest: columns and number of rows. Its pages are verified as they are read.

    Raises:
        InvalidInputError: Something differs; the message names the file.
    """
    with open_parquet(key, SELECTED_SCHEMA, whole=False) as file:
        found, listed = file.metadata.num_rows, unit.counts[schema.CUTFLOW[-1]]
    if found != listed:
        raise InvalidInputError(
            f"{key} has {found} events, its manifest says {listed}: run select_events.py again with --recompute"
        )


def read_column(key: Key, name: str) -> NDArray[Any]:
    """A flat column of a selected file, in file order."""
    with open_parquet(key, SELECTED_SCHEMA, whole=False) as file:
        values: NDArray[Any] = file.read(columns=[name], use_threads=False)[name].to_numpy()
    return values


def read_selected(key: Key, rows: NDArray[np.int64]) -> Iterator[SelectedBatch]:
    """Read some events of a file, in file order and bounded memory.

    The batches depend on the file and on ``rows`` alone.

    Args:
        key: A selected file.
        rows: Positions of the wanted events in the file, increasing.
    """
    if not len(rows):
        return
    with open_parquet(key, SELECTED_SCHEMA) as file:
        start = 0
        for group in range(file.num_row_groups):
            stop = start + file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, [start, stop])
            if last > first:
                table = file.read_row_group(group, use_threads=False)
                yield from _cut(table, rows[first:last], start)
            start = stop


def _cut(table: pa.Table, rows: NDArray[np.int64], start: int) -> Iterator[SelectedBatch]:
    chosen = table if len(rows) == len(table) else table.take(pa.array(rows - start))
    whole = chosen.combine_chunks().to_batches()[0]
    for begin in range(0, len(rows), BATCH_EVENTS):
        yield _to_arrays(whole.slice(begin, BATCH_EVENTS), rows[begin : begin + BATCH_EVENTS])


def _to_arrays(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> SelectedBatch:
    lists = {name: batch.column(name) for name in PARTICLE_COLUMNS}
    offsets = _offsets(lists["Pt"])
    for name, column in lists.items():
        if not np.array_equal(_offsets(column), offsets):
            raise InvalidInputError(f"column {name} has other lengths than Pt: run select_events.py again")
    high_level = batch.column(schema.HIGH_LEVEL_COLUMN).flatten().to_numpy()
    return SelectedBatch(
        rows=rows,
        entries=batch.column(schema.ENTRY_COLUMN).to_numpy(),
        weights=batch.column(schema.WEIGHT_COLUMN).to_numpy(),
        high_level=high_level.reshape(-1, len(schema.HIGH_LEVEL_FEATURES)),  # (events, 14)
        offsets=offsets,
        particles={name: column.flatten().to_numpy() for name, column in lists.items()},
    )


def _offsets(column: pa.ListArray) -> NDArray[np.int64]:
    offsets: NDArray[np.int64] = column.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    return offsets
