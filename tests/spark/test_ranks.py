"""Exact cuts in a hash order against plain sorting."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from toposieve.spark.ranks import KeyHistogram, Position, hash_key, slot_column, slot_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Event = tuple[int, Position]  # group, (key, unit, entry)


def events(keys: list[int], groups: int = 2) -> list[Event]:
    return [(i % groups, (key, i % 5, i)) for i, key in enumerate(keys)]


def frame(spark: SparkSession, rows: list[Event], partitions: int = 3) -> DataFrame:
    data = [(group, *position) for group, position in rows]
    return spark.createDataFrame(data, "group int, key long, unit int, entry long").repartition(partitions)


def assigned(found: DataFrame, boundaries: dict[int, list[Position]]) -> dict[Position, int]:
    rows = found.withColumn("slot", slot_column("group", "key", boundaries)).collect()
    return {(row.key, row.unit, row.entry): row.slot for row in rows}


def expected(rows: list[Event], stops: dict[int, list[int]]) -> dict[Position, int]:
    slots = {}
    for group, ends in stops.items():
        ordered = sorted(position for of_group, position in rows if of_group == group)
        slots.update({position: bisect_right(ends, rank) for rank, position in enumerate(ordered)})
    return slots


RANDOM_KEYS = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, 300).tolist()
KEYS = {
    "random": RANDOM_KEYS,
    "all equal": [7] * 60,
    "few values": [-1, 0, 1] * 30,
    "extremes": [-(2**63), 2**63 - 1, -1, 0] * 10,
    "one bin": list(range(100, 0, -1)),
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_slots_are_those_of_sorting(spark: SparkSession, keys: list[int]) -> None:
    rows = events(keys)
    stops = {group: [1, len(keys) // 4, len(keys) // 3, len(keys) // 2] for group in (0, 1)}
    found = frame(spark, rows)
    boundaries = KeyHistogram.of(found, "group", "key").boundaries(stops)
    assert assigned(found, boundaries) == expected(rows, stops)
    bisected = {position: slot_of(position, boundaries[group]) for group, position in rows}
    assert bisected == expected(rows, stops)


def test_partitioning_does_not_matter(spark: SparkSession) -> None:
    rows, stops = events(RANDOM_KEYS), {0: [10, 40], 1: [77, 150]}
    cuts = [KeyHistogram.of(frame(spark, rows, n), "group", "key").boundaries(stops) for n in (1, 7)]
    assert cuts[0] == cuts[1]


def test_totals(spark: SparkSession) -> None:
    histogram = KeyHistogram.of(frame(spark, events(RANDOM_KEYS, groups=3)), "group", "key")
    assert [histogram.total(group) for group in range(4)] == [100, 100, 100, 0]


def test_events_beyond_the_last_stop_get_a_slot_of_their_own(spark: SparkSession) -> None:
    rows = events(RANDOM_KEYS, groups=1)
    found = frame(spark, rows)
    boundaries = KeyHistogram.of(found, "group", "key").boundaries({0: [100, 120]})
    slots = list(assigned(found, boundaries).values())
    assert [slots.count(slot) for slot in (0, 1, 2)] == [100, 20, 180]


def test_a_stop_at_the_end_needs_no_boundary(spark: SparkSession) -> None:
    histogram = KeyHistogram.of(frame(spark, events(RANDOM_KEYS, groups=1)), "group", "key")
    assert histogram.boundaries({0: [300]}) == {0: []}


def test_keys_depend_on_seed_salt_and_event_only(spark: SparkSession) -> None:
    files = spark.createDataFrame([("qcd/a.root", 1), ("qcd/a.root", 2), ("qcd/b.root", 1)], "file string, entry long")

    def keys(seed: int, salt: str, partitions: int = 1) -> dict[tuple[str, int], int]:
        rows = files.repartition(partitions).withColumn("key", hash_key(seed, salt, "file", "entry")).collect()
        return {(row.file, row.entry): row.key for row in rows}

    assert keys(1, "split") == keys(1, "split", partitions=3)
    everything = [key for seed in (1, 2) for salt in ("split", "shuffle") for key in keys(seed, salt).values()]
    assert len(set(everything)) == 12


def test_hash_keys_are_spread_evenly(spark: SparkSession) -> None:
    found = spark.range(20_000).withColumnRenamed("id", "entry").selectExpr("'f' AS file", "entry", "0 AS unit")
    keyed = found.withColumn("group", found.unit).withColumn("key", hash_key(1, "split", "file", "entry"))
    cuts = KeyHistogram.of(keyed, "group", "key").boundaries({0: [5_000, 10_000, 15_000]})[0]
    quarters = [-(2**63), *(key for key, _, _ in cuts), 2**63]
    for low, high in pairwise(quarters):
        assert (high - low) / 2**64 == pytest.approx(0.25, abs=0.02)
