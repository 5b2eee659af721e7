"""The passes of preparation over selected events: keys, statistics, and the shuffle to shards.

Keys travel to the driver, 8 bytes an event: it says where to cut. Heavy rows are read in the tasks, by the runs that
balancing keeps, and cross the JVM once, packed as blocks of many events.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Accumulator
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from toposieve import schema
from toposieve.assignment import NOT_KEPT, TRAIN, Cuts, shuffle_keys
from toposieve.classes import labels_of
from toposieve.event_keys import Keys
from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import Unit
from toposieve.io.names import RECORDS, sample_of
from toposieve.io.selected import GROUP_BYTES, PARTICLE_RECORD, SelectedBatch, SelectedFile, open_selected
from toposieve.io.shards import ShardBatch, write_unit
from toposieve.io.store import Key
from toposieve.io.units import find_unit
from toposieve.physics.features import BLOCK, sequence_order
from toposieve.physics.moments import Moments
from toposieve.physics.sequences import scaled_features
from toposieve.preprocessing import SCALED_FEATURES, Scaling
from toposieve.spark.balance import LEAST_EVENTS, balance
from toposieve.spark.blocks import BLOCK_ROW, EVENT_RECORD, Bytes, Records, ShardEvents, pack, unpack
from toposieve.spark.run import run_on_spark
from toposieve.spark.tasks import RECORD_ROW, collect_records, record_batch
from toposieve.weights import WeightSums

Batches = Iterable[pa.RecordBatch]

BATCH_EVENTS = 40
"""Events scaled at a time: their features (about 560 particles each) fit a processor's cache."""


@dataclass(frozen=True)
class UnitReport:
    """What one pass over a unit's events found.

    Attributes:
        weights: Split → number of its events, and sums of their weights.
        minimum: Smallest value of each high-level feature in its training events, (14,).
        maximum: Largest value, (14,).
        particles: Moments of the scaled features of its events that scaling is fitted to, with their own weights.
    """

    weights: Mapping[int, tuple[int, WeightSums]]
    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]
    particles: Moments


# --- passes, on the driver ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeysItem:
    """A file to check, and to read the keys of."""

    unit: SelectedUnit
    events: int = LEAST_EVENTS
    """Little is read, whatever the file holds: opening it takes as long as these."""


def read_keys(spark: SparkSession, units: Sequence[SelectedUnit]) -> dict[int, Keys]:
    """Keys of the events of each class, by label, once every unit's file has been checked.

    Raises:
        InvalidInputError: Some are not as their manifests say; the message names the first few.
    """
    found = run_on_spark(spark, _read_keys, [KeysItem(unit) for unit in units], name="reading keys", quiet=True).results
    labels = [unit.label for unit in units]
    return {label: np.concatenate([found[i] for i, of in enumerate(labels) if of == label]) for label in set(labels)}


@dataclass(frozen=True)
class ReportItem:
    """A unit to examine."""

    unit: SelectedUnit
    cuts: Cuts

    @property
    def events(self) -> int:
        """Its events."""
        return self.unit.events


def unit_reports(spark: SparkSession, units: Sequence[SelectedUnit], cuts: Cuts) -> dict[int, UnitReport]:
    """Weights and statistics of each unit, by its number.

    Raises:
        InvalidInputError: A file is damaged, or its columns do not fit together.
    """
    items = [ReportItem(unit, cuts) for unit in units]
    return dict(sorted(run_on_spark(spark, _report, items, name="examining selected events").results.items()))


@dataclass(frozen=True)
class ShardPlan:
    """The shards of each split.

    Attributes:
        stops: Of each of ``schema.SPLITS``, the ranks at which its shards end.
    """

    stops: Sequence[Sequence[int]]

    @cached_property
    def shards(self) -> list[tuple[int, int]]:
        """Split and number of every shard; the position in this list is the shard's number in the shuffle."""
        return [(split, number) for split, stops in enumerate(self.stops) for number in range(len(stops))]

    def name(self, shard: int) -> str:
        """Path of a shard's TFRecord file below the folder of the dataset's files."""
        split, number = self.shards[shard]
        return f"{schema.SPLITS[split]}/shard-{number:05d}-of-{len(self.stops[split]):05d}.tfrecord"

    def events(self, shard: int) -> tuple[int, int]:
        """Ranks in its split of a shard's first event, and of the one after its last."""
        split, number = self.shards[shard]
        return self.stops[split][number - 1] if number else 0, self.stops[split][number]


@dataclass(frozen=True)
class ShardOutput:
    """What the shards of a dataset look like, and where they are written.

    Attributes:
        dataset: The dataset's folder.
        content: Folder of its files, relative to it.
        classes: In the order of their labels.
        scaling: Fitted on the training split.
        parquet: Write the Parquet form too.
    """

    dataset: Key
    content: str
    classes: tuple[str, ...]
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
    spark: SparkSession,
    units: Sequence[SelectedUnit],
    cuts: Cuts,
    plan: ShardPlan,
    output: ShardOutput,
    there: Collection[int],
    done: Accumulator[int],
) -> dict[int, Unit]:
    """Shuffle the kept events to their shards and write these.

    Args:
        spark: The session.
        units: Selected events.
        cuts: Where each event goes.
        plan: What the shards are.
        output: What they look like, and where they are written.
        there: Shards that are done already.
        done: Counts the written events.

    Returns:
        Number of each shard that was not there → its record.

    Raises:
        InvalidInputError: A file is damaged.
        OSError: The disk is full.
    """
    rows = [(pickle.dumps([units[i] for i in share]),) for share in balance([unit.events for unit in units])]
    shared = spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), "units binary")
    blocks = shared.mapInArrow(_packer(cuts, frozenset(there)), BLOCK_ROW)
    shuffled = blocks.repartitionById(len(plan.shards), F.col("shard"))
    return collect_records(shuffled.mapInArrow(_shard_writer(plan, output, done), RECORD_ROW))


# --- in the tasks ------------------------------------------------------------------------------------------------


def _read_keys(item: KeysItem) -> Keys:
    with open_selected(item.unit.key, item.unit.unit) as file:
        return file.keys()


def _report(item: ReportItem) -> UnitReport:
    label = item.unit.label
    with open_selected(item.unit.key, item.unit.unit) as file:
        keys = file.keys()
        slots = item.cuts.slots(label, keys)
        kept = np.flatnonzero(slots < NOT_KEPT)
        weights, high_level = file.flat(kept)
        training = high_level[slots[kept] == TRAIN]
        return UnitReport(
            weights={split: _sums(weights[slots[kept] == split]) for split in range(NOT_KEPT)},
            minimum=training.min(axis=0, initial=np.inf),
            maximum=training.max(axis=0, initial=-np.inf),
            particles=_moments(file, item.cuts.is_fitted(label, keys, slots)),
        )


def _sums(weights: NDArray[np.float32]) -> tuple[int, WeightSums]:
    return len(weights), WeightSums.of(weights.tolist())


def _moments(file: SelectedFile, fitted: NDArray[np.bool_]) -> Moments:
    width, columns = len(schema.LOW_LEVEL_FEATURES), len(SCALED_FEATURES)
    offset, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
    moments = Moments.empty(columns)
    for batch in file.batches(np.flatnonzero(fitted)):
        lengths, records = np.diff(batch.offsets), batch.particle_records()
        weights, chosen = np.repeat(batch.weights, lengths), np.flatnonzero(np.repeat(fitted[batch.rows], lengths))
        for start in range(0, len(chosen), BLOCK):
            block = chosen[start : start + BLOCK]
            moments = moments.merge(Moments.of(scaled_features(records, block, offset, scale), weights[block], columns))
    return moments


def _packer(cuts: Cuts, there: Collection[int]) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        rows = (row for batch in batches for row in batch.column("units").to_pylist())
        return pack(piece for row in rows for unit in pickle.loads(row) for piece in _pieces(unit, cuts, there))

    return task


def _pieces(unit: SelectedUnit, cuts: Cuts, there: Collection[int]) -> Iterator[tuple[int, str, Records, list[Bytes]]]:
    """A unit's events by shard."""
    # Of the first and the last row group of a run, about half is read in vain.
    size = unit.unit.outputs[0].bytes
    most = cuts.kept_share(unit.label) * size + GROUP_BYTES > size / 2
    with open_selected(unit.key, unit.unit, whole=most) as file:
        keys = file.keys()
        shuffle = shuffle_keys(keys, cuts.seed)
        shards = cuts.shard_numbers(cuts.slots(unit.label, keys), shuffle)
        shards[np.isin(shards, list(there))] = -1
        for batch in file.batches(np.flatnonzero(shards >= 0)):
            events, of_batch = _event_records(batch, shuffle[batch.rows]), shards[batch.rows]
            content = batch.particle_records().view(np.uint8)
            bounds = list(pairwise((batch.offsets * PARTICLE_RECORD.itemsize).tolist()))
            order = np.argsort(of_batch, kind="stable")
            for rows in np.split(order, np.flatnonzero(np.diff(of_batch[order])) + 1):
                if (shard := int(of_batch[rows[0]])) >= 0:
                    yield shard, unit.unit.source, events[rows], [content[slice(*bounds[row])] for row in rows]


def _event_records(batch: SelectedBatch, shuffle: Keys) -> Records:
    events = np.zeros(len(batch.rows), EVENT_RECORD)
    events["shuffle_key"], events["entry"], events["length"] = shuffle, batch.entries, np.diff(batch.offsets)
    events["weight"], events["pileup"], events["high_level"] = batch.weights, batch.pileup, batch.high_level
    return events


def _shard_writer(
    plan: ShardPlan, output: ShardOutput, done: Accumulator[int]
) -> Callable[[Batches], Iterator[pa.RecordBatch]]:
    def task(batches: Batches) -> Iterator[pa.RecordBatch]:
        filled = [batch for batch in batches if batch.num_rows]
        if filled:
            shard = filled[0].column("shard")[0].as_py()
            yield record_batch(shard, partial(_write, plan, shard, unpack(filled), output))
            done.add(plan.events(shard)[1] - plan.events(shard)[0])

    return task


def _write(plan: ShardPlan, shard: int, events: ShardEvents, output: ShardOutput) -> Unit:
    split, number = plan.shards[shard]
    start, stop = plan.events(shard)
    if len(events.sources) != stop - start:
        raise RuntimeError(f"{plan.name(shard)}: {len(events.sources)} events came, not {stop - start}")
    return write_unit(
        output.dataset,
        f"{output.content}/{plan.name(shard)}",
        _scaled(events, output),
        output.classes,
        parquet=output.parquet,
        source=f"{schema.SPLITS[split]}/{number}",
        source_checksum="",
        entry_start=start,
    )


def _scaled(events: ShardEvents, output: ShardOutput) -> Iterator[ShardBatch]:
    scaling, known = output.scaling, labels_of(output.classes)
    for start in range(0, len(events.sources), BATCH_EVENTS):
        chosen = slice(start, start + BATCH_EVENTS)
        sources, rows = events.sources[chosen], events.events[chosen]
        samples = [sample_of(source) for source in sources]
        offsets = np.concatenate([[0], np.cumsum(rows["length"], dtype=np.int64)])
        yield ShardBatch(
            event_ids=[f"{source}:{entry}" for source, entry in zip(sources, rows["entry"].tolist(), strict=True)],
            labels=np.array([known[sample] for sample in samples]),
            weights=scaling.apply_weights(samples, rows["weight"]),
            pileup=rows["pileup"],
            high_level=scaling.apply_high_level(rows["high_level"]),
            offsets=offsets,
            particles=scale_particles(np.concatenate(events.particles[chosen]).view(PARTICLE_RECORD), offsets, scaling),
        )


def scale_particles(records: Records, offsets: NDArray[np.int64], scaling: Scaling) -> NDArray[np.float32]:
    """Features of stored particles, in sequence order and scaled: never padded, so that padding can be masked later.

    Args:
        records: Stored particles, :data:`~toposieve.io.selected.PARTICLE_RECORD`, (particles,).
        offsets: (events + 1,).
        scaling: Fitted on the training split.

    Returns:
        (particles, 19)
    """
    order = sequence_order(offsets, records["Eta"], records["Phi"])
    return scaled_features(records, order, scaling.particle_offset, scaling.particle_scale)
