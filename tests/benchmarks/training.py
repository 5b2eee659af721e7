"""Training the inclusive model on one worker: events per CPU second, graph compilation left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Usage, measured
from benchmarks.preparation import prepare
from benchmarks.table import Row
from toposieve.environment import JOBS_FOLDER
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

EPOCHS = 6
GOAL = 1870.0


def rows(base: Path) -> list[Row]:
    """Long run less short run: what the epochs alone cost."""
    prepare(base)
    short, long = _train(base, 1), _train(base, EPOCHS)
    usage = Usage(long.cpu_seconds - short.cpu_seconds, long.peak_process_bytes)
    units = read_manifest(root_key("--base", str(base)) / "datasets" / "bench").units
    events = sum(unit.counts["events"] for unit in units if unit.source.startswith("train/"))
    return [Row("train inclusive (GRU), batch 128, one worker", events * (EPOCHS - 1), usage, goal=GOAL)]


def _train(base: Path, epochs: int) -> Usage:
    command = [sys.executable, JOBS_FOLDER / "train.py", "--base", base, "--dataset", "bench", f"--set=epochs={epochs}"]
    with measured() as usage:
        subprocess.run(command, check=True, env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"})
    return usage
