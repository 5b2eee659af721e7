from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from toposieve.io.datasets import SelectedUnit
from toposieve.io.manifests import Unit
from toposieve.spark.preparation_passes import EVENTS_PER_TASK, TASKS_PER_CORE, event_rows

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
    return [SelectedUnit(Path(), unit)] * count


@pytest.mark.parametrize(
    ("count", "events", "per_core"),
    [(100, 10, 1), (100, EVENTS_PER_TASK, TASKS_PER_CORE), (100, 3 * EVENTS_PER_TASK // 100, 1.5)],
)
def test_few_events_make_few_tasks(spark: SparkSession, count: int, events: int, per_core: float) -> None:
    rows = event_rows(spark, units(count, events), seed=1)
    assert rows.rdd.getNumPartitions() == per_core * spark.sparkContext.defaultParallelism
    rows.unpersist()
