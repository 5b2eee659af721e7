"""One shard of a dataset: events scaled, in sequence order, as TFRecord with a table and, if asked, Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io import tfrecord
from toposieve.io.event_tables import TABLE_SCHEMA, TABLE_SUFFIX, write_table
from toposieve.io.manifests import Unit, describe_file
from toposieve.io.parquet import pileup_to_arrow
from toposieve.io.store import Key
from toposieve.io.units import write_record

BUFFER_BYTES = 1 << 20
"""Written at a time: records one by one, at no border of pages, take the kernel twice as long."""

PARQUET_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("label", pa.int64()),
        ("weight", pa.float32()),
        *((name, pa.float32()) for name in schema.HIGH_LEVEL_FEATURES),
        *((name, pa.list_(pa.float32())) for name in schema.LOW_LEVEL_FEATURES),
    ]
)
"""Columns of a dataset's Parquet form: the same numbers as in the TFRecord shards, under the features' names."""

_IS_ELECTRON = schema.LOW_LEVEL_FEATURES.index("isEle")


@dataclass(frozen=True)
class ShardBatch:
    """Some events of a shard, ready to be written.

    Attributes:
        event_ids: ``{file id}:{entry}``.
        labels: (events,).
        weights: Normalised, (events,).
        pileup: Pile-up interactions, or ``schema.NO_PILEUP``, (events,).
        high_level: Scaled, (events, 14).
        offsets: Event ``i`` owns particles ``offsets[i]:offsets[i + 1]``, (events + 1,).
        particles: Scaled, in sequence order, (particles, 19).
    """

    event_ids: list[str]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    pileup: NDArray[np.int32]
    high_level: NDArray[np.float32]
    offsets: NDArray[np.int64]
    particles: NDArray[np.float32]


def examples(batch: ShardBatch) -> Iterator[bytes]:
    """Serialised ``tf.train.Example`` of each event, with the keys of ``schema.RECORD_KEYS``."""
    flat, width = batch.particles.reshape(-1), len(schema.LOW_LEVEL_FEATURES)
    keys = schema.RECORD_KEYS
    for i, event_id in enumerate(batch.event_ids):
        start, stop = batch.offsets[i], batch.offsets[i + 1]
        yield tfrecord.encode_example(
            {
                keys["high_level"]: batch.high_level[i],
                keys["particles"]: flat[start * width : stop * width],  # (length * 19,)
                keys["length"]: int(stop - start),
                keys["label"]: int(batch.labels[i]),
                keys["weight"]: batch.weights[i : i + 1],
                keys["event_id"]: event_id.encode(),
            }
        )


def parquet_batch(batch: ShardBatch) -> pa.RecordBatch:
    """Rows of the Parquet form."""
    offsets = pa.array(batch.offsets.astype(np.int32))
    high_level = [pa.array(column) for column in batch.high_level.T]
    particles = [pa.ListArray.from_arrays(offsets, pa.array(column)) for column in batch.particles.T]
    columns = [pa.array(batch.event_ids), pa.array(batch.labels), pa.array(batch.weights), *high_level, *particles]
    return pa.RecordBatch.from_arrays(columns, schema=PARQUET_SCHEMA)


def table_batch(batch: ShardBatch, offsets: NDArray[np.int64]) -> pa.RecordBatch:
    """Rows of the table beside a TFRecord file, in which the events' records begin at some offsets, (events,)."""
    leptons = batch.particles[batch.offsets[1:] - 1]  # the last in sequence order, (events, 19)
    lengths, is_electron = np.diff(batch.offsets).astype(np.int32), leptons[:, _IS_ELECTRON] > 0
    columns = [offsets, batch.event_ids, batch.labels.astype(np.int8), batch.weights, lengths, is_electron]
    arrays = [pa.array(column) for column in (*columns, *batch.high_level.T)]
    return pa.RecordBatch.from_arrays([*arrays, pileup_to_arrow(batch.pileup)], schema=TABLE_SCHEMA)


def write_unit(
    folder: Key,
    name: str,
    batches: Iterator[ShardBatch],
    classes: Sequence[str],
    *,
    parquet: bool = False,
    **identity: Any,
) -> Unit:
    """Write a shard and the table beside it, and leave its record.

    Args:
        folder: The dataset's.
        name: The TFRecord file, relative to the folder.
        batches: The events, in the shard's order.
        classes: Of the dataset, in the order of their labels.
        parquet: Write it as Parquet too.
        **identity: Of the unit: source, checksum and first entry.
    """
    stem = name.removesuffix(".tfrecord")
    names = [name, stem + TABLE_SUFFIX, *([f"{stem}.parquet"] if parquet else [])]
    with ExitStack() as stack:
        paths = [stack.enter_context((folder / each).create()) for each in names]
        counts = write_shard(paths[0], paths[1], paths[2] if parquet else None, batches, classes)
        files = tuple(describe_file(path, each) for path, each in zip(paths, names, strict=True))
    events = sum(counts.values())
    unit = Unit(
        entry_stop=identity["entry_start"] + events, counts={"events": events, **counts}, outputs=files, **identity
    )
    write_record(folder, name, unit)
    return unit


def write_shard(
    tfrecord_path: Path,
    table_path: Path,
    parquet_path: Path | None,
    batches: Iterator[ShardBatch],
    classes: Sequence[str],
) -> dict[str, int]:
    """Write the events of one shard.

    Args:
        tfrecord_path: Its TFRecord file.
        table_path: The table beside it.
        parquet_path: Its Parquet form, if wanted.
        batches: The events, in the shard's order.
        classes: Of the dataset, in the order of their labels.

    Returns:
        The number of events of each class.
    """
    labels, size = np.zeros(len(classes), np.int64), 0
    rows: list[pa.RecordBatch] = []
    with ExitStack() as stack:
        stream = stack.enter_context(tfrecord_path.open("wb", buffering=BUFFER_BYTES))
        parquet = stack.enter_context(_parquet_writer(parquet_path)) if parquet_path else None
        for batch in batches:
            labels += np.bincount(batch.labels, minlength=len(labels))
            sizes = np.array([tfrecord.write_record(stream, record) for record in examples(batch)], np.int64)
            rows.append(table_batch(batch, size + np.cumsum(sizes) - sizes))
            size += int(sizes.sum())
            if parquet is not None:
                parquet.write_batch(parquet_batch(batch))
    write_table(table_path, rows)
    return {name: int(count) for name, count in zip(classes, labels, strict=True)}


def _parquet_writer(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path, PARQUET_SCHEMA, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=False
    )
