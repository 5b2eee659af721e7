"""Preparation from end to end: how many events go where, which ones, and the passes that bring them there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from pyspark import Accumulator
from pyspark.sql import SparkSession

from toposieve import schema
from toposieve.assignment import NOT_KEPT, TRAIN, find_cuts
from toposieve.config import PreparationConfig
from toposieve.io.datasets import (
    SCALING_NAME,
    DatasetConfig,
    DatasetContent,
    SelectedInputs,
    SelectedUnit,
    content_folder,
)
from toposieve.io.manifests import OutputFile, Unit, describe_file
from toposieve.io.store import Key
from toposieve.preprocessing import (
    Scaling,
    SplitSizes,
    class_sizes,
    shard_stops,
    split_sizes,
    weight_factors,
)
from toposieve.spark.blocks import BLOCK_BYTES
from toposieve.spark.preparation_passes import (
    ShardOutput,
    ShardPlan,
    UnitReport,
    find_shards,
    published_shards,
    read_keys,
    unit_reports,
    write_shards,
)
from toposieve.spark.run import Watch
from toposieve.weights import WeightSums

SHARD_BYTES = 256_000_000
"""Most bytes of a shard's events, as they are stored by the selection; its task holds them unpacked, twice as large."""

logger = logging.getLogger(__name__)


def prepare(
    spark: SparkSession,
    inputs: SelectedInputs,
    dataset: DatasetConfig,
    folder: Key,
    kept: Iterable[Unit],
    *,
    adopt: bool = True,
) -> DatasetContent:
    """Make a dataset's files, but for those that an earlier run has finished.

    Args:
        spark: The session.
        inputs: Selected partitions.
        dataset: Balance, split, shards, and the partitions.
        folder: The dataset's.
        kept: Shards that are published already, of whatever content.
        adopt: Take over shards that an earlier run has finished and not published.

    Raises:
        InvalidInputError: A selected file is missing or altered, or there are too few events.
    """
    units = inputs.units
    config = with_bounded_shards(dataset.preparation, units)
    available = {sample: counts[schema.CUTFLOW[-1]] for sample, counts in inputs.cutflow().items()}
    sizes = class_sizes(available, config)
    splits = split_sizes(sizes, config)
    plan = ShardPlan([shard_stops(sum(splits[split].values()), config) for split in schema.SPLITS])
    logger.info("selected events: %s; kept: %s", _listing(available), _listing(sizes))
    keys = read_keys(spark, units)
    logger.info("checked %d selected files", len(units))
    cuts = find_cuts(keys, dict(enumerate(sizes.values())), plan.stops, config)
    reports = unit_reports(spark, units, cuts)
    scaling, content = fit_scaling(reports, units, inputs.classes), content_folder(inputs, dataset)
    output = ShardOutput(folder, content, inputs.classes, scaling, config.parquet)
    scaling_file = _write_scaling(output)
    done = published_shards(plan, output, kept) | (find_shards(plan, output) if adopt else {})
    logger.info("%d shards: %d done before, %d to do", len(plan.shards), len(done), len(plan.shards) - len(done))
    shards = dict(done)
    if len(done) < len(plan.shards):
        _bound_batches(spark)
        with _watching(spark, "writing shards", sum(sizes.values())) as counted:
            shards |= write_shards(spark, units, cuts, plan, output, done, counted)
    check_shards(plan, shards, splits)
    in_order = [shards[number] for number in sorted(shards)]
    weights = kept_weights(reports, units, inputs.classes)
    return DatasetContent(shards=in_order, scaling=scaling_file, sizes=splits, weights=weights)


def with_bounded_shards(config: PreparationConfig, units: Sequence[SelectedUnit]) -> PreparationConfig:
    """The same configuration, with fewer events in a shard where they are so large that a task could not hold them."""
    events, size = sum(unit.events for unit in units), sum(file.bytes for each in units for file in each.unit.outputs)
    most = max(1, SHARD_BYTES * events // max(1, size))
    return config.model_copy(update={"events_per_shard": min(config.events_per_shard, most)})


@contextmanager
def _watching(spark: SparkSession, name: str, total: int) -> Iterator[Accumulator[int]]:
    watch = Watch.of(spark.sparkContext, name, total)
    with watch.watching():
        yield watch.done


def _write_scaling(output: ShardOutput) -> OutputFile:
    name = f"{output.content}/{SCALING_NAME}"
    with (output.dataset / name).create() as path:
        path.write_text(output.scaling.to_json(), encoding="utf-8")
        return describe_file(path, name)


def fit_scaling(reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit], classes: Sequence[str]) -> Scaling:
    """Scaling from the training events of every unit, merged in order of the units."""
    training = {sample: _sums(sample, [TRAIN], reports, units) for sample in classes}
    factors = weight_factors({sample: (events, sums.absolute) for sample, (events, sums) in training.items()})
    minimum = np.min([report.minimum for report in reports.values()], axis=0)
    maximum = np.max([report.maximum for report in reports.values()], axis=0)
    particles = ((units[index].sample, report.particles) for index, report in reports.items())
    return Scaling.fit(minimum, maximum, particles, factors)


def kept_weights(
    reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit], classes: Sequence[str]
) -> dict[str, dict[str, WeightSums]]:
    """Sums of event weights of each class: of all kept events, and of those of each split."""
    steps = {"balanced": range(NOT_KEPT), **{split: [slot] for slot, split in enumerate(schema.SPLITS)}}
    return {
        sample: {step: _sums(sample, slots, reports, units)[1] for step, slots in steps.items()} for sample in classes
    }


def _sums(
    sample: str, slots: Sequence[int], reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]
) -> tuple[int, WeightSums]:
    """Number of a sample's events in some slots, and sums of their weights."""
    of_sample = [report for index, report in reports.items() if units[index].sample == sample]
    sums = [report.weights[slot] for report in of_sample for slot in slots if slot in report.weights]
    return sum(events for events, _ in sums), WeightSums.merge(each for _, each in sums)


def check_shards(plan: ShardPlan, shards: Mapping[int, Unit], splits: SplitSizes) -> None:
    """Check that the shards hold what was planned.

    Raises:
        RuntimeError: They do not: a defect of this program, or of Spark.
    """
    for shard, (split, number) in enumerate(plan.shards):
        start, stop = plan.events(shard)
        counts = shards[shard].counts if shard in shards else {"events": 0}
        if counts["events"] != stop - start:
            raise RuntimeError(f"shard {schema.SPLITS[split]}/{number} has {counts}, planned are {stop - start} events")
    for name, planned in splits.items():
        of_split = [unit for unit in shards.values() if unit.source.startswith(f"{name}/")]
        found = {sample: sum(unit.counts[sample] for unit in of_split) for sample in planned}
        if found != planned:
            raise RuntimeError(f"{name} has {found}, planned are {planned}")


def _bound_batches(spark: SparkSession) -> None:
    # Rows are blocks of megabytes: Spark's thousand at a time would fill a worker's memory.
    spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(BLOCK_BYTES))


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
