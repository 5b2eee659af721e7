"""The ``selected`` Parquet files: written in an order of their own, checked, and read back as flat arrays.

A file is in the order of its events' keys, hashes of who they are. So whatever takes the events whose keys lie in a
range, as balancing does, reads a run of its rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.parquet import PARTICLE_COLUMNS, SELECTED_SCHEMA, event_writer, open_parquet, selected_columns
from toposieve.io.store import Key

BATCH_EVENTS = 64
"""Events handled at a time: their features (about 560 particles each) fit a processor's cache."""

GROUP_PARTICLES = 1 << 16
"""Particles in a row group, about: 2.5 MB. Of a run of rows, little more than its own is read."""

LARGEST_ETA, LARGEST_PT = 40.0, 1e12
"""Up to these, energy and momentum are float32 numbers for sure."""

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


# --- writing -----------------------------------------------------------------------------------------------------


def event_keys(file_id: str, entries: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of events' identities, for ever the same: the order of a file, and the start of every random choice.

    SplitMix64 (Steele, Lea & Flood, 2014) at the entry's step, from a state that is a digest of the file id: within a
    file no two are equal.

    Args:
        file_id: The ROOT file.
        entries: (events,).
    """
    state = np.frombuffer(hashlib.blake2b(file_id.encode(), digest_size=8).digest(), "<u8")
    return mix(state + entries.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: other values, other results, and no likeness between the results of like values."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def write_ordered(path: Path, source: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Write the selected file of one unit, in the order of its events' keys.

    Its row groups follow from its events alone, however these come in batches. The events are held once.

    Args:
        path: The file.
        source: File id of the ROOT file that the events are from.
        batches: The events, ``UNORDERED_SCHEMA``.

    Raises:
        InvalidInputError: A weight or feature is NaN or infinite; the message names file and entry.
    """
    parts = [_to_arrays(batch, np.arange(batch.num_rows)) for batch in batches]
    for part in parts:
        _check_finite(source, part)
    with event_writer(path, SELECTED_SCHEMA) as writer:
        for group in _in_order(source, parts):
            writer.write_batch(group)


def _in_order(source: str, parts: Sequence[SelectedBatch]) -> Iterator[pa.RecordBatch]:
    if not parts:
        return
    entries, weights, high_level = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("entries", "weights", "high_level")
    )
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    pieces = [(part.particles, *ends) for part in parts for ends in pairwise(part.offsets.tolist())]
    keys = event_keys(source, entries)
    order = np.argsort(keys)
    groups = np.cumsum(lengths[order]) // GROUP_PARTICLES  # of the events in order
    for rows in np.split(order, np.flatnonzero(np.diff(groups)) + 1):
        if len(rows):
            chosen = [pieces[row] for row in rows]
            particles = {
                name: np.concatenate([values[name][start:stop] for values, start, stop in chosen])
                for name in PARTICLE_COLUMNS
            }
            offsets = np.concatenate([[0], np.cumsum(lengths[rows])])
            columns = selected_columns(entries[rows], weights[rows], high_level[rows], offsets, particles)
            columns[schema.KEY_COLUMN] = pa.array(keys[rows])
            yield pa.RecordBatch.from_pydict(columns, schema=SELECTED_SCHEMA)


def _check_finite(source: str, batch: SelectedBatch) -> None:
    columns = [batch.weights, batch.high_level, *batch.particles.values()]
    limits = {"Eta": LARGEST_ETA, "Pt": LARGEST_PT}
    small = all(np.abs(batch.particles[name]).max(initial=0) <= limit for name, limit in limits.items())
    if small and all(np.isfinite(values).all() for values in columns):
        return
    from toposieve.physics.features import low_level_features  # numba takes a third of a second to import

    with np.errstate(over="ignore", invalid="ignore"):
        features = low_level_features(batch.particles)
    names = (schema.WEIGHT_COLUMN, *schema.HIGH_LEVEL_FEATURES, *schema.LOW_LEVEL_FEATURES)
    for i, entry in enumerate(batch.entries):
        particles = np.isfinite(features[batch.offsets[i] : batch.offsets[i + 1]]).all(axis=0)  # (19,)
        finite = np.concatenate([[np.isfinite(batch.weights[i])], np.isfinite(batch.high_level[i]), particles])
        if not finite.all():
            wrong = ", ".join(np.array(names)[~finite])
            raise InvalidInputError(
                f"{source} has a NaN or infinite feature in entry {entry} ({wrong}): every value must be finite; "
                "copy or write the file again, or remove it"
            )


# --- reading -----------------------------------------------------------------------------------------------------


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
