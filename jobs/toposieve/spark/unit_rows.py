"""Rows of events between the passes of preparation: grouped by the unit that they come from, with packed columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve.io.store import Key

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class UnitRows:
    """A unit's rows in a pass."""

    number: int
    path: str
    source: str
    rows: Mapping[str, NDArray[Any]]
    """Every other column."""

    def key(self, folder: Key) -> Key:
        """Its selected file."""
        return folder / self.path


def by_unit(batches: Batches) -> Iterator[UnitRows]:
    """Each unit's rows; they are consecutive."""
    pieces = (piece for batch in batches for piece in _cut_by_unit(batch))
    for _, group in groupby(pieces, key=lambda piece: piece.number):
        parts = list(group)
        rows = {name: np.concatenate([part.rows[name] for part in parts]) for name in parts[0].rows}
        yield replace(parts[0], rows=rows)


def _cut_by_unit(batch: pa.RecordBatch) -> Iterator[UnitRows]:
    texts = [name for name in ("path", "source") if name in batch.schema.names]
    columns = {name: batch.column(name).to_numpy() for name in batch.schema.names if name not in texts}
    numbers = columns.pop("unit")
    starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
    for start, stop in pairwise(starts):
        if stop > start:
            values = {name: batch.column(name)[int(start)].as_py() for name in texts}
            rows = {name: column[start:stop] for name, column in columns.items()}
            yield UnitRows(int(numbers[start]), values.get("path", ""), values.get("source", ""), rows)


def binary(values: NDArray[Any], offsets: NDArray[np.int64]) -> pa.Array:
    """Binary column that shares the memory of ``values``, cut at ``offsets`` (counted in values)."""
    bounds = (offsets * values.dtype.itemsize).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(values)])


def from_binary(column: pa.Array, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Inverse of :func:`binary`."""
    _, bounds, content = column.buffers()
    ends = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    values = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]].view(dtype)
    return values, (ends - ends[0]) // dtype.itemsize
