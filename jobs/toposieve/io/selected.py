"""The ``selected`` Parquet files: written in an order of their own, checked, and read back as flat arrays.

A file is in the order of its events' keys, hashes of who they are. So whatever takes the events whose keys lie in a
range, as balancing does, reads a run of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.event_keys import Keys, event_keys
from toposieve.io import manifests
from toposieve.io.parquet import (
    PARTICLE_COLUMNS,
    SELECTED_SCHEMA,
    event_writer,
    open_parquet,
    pileup_to_numpy,
    selected_to_arrow,
)
from toposieve.io.store import Key

if TYPE_CHECKING:  # their kernels take a third of a second to import
    from toposieve.physics.events import EventBatch
    from toposieve.physics.selection import SelectedEvents

GROUP_PARTICLES = 1 << 16
"""Particles in a row group, about. Of a run of rows, little more than its own is read."""
GROUP_BYTES = 2_500_000
"""About what that is in a file."""

LARGEST_ETA, LARGEST_PT = 40.0, 1e12
"""Up to these, energy and momentum are float32 numbers for sure."""

PARTICLE_RECORD = np.dtype(list(PARTICLE_COLUMNS.items()))
"""One particle as it is stored, packed: how particles travel in a shuffle."""


@dataclass(frozen=True)
class SelectedBatch:
    """Some events of one file.

    Attributes:
        rows: Their positions in what they come from: a selected file, or a batch of events to select from. (events,)
        entries: Their entries in the ROOT file, (events,).
        weights: (events,).
        pileup: Pile-up interactions, or ``schema.NO_PILEUP``, (events,).
        high_level: (events, 14).
        offsets: Event ``i`` owns particles ``offsets[i]:offsets[i + 1]``, (events + 1,).
        particles: Stored feature → flat array over the particles.
    """

    rows: NDArray[np.int64]
    entries: NDArray[np.int64]
    weights: NDArray[np.float32]
    pileup: NDArray[np.int32]
    high_level: NDArray[np.float32]
    offsets: NDArray[np.int64]
    particles: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, batch: EventBatch, selected: SelectedEvents) -> SelectedBatch:
        """Those of a batch that were selected."""
        rows, high_level = selected.rows, selected.high_level.astype(np.float32)
        entries, weights, pileup = batch.entry_start + rows, batch.weight[rows], batch.pileup[rows]
        return cls(rows, entries, weights, pileup, high_level, selected.offsets, selected.particles)

    def particle_records(self) -> NDArray[np.void]:
        """The particles, packed, (particles,)."""
        records = np.empty(int(self.offsets[-1]), PARTICLE_RECORD)
        for name, values in self.particles.items():
            records[name] = values
        return records


# --- writing -----------------------------------------------------------------------------------------------------


def write_ordered(path: Path, source: str, batches: Iterable[SelectedBatch]) -> None:
    """Write the selected file of one unit, in the order of its events' keys.

    Its row groups follow from its events alone, however these come in batches. The events are held once.

    Args:
        path: The file.
        source: File id of the ROOT file that the events are from.
        batches: The events.

    Raises:
        InvalidInputError: A weight or feature is NaN or infinite; the message names file and entry.
    """
    parts = []
    for batch in batches:
        _check_finite(source, batch)
        parts.append(batch)
    with event_writer(path, SELECTED_SCHEMA) as writer:
        for group in _in_order(source, parts):
            writer.write_batch(group)


def _in_order(source: str, parts: Sequence[SelectedBatch]) -> Iterator[pa.RecordBatch]:
    if not parts:
        return
    entries, weights, pileup, high_level = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("entries", "weights", "pileup", "high_level")
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
            yield selected_to_arrow(
                keys[rows], entries[rows], weights[rows], pileup[rows], high_level[rows], offsets, particles
            )


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


@contextmanager
def open_selected(key: Key, unit: manifests.Unit, *, whole: bool = False) -> Iterator[SelectedFile]:
    """Open a unit's file, check it against its manifest, and read parts of it; what is read is verified.

    Args:
        key: The file.
        unit: Its entry in the manifest.
        whole: About all of it will be read: a remote file is fetched first.

    Raises:
        InvalidInputError: Columns or number of rows differ, or it is missing or damaged; the message names the file.
    """
    with open_parquet(key, SELECTED_SCHEMA, whole=whole) as file:
        found, listed = file.metadata.num_rows, unit.counts[schema.CUTFLOW[-1]]
        if found != listed:
            raise InvalidInputError(
                f"{key} has {found} events, its manifest says {listed}: run select_events.py again with --recompute"
            )
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        yield SelectedFile(file, np.cumsum([0, *groups]))


@dataclass(frozen=True)
class SelectedFile:
    """An open selected file, :func:`open_selected`."""

    file: pq.ParquetFile
    bounds: NDArray[np.int64]
    """Row group ``g`` holds the rows ``bounds[g]:bounds[g + 1]``, (groups + 1,)."""

    def keys(self) -> Keys:
        """Keys of all events, in file order."""
        values: Keys = self.file.read(columns=[schema.KEY_COLUMN], use_threads=False)[schema.KEY_COLUMN].to_numpy()
        return values

    def flat(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights, (events,), and high-level features, (events, 14), of some events.

        Args:
            rows: Their positions in the file, increasing.
        """
        groups = self._groups(rows)
        columns = [schema.WEIGHT_COLUMN, schema.HIGH_LEVEL_COLUMN]
        table = self.file.read_row_groups(groups, columns=columns, use_threads=False)
        read = np.concatenate([np.arange(*self.bounds[group : group + 2]) for group in [*groups, 0]])
        chosen = np.searchsorted(read[: len(table)], rows)
        weights, high_level = (table[name].combine_chunks() for name in columns)
        return weights.to_numpy()[chosen], _high_level(high_level)[chosen]

    def batches(self, rows: NDArray[np.int64]) -> Iterator[SelectedBatch]:
        """Runs of events that hold the wanted ones, in file order, one row group at a time.

        Args:
            rows: Positions of the wanted events in the file, increasing.
        """
        for group in self._groups(rows):
            start, stop = self.bounds[group : group + 2]
            wanted = rows[slice(*np.searchsorted(rows, [start, stop]))]
            first, last = wanted[0], wanted[-1] + 1
            table = (
                self.file.read_row_group(group, use_threads=False).combine_chunks().slice(first - start, last - first)
            )
            yield _to_arrays(table.to_batches()[0], np.arange(first, last))

    def _groups(self, rows: NDArray[np.int64]) -> list[int]:
        groups: list[int] = np.unique(np.searchsorted(self.bounds, rows, side="right") - 1).tolist()
        return groups


def _to_arrays(batch: pa.RecordBatch, rows: NDArray[np.int64]) -> SelectedBatch:
    lists = {name: batch.column(name) for name in PARTICLE_COLUMNS}
    offsets = _offsets(lists["Pt"])
    for name, column in lists.items():
        if not np.array_equal(_offsets(column), offsets):
            raise InvalidInputError(f"column {name} has other lengths than Pt: run select_events.py again")
    return SelectedBatch(
        rows=rows,
        entries=batch.column(schema.ENTRY_COLUMN).to_numpy(),
        weights=batch.column(schema.WEIGHT_COLUMN).to_numpy(),
        pileup=pileup_to_numpy(batch.column(schema.PILEUP_COLUMN)),
        high_level=_high_level(batch.column(schema.HIGH_LEVEL_COLUMN)),
        offsets=offsets,
        particles={name: column.flatten().to_numpy() for name, column in lists.items()},
    )


def _high_level(column: pa.FixedSizeListArray) -> NDArray[np.float32]:
    values: NDArray[np.float32] = column.flatten().to_numpy()
    return values.reshape(-1, len(schema.HIGH_LEVEL_FEATURES))  # (events, 14)


def _offsets(column: pa.ListArray) -> NDArray[np.int64]:
    offsets: NDArray[np.int64] = column.offsets.to_numpy().astype(np.int64)
    offsets -= offsets[0]
    return offsets
