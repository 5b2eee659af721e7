"""Preparation from end to end: how many events go where, which ones, and the passes that bring them there."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pyspark import Accumulator
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.errors import InvalidInputError
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
    find_shards,
    published_shards,
    unit_reports,
    write_shards,
)
from toposieve.spark.ranks import KeyHistogram, slot_column
from toposieve.spark.run import Watch
from toposieve.weights import WeightSums

TRAIN = schema.SPLITS.index("train")
MAX_NAMED_FILES = 5
HISTOGRAM_TASKS = 4

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
        InvalidInputError: A selected file is missing or altered, an event has a NaN or infinite feature, or there are
            too few events.
    """
    config, units, selected = dataset.preparation, inputs.units, inputs.base / "selected"
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
    with _watching(spark, "examining selected events", sum(available.values())) as counted:
        reports = unit_reports(events, selected, counted)
    refuse_bad_events(reports, units)
    content = content_folder(inputs, dataset)
    output = ShardOutput(folder, content, fit_scaling(reports, units), config.parquet)
    scaling = _write_scaling(output)
    done = published_shards(plan, output, kept) | (find_shards(plan, output) if adopt else {})
    logger.info("%d shards: %d done before, %d to do", len(plan.shards), len(done), len(plan.shards) - len(done))
    with _watching(spark, "writing shards", sum(sizes.values())) as counted:
        shards = {**done, **write_shards(events, selected, plan, output, done, counted)}
    rows.unpersist()
    check_shards(plan, shards, splits)
    in_order = [shards[number] for number in sorted(shards)]
    return DatasetContent(shards=in_order, scaling=scaling, sizes=splits, weights=kept_weights(reports, units))


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
    factors = weight_factors({sample: (events, sums.absolute) for sample, (events, sums) in training.items()})
    parts = ((units[index].sample, report.statistics) for index, report in reports.items())
    return Scaling.fit(parts, factors)


def kept_weights(reports: Mapping[int, UnitReport], units: Sequence[SelectedUnit]) -> dict[str, dict[str, WeightSums]]:
    """Sums of event weights of each sample: of all kept events, and of those of each split."""
    steps = {"balanced": range(NOT_KEPT), **{split: [slot] for slot, split in enumerate(schema.SPLITS)}}
    return {
        sample: {step: _sums(sample, slots, reports, units)[1] for step, slots in steps.items()}
        for sample in schema.SAMPLES
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
            raise RuntimeError(f"shard {split}/{number} has {counts}, planned are {stop - start} events")
    for split, planned in splits.items():
        of_split = [unit for unit in shards.values() if unit.source.startswith(f"{split}/")]
        found = {sample: sum(unit.counts[sample] for unit in of_split) for sample in planned}
        if found != planned:
            raise RuntimeError(f"{split} has {found}, planned are {planned}")


def _set_shuffle_tasks(spark: SparkSession) -> None:
    # Histograms are small: Spark's 200 tasks would only cost time.
    spark.conf.set("spark.sql.shuffle.partitions", HISTOGRAM_TASKS)


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
