"""Preparation from end to end: how many events go where, which ones, and the passes that bring them there."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.errors import InvalidInputError
from toposieve.io import manifests
from toposieve.io.datasets import (
    SCALING_NAME,
    Cutflow,
    DatasetConfig,
    DatasetContent,
    SelectedInputs,
    SelectedUnit,
    name_digits,
)
from toposieve.preprocessing import (
    Scaling,
    SplitSizes,
    class_sizes,
    shard_stops,
    split_sizes,
    split_stops,
    weight_factors,
)
from toposieve.spark.preparation_passes import (
    NOT_KEPT,
    ShardOutput,
    ShardPlan,
    UnitReport,
    check_units,
    event_rows,
    unit_reports,
    write_shards,
)
from toposieve.spark.ranks import KeyHistogram, slot_column
from toposieve.spark.tasks import progress

TRAIN = schema.SPLITS.index("train")
MAX_NAMED_FILES = 5

logger = logging.getLogger(__name__)


def prepare(spark: SparkSession, inputs: SelectedInputs, dataset: DatasetConfig, staging: Path) -> DatasetContent:
    """Make a dataset's files in a staging folder.

    Args:
        spark: The session.
        inputs: Selected partitions.
        dataset: Balance, split, shards, and the partitions.
        staging: Existing folder to write below.

    Raises:
        InvalidInputError: A selected file is missing or altered, an event has a NaN or infinite feature, or there are
            too few events.
    """
    config, units = dataset.preparation, inputs.units
    available = {sample: counts[schema.CUTFLOW[-1]] for sample, counts in inputs.cutflow().items()}
    sizes = class_sizes(available, config)
    splits = split_sizes(sizes, config)
    stops = {i: shard_stops(split, sum(splits[split].values()), config) for i, split in enumerate(schema.SPLITS)}
    logger.info("selected events: %s; kept: %s", _listing(available), _listing(sizes))
    _set_shuffle_tasks(spark)
    check_units(spark, units)
    logger.info("checked %d selected files", len(units))
    rows = event_rows(spark, units, config.seed)
    events = assign_splits(rows, sizes, config)
    plan = plan_shards(events, stops)
    logger.info("planned %d shards", len(plan.shards))
    with progress(spark, "examining selected events", sum(available.values())) as done:
        reports = unit_reports(events, units, done)
    refuse_bad_events(reports, units)
    scaling = fit_scaling(reports, units)
    _make_folders(staging, scaling)
    with progress(spark, "writing shards", sum(sizes.values())) as done:
        output = ShardOutput(staging, scaling, config.parquet, name_digits(inputs, dataset))
        written = write_shards(events, units, plan, output, done)
    rows.unpersist()
    return DatasetContent(
        shards=shard_units(plan, written, splits),
        scaling=manifests.describe_file(staging / SCALING_NAME, staging),
        sizes=splits,
        weights=kept_weights(reports, units),
    )


def _make_folders(staging: Path, scaling: Scaling) -> None:
    (staging / SCALING_NAME).write_text(scaling.to_json())
    for split in schema.SPLITS:
        (staging / split).mkdir()


def assign_splits(rows: DataFrame, sizes: Mapping[str, int], config: PreparationConfig) -> DataFrame:
    """Add a column ``slot``: the position of each event's split in ``schema.SPLITS``, or ``NOT_KEPT``.

    In each class the events with the smallest split keys are kept; the first of these are for training, and so on.

    Args:
        rows: Columns ``label``, ``split_key``, ``unit``, ``entry`` and others.
        sizes: Events to keep of each sample.
        config: The fractions.
    """
    stops = {schema.LABELS[sample]: split_stops(events, config) for sample, events in sizes.items()}
    boundaries = KeyHistogram.of(rows, "label", "split_key").boundaries(stops)
    return rows.withColumn("slot", slot_column("label", "split_key", boundaries))


def plan_shards(events: DataFrame, stops: Mapping[int, Sequence[int]]) -> ShardPlan:
    """Cut each split, in order of the shuffle keys, at the given ranks."""
    kept = events.filter(F.col("slot") < NOT_KEPT)
    return ShardPlan(KeyHistogram.of(kept, "slot", "shuffle_key").boundaries(stops), stops)


def refuse_bad_events(reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]) -> None:
    """Refuse a dataset with values that are not finite.

    Raises:
        InvalidInputError: Some events have a NaN or infinite value; the message counts them and names files.
    """
    bad = {index: report for index, report in reports.items() if report.bad_events}
    if bad:
        total = sum(report.bad_events for report in bad.values())
        named = [f"{units[index].unit.source} {report.first_bad}" for index, report in bad.items()][:MAX_NAMED_FILES]
        raise InvalidInputError(
            f"{total} events in {len(bad)} selected files have NaN or infinite features: {'; '.join(named)}; "
            "find out why, and ingest and select again"
        )


def fit_scaling(reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]) -> Scaling:
    """Scaling from the training events of every unit, merged in order of the units."""
    training = {sample: _sums(sample, [TRAIN], reports, units) for sample in schema.SAMPLES}
    parts = ((units[index].sample, report.statistics) for index, report in reports.items())
    return Scaling.fit(parts, weight_factors(training))


def kept_weights(reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]) -> Cutflow:
    """Summed event weights of each sample: all kept events, and those of each split."""
    steps = {"balanced": range(NOT_KEPT), **{split: [slot] for slot, split in enumerate(schema.SPLITS)}}
    return {
        sample: {step: _sums(sample, slots, reports, units)[1] for step, slots in steps.items()}
        for sample in schema.SAMPLES
    }


def _sums(
    sample: str, slots: Sequence[int], reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]
) -> tuple[int, float]:
    """Number and summed weight of a sample's events in some slots."""
    of_sample = [report for index, report in reports.items() if units[index].sample == sample]
    sums = [report.weights[slot] for report in of_sample for slot in slots if slot in report.weights]
    return sum(events for events, _ in sums), math.fsum(weight for _, weight in sums)


def shard_units(plan: ShardPlan, written: Mapping[int, Mapping[str, Any]], splits: SplitSizes) -> list[manifests.Unit]:
    """Manifest units of the written shards.

    Raises:
        RuntimeError: The shards do not hold what was planned: a defect of this program, or of Spark.
    """
    units = []
    for shard, (split, number) in enumerate(plan.shards):
        ends = plan.stops[schema.SPLITS.index(split)]
        start, stop = ends[number - 1] if number else 0, ends[number]
        counts = written[shard]["counts"] if shard in written else {}
        if sum(counts.values()) != stop - start:
            raise RuntimeError(f"shard {split}/{number} has {counts}, planned are {stop - start} events")
        units.append(
            manifests.Unit(
                source=f"{split}/{number}",
                source_checksum="",
                entry_start=start,
                entry_stop=stop,
                counts={"events": stop - start, **counts},
                outputs=tuple(manifests.OutputFile(**file) for file in written[shard]["outputs"]),
            )
        )
    _check_counts(units, splits)
    return units


def _check_counts(shards: Sequence[manifests.Unit], splits: SplitSizes) -> None:
    for split, planned in splits.items():
        of_split = [shard for shard in shards if shard.source.startswith(f"{split}/")]
        found = {sample: sum(shard.counts[sample] for shard in of_split) for sample in planned}
        if found != planned:
            raise RuntimeError(f"{split} has {found}, planned are {planned}")


def _set_shuffle_tasks(spark: SparkSession) -> None:
    # Histograms are small: Spark's 200 tasks would only cost time.
    spark.conf.set("spark.sql.shuffle.partitions", str(spark.sparkContext.defaultParallelism))


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
