"""Parquet files of the ``events`` and ``selected`` stages, to and from flat arrays without copies.

One row is one event; one row group is one batch of events. Dictionaries and statistics are off: floats repeat too
little for the one, and lists are too wide for the other. Pages carry checksums, which every reader verifies. LZ4 makes
files 15 % larger than zstd's first level, and is written and read in two thirds of the time.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError, is_transient
from toposieve.io.store import Key
from toposieve.physics.events import EventBatch, Jagged

_ARROW_TYPES = {"float32": pa.float32(), "int32": pa.int32(), "uint32": pa.uint32(), "int8": pa.int8()}


PILEUP_FIELD = pa.field(schema.PILEUP_COLUMN, pa.int32())


def _list_of(dtype: str) -> pa.DataType:
    return pa.list_(pa.field("element", _ARROW_TYPES[dtype], nullable=False))


def _arrow_schema(columns: dict[str, pa.DataType]) -> pa.Schema:
    identity = {schema.ENTRY_COLUMN: pa.int64(), schema.WEIGHT_COLUMN: pa.float32()}
    fields = [pa.field(name, dtype, nullable=False) for name, dtype in {**identity, **columns}.items()]
    return pa.schema([*fields, PILEUP_FIELD])


EVENTS_SCHEMA = _arrow_schema(
    {
        schema.event_column(collection, leaf): _list_of(dtype)
        for collection, leaves in schema.DELPHES_LEAVES.items()
        for leaf, dtype in leaves.items()
    }
)
"""Columns of an ``events`` file."""

PARTICLE_COLUMNS: dict[str, str] = {
    **dict.fromkeys(schema.STORED_PARTICLE_FEATURES, "float32"),
    schema.PARTICLE_KIND_COLUMN: "int8",
    "Charge": "int8",
}
"""Column → type of what a ``selected`` file keeps of every particle."""

SELECTED_SCHEMA = _arrow_schema(
    {
        schema.HIGH_LEVEL_COLUMN: pa.list_(
            pa.field("element", pa.float32(), nullable=False), len(schema.HIGH_LEVEL_FEATURES)
        ),
        **{name: _list_of(dtype) for name, dtype in PARTICLE_COLUMNS.items()},
    }
).insert(1, pa.field(schema.KEY_COLUMN, pa.uint64(), nullable=False))
"""Columns of a ``selected`` file, :func:`toposieve.io.selected.write_ordered`. Row 0 of an event is the lepton."""


@contextmanager
def event_writer(path: Path, arrow_schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file for writing batches of events."""
    with pq.ParquetWriter(
        path,
        arrow_schema,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        yield writer


def events_to_arrow(batch: EventBatch) -> pa.RecordBatch:
    """Rows of an ``events`` file."""
    count = len(batch.weight)
    columns: dict[str, pa.Array] = {
        schema.ENTRY_COLUMN: pa.array(np.arange(batch.entry_start, batch.entry_start + count, dtype=np.int64)),
        schema.WEIGHT_COLUMN: pa.array(batch.weight),
        schema.PILEUP_COLUMN: pileup_to_arrow(batch.pileup),
    }
    for collection, jagged in batch.events.items():
        for leaf, values in jagged.leaves.items():
            columns[schema.event_column(collection, leaf)] = _list_array(jagged.offsets, values)
    return _record_batch(columns, EVENTS_SCHEMA)


def selected_to_arrow(
    keys: NDArray[np.uint64],
    entries: NDArray[np.int64],
    weights: NDArray[np.float32],
    pileup: NDArray[np.int32],
    high_level: NDArray[np.float32],
    offsets: NDArray[np.int64],
    particles: Mapping[str, NDArray[Any]],
) -> pa.RecordBatch:
    """Rows of a ``selected`` file.

    Args:
        keys: (events,).
        entries: In the ROOT file, (events,).
        weights: (events,).
        pileup: Pile-up interactions, (events,).
        high_level: (events, 14).
        offsets: Event ``i`` owns particles ``offsets[i]:offsets[i + 1]``, (events + 1,).
        particles: Stored feature → flat array over the particles.
    """
    dtype = SELECTED_SCHEMA.field(schema.HIGH_LEVEL_COLUMN).type
    columns = {
        schema.KEY_COLUMN: pa.array(keys),
        schema.ENTRY_COLUMN: pa.array(entries),
        schema.WEIGHT_COLUMN: pa.array(weights),
        schema.PILEUP_COLUMN: pileup_to_arrow(pileup),
        schema.HIGH_LEVEL_COLUMN: pa.FixedSizeListArray.from_arrays(pa.array(high_level.ravel()), type=dtype),
        **{name: _list_array(offsets, particles[name]) for name in PARTICLE_COLUMNS},
    }
    return _record_batch(columns, SELECTED_SCHEMA)


@contextmanager
def open_parquet(key: Key, arrow_schema: pa.Schema, *, whole: bool = True) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file of a known schema; its pages are verified as they are read.

    Args:
        key: The file.
        arrow_schema: Its columns.
        whole: All of it will be read, or about all: a remote one is fetched first.

    Raises:
        InvalidInputError: It is missing, not Parquet, damaged, or has other columns.
    """
    try:
        in_parts = key.is_remote and not whole
        source: AbstractContextManager[Any] = _Parts(key) if in_parts else key.fetch()
        with (
            source as opened,
            # Of a row group's columns, those side by side are asked for at once.
            pq.ParquetFile(opened, memory_map=True, page_checksum_verification=True, pre_buffer=in_parts) as file,
        ):
            _check_schema(key, file.schema_arrow, arrow_schema)
            yield file
    except FileNotFoundError:
        raise InvalidInputError(f"{key} is missing: run the stage that writes {key.parent} again") from None
    except (pa.ArrowInvalid, OSError) as error:
        if is_transient(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise InvalidInputError(
            f"{key} is damaged ({str(error).splitlines()[0]}): run the stage that writes it again, with --verify"
        ) from None


class _Parts(io.RawIOBase):
    """A remote file of which only those parts are read that are asked for.

    Args:
        key: The file.
    """

    def __init__(self, key: Key) -> None:
        """Ask for its size."""
        found = key.stat()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(key))
        self._key = key
        self._size = found.size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        [part] = self._key.read_ranges([(self._position, len(buffer))])
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def _check_schema(key: Key, found: pa.Schema, expected: pa.Schema) -> None:
    if not found.equals(expected):
        wrong = [field.name for field in expected if field not in list(found)]
        raise InvalidInputError(
            f"{key}: columns {', '.join(wrong) or 'beyond those known'} are not as expected; "
            f"run the stage that writes {key.parent} again with --recompute"
        )


def read_event_batches(key: Key) -> Iterator[EventBatch]:
    """Read an ``events`` file, one row group at a time.

    Raises:
        InvalidInputError: The file is not an ``events`` file, or damaged.
    """
    with open_parquet(key, EVENTS_SCHEMA) as file:
        for index in range(file.num_row_groups):
            yield _to_event_batch(file.read_row_group(index, use_threads=False))


def _to_event_batch(table: pa.Table) -> EventBatch:
    events = {collection: _jagged(table, collection, leaves) for collection, leaves in schema.DELPHES_LEAVES.items()}
    entries = _flat(table, schema.ENTRY_COLUMN)
    weight, pileup = _flat(table, schema.WEIGHT_COLUMN), pileup_to_numpy(_single_chunk(table, schema.PILEUP_COLUMN))
    return EventBatch(int(entries[0]) if len(entries) else 0, events, weight, pileup)


def pileup_to_arrow(values: NDArray[np.int32]) -> pa.Array:
    """Numbers of pile-up interactions as a column, null for ``schema.NO_PILEUP``."""
    return pa.array(values, pa.int32(), mask=values == schema.NO_PILEUP)


def pileup_to_numpy(column: pa.Array) -> NDArray[np.int32]:
    """The inverse of :func:`pileup_to_arrow`."""
    values: NDArray[np.int32] = column.fill_null(schema.NO_PILEUP).to_numpy()
    return values


def _jagged(table: pa.Table, collection: str, leaves: dict[str, str]) -> Jagged:
    arrays = {leaf: _single_chunk(table, schema.event_column(collection, leaf)) for leaf in leaves}
    offsets = next(iter(arrays.values())).offsets.to_numpy().astype(np.int64)
    return Jagged(offsets, {leaf: array.values.to_numpy() for leaf, array in arrays.items()})


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    array: NDArray[Any] = _single_chunk(table, name).to_numpy()
    return array


def _single_chunk(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list_array(offsets: NDArray[np.int64], values: NDArray[Any]) -> pa.Array:
    dtype = _list_of(str(values.dtype))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values), type=dtype)


def _record_batch(columns: dict[str, pa.Array], arrow_schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[name] for name in arrow_schema.names], schema=arrow_schema)
