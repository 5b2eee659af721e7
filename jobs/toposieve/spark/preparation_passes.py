"""The passes of preparation over selected events: check, list, examine, and shuffle to shards.

Light rows (who an event is) stay in Spark; heavy rows (what it holds) are read in the tasks and cross the JVM once,
packed as one binary column.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from toposieve import schema
from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import Unit, describe_file
from toposieve.io.names import RECORDS, sample_of
from toposieve.io.selected import BATCH_EVENTS, PARTICLE_RECORD, SelectedBatch, check_file, read_column, read_selected
from toposieve.io.shards import ShardBatch, scale_particles, write_shard
from toposieve.io.store import Key
from toposieve.io.units import find_unit, write_record
from toposieve.physics.features import low_level_features
from toposieve.preprocessing import FeatureStatistics, Scaling
from toposieve.spark.ranks import Position, hash_key, slot_of
from toposieve.spark.run import balance, run_on_spark
from toposieve.spark.tasks import RECORD_ROW, collect_records, record_batch
from toposieve.spark.unit_rows import Batches, UnitRows, binary, by_unit, from_binary
from toposieve.weights import WeightSums

NOT_KEPT = len(schema.SPLITS)
"""Slot of the events that balancing leaves out; smaller slots are positions in ``schema.SPLITS``."""

LISTED_ROW = "unit int, path string, source string, label int, row int, entry long"
PACKED_ROW = (
    "shard int, shuffle_key long, unit int, source string, entry long, weight float, hlf binary, particles binary"
)


@dataclass(frozen=True)
class UnitReport:
    """What one pass over a unit's events found.

    Attributes:
        weights: Slot → number of its events, and sums of their weights; slots are the splits, and ``NOT_KEPT``.
        statistics: Of its training events, with their own weights.
        bad_events: Kept events with a NaN or infinite value.
        first_bad: The first of them: entry and feature.
    """

    weights: Mapping[int, tuple[int, WeightSums]]
    statistics: FeatureStatistics
    bad_events: int
    first_bad: str


# --- passes, on the driver ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CheckItem:
    """A file to check."""

    unit: SelectedUnit
    events: int = 1
    """A footer is read, whatever the file holds."""


def check_unit(item: CheckItem) -> None:
    """Check a selected file's columns, rows and entry numbers (these are read next, where errors are not told well).

    Raises:
        InvalidInputError: They differ from its manifest.
    """
    check_file(item.unit.key, item.unit.unit)
    read_column(item.unit.key, schema.ENTRY_COLUMN)


def check_units(spark: SparkSession, units: Sequence[SelectedUnit]) -> None:
    """Check every unit's file.

    Raises:
        InvalidInputError: Some are not as their manifests say; the message names the first few.
    """
    run_on_spark(spark, check_unit, [CheckItem(unit) for unit in units], name="checking files", quiet=True)


def event_rows(spark: SparkSession, units: Sequence[SelectedUnit], seed: int) -> DataFrame:
    """One light row for each selected event, with its two hash keys, cached; a unit lies in one partition, in order."""
    shares = balance([unit.events for unit in units])
    rows = [(pickle.dumps([(number, units[number]) for number in share]),) for share in shares]
    shared = spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), "units binary")
    keys = [hash_key(seed, salt, "source", "entry").alias(f"{salt}_key") for salt in ("split", "shuffle")]
    return shared.mapInArrow(_list_events, LISTED_ROW).select("*", *keys).persist()


def unit_reports(events: DataFrame, folder: Key, done: Accumulator[int]) -> dict[int, UnitReport]:
    """Weights, statistics and bad values of each unit with events, by its number.

    Args:
        events: :func:`event_rows` with a column ``slot``.
        folder: Where the selected partitions lie.
        done: Counts the events.

    Raises:
        InvalidInputError: A file is damaged, or its columns do not fit together.
    """

    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        for unit in by_unit(batches):
            yield record_batch(unit.number, partial(_report, unit.key(folder), unit.rows["slot"]))
            done.add(len(unit.rows["slot"]))

    return collect_records(events.select("unit", "path", "slot").mapInArrow(task, RECORD_ROW))


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

    def name(self, shard: int) -> str:
        """Path of a shard's TFRecord file below the folder of the dataset's files."""
        split, number = self.shards[shard]
        return f"{split}/shard-{number:05d}-of-{len(self.stops[schema.SPLITS.index(split)]):05d}.tfrecord"

    def events(self, shard: int) -> tuple[int, int]:
        """Ranks in its split of a shard's first event, and of the one after its last."""
        split, number = self.shards[shard]
        stops = self.stops[schema.SPLITS.index(split)]
        return stops[number - 1] if number else 0, stops[number]

    def find(self, split: int, position: Position) -> int:
        """Number of the shard that an event belongs to."""
        earlier = sum(len(stops) for other, stops in self.stops.items() if other < split)
        return earlier + slot_of(position, self.boundaries[split])


@dataclass(frozen=True)
class ShardOutput:
    """What the shards of a dataset look like, and where they are written.

    Attributes:
        dataset: The dataset's folder.
        content: Folder of its files, relative to it.
        scaling: Fitted on the training split.
        parquet: Write the Parquet form too.
    """

    dataset: Key
    content: str
    scaling: Scaling
    parquet: bool


def find_shards(plan: ShardPlan, output: ShardOutput) -> dict[int, Unit]:
    """Shards that an earlier run has finished, by number."""
    listed = output.dataset.list(f"{RECORDS}/{output.content}/")
    names = {shard: f"{output.content}/{plan.name(shard)}" for shard in range(len(plan.shards))}
    found = {n: find_unit(output.dataset, name) for n, name in names.items() if f"{RECORDS}/{name}.json" in listed}
    return {shard: unit for shard, unit in found.items() if unit is not None}


def published_shards(plan: ShardPlan, output: ShardOutput, units: Iterable[Unit]) -> dict[int, Unit]:
    """Those of a manifest's units that are shards of this very content, by number."""
    numbers = {f"{output.content}/{plan.name(shard)}": shard for shard in range(len(plan.shards))}
    return {numbers[unit.outputs[0].path]: unit for unit in units if unit.outputs[0].path in numbers}


def write_shards(
    events: DataFrame, folder: Key, plan: ShardPlan, output: ShardOutput, there: Collection[int], done: Accumulator[int]
) -> dict[int, Unit]:
    """Shuffle the kept events to their shards and write these.

    Args:
        events: :func:`event_rows` with a column ``slot``.
        folder: Where the selected partitions lie.
        plan: Where each event goes.
        output: What the shards look like, and where they are written.
        there: Shards that are done already.
        done: Counts the written events.

    Returns:
        Number of each shard that was not there → its record.

    Raises:
        OSError: The disk is full.
    """
    columns = ("unit", "path", "source", "label", "row", "entry", "slot", "shuffle_key")
    kept = events.filter(F.col("slot") < NOT_KEPT).select(*columns)
    packed = kept.mapInArrow(_packer(folder, plan, frozenset(there)), PACKED_ROW)
    shuffled = packed.repartitionById(len(plan.shards), F.col("shard"))
    ordered = shuffled.sortWithinPartitions("shuffle_key", "unit", "entry")
    return collect_records(ordered.mapInArrow(_shard_writer(plan, output, done), RECORD_ROW))


# --- in the tasks ------------------------------------------------------------------------------------------------


def _list_events(batches: Batches) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for row in batch.column("units").to_pylist():
            for number, unit in pickle.loads(row):
                yield _listed(number, unit)


def _listed(number: int, unit: SelectedUnit) -> pa.RecordBatch:
    entries = read_column(unit.key, schema.ENTRY_COLUMN)
    same = pa.array(np.zeros(len(entries), np.int32))  # each event's position in columns of one value
    return pa.RecordBatch.from_pydict(
        {
            "unit": np.full(len(entries), number, np.int32),
            "path": pa.array([unit.key.relative_to(unit.folder.parent)]).take(same),
            "source": pa.array([unit.unit.source]).take(same),
            "label": np.full(len(entries), schema.LABELS[unit.sample], np.int32),
            "row": np.arange(len(entries), dtype=np.int32),
            "entry": entries,
        }
    )


def _report(key: Key, slots: NDArray[np.int32]) -> UnitReport:
    kept = np.flatnonzero(slots < NOT_KEPT)
    statistics, bad = FeatureStatistics.empty(), []
    for batch in read_selected(key, kept):
        features = low_level_features(batch.particles)
        bad += _bad_events(batch, features)
        training = slots[batch.rows] == schema.SPLITS.index("train")
        statistics = statistics.merge(_training_statistics(batch, features, training))
    weights = read_column(key, schema.WEIGHT_COLUMN)
    of_slots = {int(slot): weights[slots == slot].tolist() for slot in np.unique(slots)}
    sums = {slot: (len(of_slot), WeightSums.of(of_slot)) for slot, of_slot in of_slots.items()}
    return UnitReport(sums, statistics, len(bad), bad[0] if bad else "")


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


def _packer(folder: Key, plan: ShardPlan, there: Collection[int]) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        for unit in by_unit(batches):
            rows = unit.rows
            places = zip(rows["slot"].tolist(), rows["shuffle_key"].tolist(), rows["entry"].tolist(), strict=True)
            shards = np.array([plan.find(slot, (key, unit.number, entry)) for slot, key, entry in places], np.int32)
            wanted = np.isin(shards, list(there), invert=True)
            numbers = rows["row"][wanted].astype(np.int64)
            for batch in read_selected(unit.key(folder), numbers):
                chosen = np.flatnonzero(wanted)[np.searchsorted(numbers, batch.rows)]
                yield _pack(batch, unit, shards[chosen], rows["shuffle_key"][chosen])

    return task


def _pack(batch: SelectedBatch, unit: UnitRows, shards: NDArray[np.int32], keys: NDArray[np.int64]) -> pa.RecordBatch:
    events = len(batch.rows)
    return pa.RecordBatch.from_pydict(
        {
            "shard": shards,
            "shuffle_key": keys,
            "unit": np.full(events, unit.number, np.int32),
            "source": pa.array([unit.source]).take(pa.array(np.zeros(events, np.int32))),
            "entry": batch.entries,
            "weight": batch.weights,
            "hlf": binary(
                np.ascontiguousarray(batch.high_level), np.arange(events + 1) * len(schema.HIGH_LEVEL_FEATURES)
            ),
            "particles": binary(batch.particle_records(), batch.offsets),
        }
    )


def _shard_writer(
    plan: ShardPlan, output: ShardOutput, done: Accumulator[int]
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        filled = (batch for batch in batches if batch.num_rows)
        first = next(filled, None)
        if first is not None:
            shard = first.column("shard")[0].as_py()
            scaled = (_scale(batch, output.scaling) for batch in _small(chain([first], filled)))
            record = record_batch(shard, partial(_write, plan, shard, scaled, output), retried=False)
            done.add(plan.events(shard)[1] - plan.events(shard)[0])
            yield record
            deque(filled, maxlen=0)  # Spark wants its input read to the end, even after a full disk

    return task


def _write(plan: ShardPlan, shard: int, batches: Iterator[ShardBatch], output: ShardOutput) -> Unit:
    name = f"{output.content}/{plan.name(shard)}"
    names = [name, name.removesuffix(".tfrecord") + ".parquet"][: 1 + output.parquet]
    with ExitStack() as stack:
        paths = [stack.enter_context((output.dataset / each).create()) for each in names]
        counts = write_shard(paths[0], paths[1] if output.parquet else None, batches)
        files = tuple(describe_file(path, each) for path, each in zip(paths, names, strict=True))
    split, number = plan.shards[shard]
    start, stop = plan.events(shard)
    unit = Unit(
        source=f"{split}/{number}",
        source_checksum="",
        entry_start=start,
        entry_stop=stop,
        counts={"events": sum(counts.values()), **counts},
        outputs=files,
    )
    write_record(output.dataset, name, unit)
    return unit


def _small(batches: Batches) -> Iterator[pa.RecordBatch]:
    """The same rows in batches whose features fit a processor's cache."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_EVENTS):
            yield batch.slice(start, BATCH_EVENTS)


def _scale(batch: pa.RecordBatch, scaling: Scaling) -> ShardBatch:
    sources = batch.column("source").to_pylist()
    entries = batch.column("entry").to_pylist()
    high_level, _ = from_binary(batch.column("hlf"), np.dtype(np.float32))
    records, offsets = from_binary(batch.column("particles"), PARTICLE_RECORD)
    samples = [sample_of(source) for source in sources]
    return ShardBatch(
        event_ids=[f"{source}:{entry}" for source, entry in zip(sources, entries, strict=True)],
        labels=np.array([schema.LABELS[sample] for sample in samples]),
        weights=scaling.apply_weights(samples, batch.column("weight").to_numpy()),
        high_level=scaling.apply_high_level(high_level.reshape(-1, len(schema.HIGH_LEVEL_FEATURES))),
        offsets=offsets,
        particles=scale_particles(records, offsets, scaling),
    )
