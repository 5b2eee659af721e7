"""The passes of preparation over selected events: check, list, examine, and shuffle to shards.

Light rows (who an event is) stay in Spark; heavy rows (what it holds) are read in the tasks and cross the JVM once,
packed as one binary column.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from toposieve import schema
from toposieve.io import manifests
from toposieve.io.datasets import SelectedUnit
from toposieve.io.selected import BATCH_EVENTS, PARTICLE_RECORD, SelectedBatch, check_file, read_column, read_selected
from toposieve.io.shards import ShardBatch, scale_particles, write_shard
from toposieve.physics.features import low_level_features
from toposieve.preprocessing import FeatureStatistics, Scaling
from toposieve.spark.ranks import Position, hash_key, slot_of
from toposieve.spark.tasks import RESULT_ROW, collect_results, result_batch

TASKS_PER_CORE = 8
"""Tasks of a pass over the units, at most: enough to even out units of different size."""

EVENTS_PER_TASK = 2000
"""Events worth a task of their own: below, it takes longer to start than to do."""

NOT_KEPT = len(schema.SPLITS)
"""Slot of the events that balancing leaves out; smaller slots are positions in ``schema.SPLITS``."""

EVENT_ROW = "unit int, label int, row int, entry long, split_key long, shuffle_key long"
PACKED_ROW = "shard int, shuffle_key long, unit int, entry long, weight float, hlf binary, particles binary"

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class UnitReport:
    """What one pass over a unit's events found.

    Attributes:
        weights: Slot → number and summed weight of its events; slots are the splits, and ``NOT_KEPT``.
        statistics: Of its training events, with their own weights.
        bad_events: Kept events with a NaN or infinite value.
        first_bad: The first of them: entry and feature.
    """

    weights: Mapping[int, tuple[int, float]]
    statistics: FeatureStatistics
    bad_events: int
    first_bad: str

    def to_json(self) -> dict[str, Any]:
        """Plain values that :meth:`from_json` turns back without loss."""
        return {**vars(self), "statistics": self.statistics.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> UnitReport:
        """Inverse of :meth:`to_json`."""
        weights = {int(slot): (sums[0], sums[1]) for slot, sums in values["weights"].items()}
        statistics = FeatureStatistics.from_json(values["statistics"])
        return cls(weights, statistics, values["bad_events"], values["first_bad"])


# --- passes, on the driver ---------------------------------------------------------------------------------------


def check_units(spark: SparkSession, units: Sequence[SelectedUnit]) -> None:
    """Check every unit's file: checksum, columns, number of rows.

    Raises:
        InvalidInputError: Some differ; the message names the first few.
    """

    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        for index in _indices(batches):
            yield result_batch(index, partial(check_file, units[index].directory, units[index].unit))

    collect_results(_units_frame(spark, units).mapInArrow(task, RESULT_ROW))


def event_rows(spark: SparkSession, units: Sequence[SelectedUnit], seed: int) -> DataFrame:
    """One light row for each selected event, with its two hash keys, cached; a unit lies in one partition, in order."""

    def read(batches: Batches) -> Iterator[pa.RecordBatch]:
        for index in _indices(batches):
            unit = units[index]
            entries = read_column(unit.path, schema.ENTRY_COLUMN)
            yield pa.RecordBatch.from_pydict(
                {
                    "unit": np.full(len(entries), index, np.int32),
                    "label": np.full(len(entries), schema.LABELS[unit.sample], np.int32),
                    "row": np.arange(len(entries), dtype=np.int32),
                    "entry": entries,
                    "file": pa.array([unit.unit.source]).take(pa.array(np.zeros(len(entries), np.int32))),
                }
            )

    rows = _units_frame(spark, units).mapInArrow(read, "unit int, label int, row int, entry long, file string")
    keys = [hash_key(seed, salt, "file", "entry").alias(f"{salt}_key") for salt in ("split", "shuffle")]
    return rows.select("unit", "label", "row", "entry", *keys).persist()


def unit_reports(events: DataFrame, units: Sequence[SelectedUnit], done: Accumulator[int]) -> dict[int, UnitReport]:
    """Weights, statistics and bad values of each unit with events, by its number.

    Args:
        events: :func:`event_rows` with a column ``slot``.
        units: All units.
        done: Counts the events.

    Raises:
        InvalidInputError: A file's columns do not fit together.
    """

    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        for index, rows in _by_unit(batches):
            yield result_batch(index, partial(_report, units[index].path, rows["slot"]))
            done.add(len(rows["slot"]))

    results = collect_results(events.select("unit", "slot").mapInArrow(task, RESULT_ROW))
    return {index: UnitReport.from_json(result) for index, result in results.items()}


@dataclass(frozen=True)
class ShardPlan:
    """Where each event of a split goes.

    Attributes:
        boundaries: Split → positions of the first events of its second, third, ... shard.
        stops: Split → ranks at which its shards end.
    """

    boundaries: Mapping[int, Sequence[Position]]
    stops: Mapping[int, Sequence[int]]

    @property
    def shards(self) -> list[tuple[str, int]]:
        """Split and number of every shard; the position in this list is the shard's number in the shuffle."""
        return [(schema.SPLITS[split], i) for split, stops in self.stops.items() for i in range(len(stops))]

    def stem(self, shard: int, digits: str) -> str:
        """Path of a shard's files in the dataset, without suffix."""
        split, number = self.shards[shard]
        return f"{split}/shard-{number:05d}-of-{len(self.stops[schema.SPLITS.index(split)]):05d}-{digits}"

    def find(self, split: int, position: Position) -> int:
        """Number of the shard that an event belongs to."""
        earlier = sum(len(stops) for other, stops in self.stops.items() if other < split)
        return earlier + slot_of(position, self.boundaries[split])


@dataclass(frozen=True)
class ShardOutput:
    """What the shards of a dataset look like, and where they are written.

    Attributes:
        staging: Folder with one folder per split.
        scaling: Fitted on the training split.
        parquet: Write the Parquet form too.
        digits: End of every file's name, from what decides its content.
    """

    staging: Path
    scaling: Scaling
    parquet: bool
    digits: str


def write_shards(
    events: DataFrame, units: Sequence[SelectedUnit], plan: ShardPlan, output: ShardOutput, done: Accumulator[int]
) -> dict[int, dict[str, Any]]:
    """Shuffle the kept events to their shards and write these.

    Args:
        events: :func:`event_rows` with a column ``slot``.
        units: All units.
        plan: Where each event goes.
        output: What the shards look like, and where they are written.
        done: Counts the written events.

    Returns:
        Shard number → ``{"counts": {sample: events}, "outputs": [file, ...]}``.

    Raises:
        OSError: The disk is full.
    """
    kept = events.filter(F.col("slot") < NOT_KEPT).select("unit", "row", "entry", "slot", "shuffle_key")
    shuffled = kept.mapInArrow(_packer(units, plan), PACKED_ROW).repartitionById(len(plan.shards), F.col("shard"))
    ordered = shuffled.sortWithinPartitions("shuffle_key", "unit", "entry")
    return collect_results(ordered.mapInArrow(_shard_writer(units, plan, output, done), RESULT_ROW))


# --- in the tasks ------------------------------------------------------------------------------------------------


def _report(path: Path, slots: NDArray[np.int32]) -> dict[str, Any]:
    kept = np.flatnonzero(slots < NOT_KEPT)
    statistics, bad = FeatureStatistics.empty(), []
    for batch in read_selected(path, kept):
        features = low_level_features(batch.particles)
        bad += _bad_events(batch, features)
        training = slots[batch.rows] == schema.SPLITS.index("train")
        statistics = statistics.merge(_training_statistics(batch, features, training))
    weights = read_column(path, schema.WEIGHT_COLUMN).astype(np.float64)
    sums = {int(slot): (int(np.sum(slots == slot)), math.fsum(weights[slots == slot])) for slot in np.unique(slots)}
    return UnitReport(sums, statistics, len(bad), bad[0] if bad else "").to_json()


def _training_statistics(
    batch: SelectedBatch, features: NDArray[np.float32], training: NDArray[np.bool_]
) -> FeatureStatistics:
    lengths = np.diff(batch.offsets)
    particles = features[np.repeat(training, lengths)]
    return FeatureStatistics.fit(batch.high_level[training], particles, lengths[training], batch.weights[training])


def _bad_events(batch: SelectedBatch, features: NDArray[np.float32]) -> list[str]:
    """Entry and feature of each event with a NaN or infinite value."""
    finite = bool(
        np.isfinite(features).all() and np.isfinite(batch.high_level).all() and np.isfinite(batch.weights).all()
    )
    if finite:
        return []
    bad = []
    for i, entry in enumerate(batch.entries):
        particles = features[batch.offsets[i] : batch.offsets[i + 1]]  # (length, 19)
        values = np.concatenate([[batch.weights[i]], batch.high_level[i], particles.sum(axis=0, dtype=np.float64)])
        names = np.array([schema.WEIGHT_COLUMN, *schema.HIGH_LEVEL_FEATURES, *schema.LOW_LEVEL_FEATURES])
        wrong = names[~np.isfinite(values)]
        if len(wrong):
            bad.append(f"entry {entry}: {', '.join(wrong)}")
    return bad


def _packer(units: Sequence[SelectedUnit], plan: ShardPlan) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        for index, rows in _by_unit(batches):
            places = zip(rows["slot"].tolist(), rows["shuffle_key"].tolist(), rows["entry"].tolist(), strict=True)
            shards = np.array([plan.find(slot, (key, index, entry)) for slot, key, entry in places], np.int32)
            for batch in read_selected(units[index].path, rows["row"].astype(np.int64)):
                chosen = np.searchsorted(rows["row"], batch.rows)
                yield _pack(batch, index, shards[chosen], rows["shuffle_key"][chosen])

    return task


def _pack(batch: SelectedBatch, unit: int, shards: NDArray[np.int32], keys: NDArray[np.int64]) -> pa.RecordBatch:
    events = len(batch.rows)
    return pa.RecordBatch.from_pydict(
        {
            "shard": shards,
            "shuffle_key": keys,
            "unit": np.full(events, unit, np.int32),
            "entry": batch.entries,
            "weight": batch.weights,
            "hlf": _binary(
                np.ascontiguousarray(batch.high_level), np.arange(events + 1) * len(schema.HIGH_LEVEL_FEATURES)
            ),
            "particles": _binary(batch.particle_records(), batch.offsets),
        }
    )


def _binary(values: NDArray[Any], offsets: NDArray[np.int64]) -> pa.Array:
    """Binary column that shares the memory of ``values``, cut at ``offsets`` (counted in values)."""
    bounds = (offsets * values.dtype.itemsize).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(values)])


def _from_binary(column: pa.Array, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Inverse of :func:`_binary`."""
    _, bounds, content = column.buffers()
    ends = np.frombuffer(bounds, np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    values = np.frombuffer(content, np.uint8)[ends[0] : ends[-1]].view(dtype)
    return values, (ends - ends[0]) // dtype.itemsize


def _shard_writer(
    units: Sequence[SelectedUnit], plan: ShardPlan, output: ShardOutput, done: Accumulator[int]
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        filled = (batch for batch in batches if batch.num_rows)
        first = next(filled, None)
        if first is not None:
            shard = first.column("shard")[0].as_py()
            scaled = (_scale(batch, units, output.scaling) for batch in _small(chain([first], filled)))
            yield result_batch(shard, partial(_write, plan.stem(shard, output.digits), scaled, output, done))
            deque(filled, maxlen=0)  # Spark wants its input read to the end, even after a full disk

    return task


def _write(stem: str, batches: Iterator[ShardBatch], output: ShardOutput, done: Accumulator[int]) -> dict[str, Any]:
    # Another attempt of this task may be writing the same shard: each has files of its own until the end.
    attempt = output.staging / f"{stem}.{uuid.uuid4().hex}"
    paths, counts = write_shard(attempt, batches, parquet=output.parquet)
    done.add(sum(counts.values()))
    finals = [output.staging / f"{stem}{path.suffix}" for path in paths]
    for path, final in zip(paths, finals, strict=True):
        path.replace(final)
    return {
        "counts": counts,
        "outputs": [manifests.describe_file(final, output.staging).model_dump() for final in finals],
    }


def _small(batches: Batches) -> Iterator[pa.RecordBatch]:
    """The same rows in batches whose features fit a processor's cache."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_EVENTS):
            yield batch.slice(start, BATCH_EVENTS)


def _scale(batch: pa.RecordBatch, units: Sequence[SelectedUnit], scaling: Scaling) -> ShardBatch:
    numbers = batch.column("unit").to_pylist()
    entries = batch.column("entry").to_pylist()
    high_level, _ = _from_binary(batch.column("hlf"), np.dtype(np.float32))
    records, offsets = _from_binary(batch.column("particles"), PARTICLE_RECORD)
    samples = [units[number].sample for number in numbers]
    return ShardBatch(
        event_ids=[f"{units[number].unit.source}:{entry}" for number, entry in zip(numbers, entries, strict=True)],
        labels=np.array([schema.LABELS[sample] for sample in samples]),
        weights=scaling.apply_weights(samples, batch.column("weight").to_numpy()),
        high_level=scaling.apply_high_level(high_level.reshape(-1, len(schema.HIGH_LEVEL_FEATURES))),
        offsets=offsets,
        particles=scale_particles(records, offsets, scaling),
    )


# --- passes over units -------------------------------------------------------------------------------------------


def _units_frame(spark: SparkSession, units: Sequence[SelectedUnit]) -> DataFrame:
    cores = spark.sparkContext.defaultParallelism
    events = sum(each.unit.counts[schema.CUTFLOW[-1]] for each in units)
    tasks = min(len(units), max(cores, math.ceil(events / EVENTS_PER_TASK)), TASKS_PER_CORE * cores)
    return spark.range(0, len(units), 1, max(tasks, 1))


def _indices(batches: Batches) -> Iterator[int]:
    for batch in batches:
        yield from batch.column("id").to_pylist()


def _by_unit(batches: Batches) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
    """Each unit's number and columns; its rows are consecutive."""
    pieces = (piece for batch in batches for piece in _cut_by_unit(batch))
    for unit, group in groupby(pieces, key=lambda piece: int(piece["unit"][0])):
        parts = list(group)
        yield unit, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _cut_by_unit(batch: pa.RecordBatch) -> Iterator[dict[str, NDArray[Any]]]:
    columns = {name: batch.column(name).to_numpy() for name in batch.schema.names}
    cuts = np.flatnonzero(np.diff(columns["unit"])) + 1
    pieces = zip(*(np.split(values, cuts) for values in columns.values()), strict=True)
    yield from (dict(zip(columns, piece, strict=True)) for piece in pieces if len(piece[0]))
