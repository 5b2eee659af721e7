"""A table beside each shard, Parquet: one row an event, with all of it but its particles, and where its record begins.

So a record can be read without those before it, and a model that takes high-level features alone needs no records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Manifest, adler32
from toposieve.io.parquet import PILEUP_FIELD, event_writer, open_parquet
from toposieve.io.store import Key

TABLE_SUFFIX = ".events.parquet"
"""In place of the suffix of a TFRecord file."""

OFFSET = "offset"

TABLE_SCHEMA = pa.schema(
    [
        pa.field(name, dtype, nullable=False)
        for name, dtype in {
            OFFSET: pa.int64(),  # of its record in the TFRecord file, bytes
            "event_id": pa.string(),
            "label": pa.int8(),
            "weight": pa.float32(),
            "particles": pa.int32(),  # how many it has
            "is_electron": pa.bool_(),  # the lepton, if it is no muon
            **dict.fromkeys(schema.HIGH_LEVEL_FEATURES, pa.float32()),  # scaled
        }.items()
    ]
    + [PILEUP_FIELD]
)
"""Columns of a table."""


def write_table(path: Path, batches: Sequence[pa.RecordBatch]) -> None:
    """Write the table of a shard, as one row group."""
    with event_writer(path, TABLE_SCHEMA) as writer:
        writer.write_table(pa.Table.from_batches(batches, TABLE_SCHEMA))


def read_offsets(key: Key, events: int) -> NDArray[np.int64]:
    """Where each record of a shard begins, bytes, (events,); of a remote table, little more is read.

    Args:
        key: The table.
        events: How many the shard has.

    Raises:
        InvalidInputError: The table is missing, damaged, or has other columns, or another number of rows.
    """
    offsets: NDArray[np.int64] = _read(key, events, [OFFSET], whole=False)[OFFSET].to_numpy()
    return offsets


def read_table(key: Key, events: int, checksum: str, columns: Sequence[str] = TABLE_SCHEMA.names) -> pa.Table:
    """These columns of a shard's table.

    Args:
        key: The table.
        events: How many the shard has.
        checksum: Adler-32 of the table, as its manifest says.
        columns: Names of columns.

    Raises:
        InvalidInputError: The table is missing or altered, or has other columns, or another number of rows.
    """
    try:
        with key.fetch() as path:
            if adler32(path) == checksum:
                return _read(Key(str(path)), events, columns, whole=True)
    except FileNotFoundError:
        raise InvalidInputError(f"{key} is missing: prepare the dataset again") from None
    raise InvalidInputError(f"{key} is altered: remove it, and prepare the dataset again")


def read_tables(
    dataset: Key,
    manifest: Manifest,
    split: str,
    start: int = 0,
    stop: int | None = None,
    columns: Sequence[str] = TABLE_SCHEMA.names,
) -> Iterator[pa.Table]:
    """The tables of a split's shards, in order.

    Args:
        dataset: The dataset's folder.
        manifest: Its manifest.
        split: Name of the split.
        start: Number of its first row to read; tables before it are not opened.
        stop: Number of the row to end before; None for all.
        columns: Names of columns.

    Raises:
        InvalidInputError: A table is missing or altered, or has other columns, or another number of rows.
    """
    first = 0
    for unit in manifest.units:
        if unit.source.partition("/")[0] == split:
            events = unit.counts["events"]
            below, above = max(start - first, 0), events if stop is None else min(stop - first, events)
            first += events
            for file in unit.outputs:
                if below < above and file.path.endswith(TABLE_SUFFIX):
                    table = read_table(dataset / file.path, events, file.checksum, columns)
                    yield table.slice(below, above - below)


def features_of(table: pa.Table) -> NDArray[np.float32]:
    """The high-level features of a table's events, scaled, (events, 14)."""
    return np.stack([table[name].to_numpy() for name in schema.HIGH_LEVEL_FEATURES], axis=1)


def _read(key: Key, events: int, columns: Sequence[str], *, whole: bool) -> pa.Table:
    with open_parquet(key, TABLE_SCHEMA, whole=whole) as file:
        table = file.read(columns=list(columns), use_threads=False)
    if not events == file.metadata.num_rows == table.num_rows:
        raise InvalidInputError(f"{key} has {table.num_rows} rows, not {events}: prepare the dataset again")
    return table
