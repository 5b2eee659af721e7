from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import OutputFile, Unit
from toposieve.io.store import Key
from toposieve.io.units import write_record
from toposieve.spark.preparation_passes import ShardOutput, ShardPlan, event_rows, find_shards, published_shards
from toposieve.spark.run import EVENTS_PER_TASK, LEAST_TASKS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.mark.parametrize("module", ["preparation", "selection"])
def test_every_worker_starts_without_the_libraries_for_root_files(module: str) -> None:
    """They take .2 s of CPU to import, in each Python worker and in the driver."""
    program = f"import sys, toposieve.spark.{module}; print({{'uproot', 'awkward'}} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def units(count: int, events: int) -> list[SelectedUnit]:
    counts = {"isolated_lepton": events}
    unit = Unit(source="qcd/d/a.root", source_checksum="", entry_start=0, entry_stop=events, counts=counts, outputs=())
    return [SelectedUnit(Key("/nowhere"), unit)] * count


@pytest.mark.parametrize(
    ("count", "events", "tasks"),
    [(5, 10, 5), (100, 10, LEAST_TASKS), (100, EVENTS_PER_TASK, 100), (100, EVENTS_PER_TASK // 2, 50)],
)
def test_the_work_decides_the_number_of_tasks(spark: SparkSession, count: int, events: int, tasks: int) -> None:
    rows = event_rows(spark, units(count, events), seed=1)
    assert rows.rdd.getNumPartitions() == tasks
    rows.unpersist()


def test_unlisted_shards_are_found_by_their_records_and_only_whole(tmp_path: Path) -> None:
    plan = ShardPlan({0: [], 1: [], 2: []}, {0: [2], 1: [3], 2: [4]})
    output = ShardOutput(Key(str(tmp_path)), "0123456789ab", None, parquet=False)  # type: ignore[arg-type]
    assert find_shards(plan, output) == {}
    made = {}
    for shard, size in ((0, 3), (1, 4)):
        name = f"{output.content}/{plan.name(shard)}"
        (output.dataset / name).write_bytes(b"x" * size)
        file = OutputFile(path=name, bytes=3, checksum="0000000a")
        made[shard] = Unit(
            source=str(shard), source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=(file,)
        )
        write_record(output.dataset, name, made[shard])
    assert find_shards(plan, output) == {0: made[0]}
    assert published_shards(plan, output, made.values()) == made
    assert published_shards(plan, replace(output, content="ba9876543210"), made.values()) == {}
