"""Training the inclusive model on one worker: events per CPU second, graph compilation left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.measure import Usage, measured
from benchmarks.preparation import dataset
from benchmarks.table import Figure
from toposieve.environment import JOBS_FOLDER
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

EPOCHS = 6
MUST, STRETCH = 850.0, 1870.0


def rows(bench: Bench) -> list[Figure]:
    """Long run less short run: what the epochs alone cost."""
    folder = dataset(bench)
    short, long = _train(bench.base, 1), _train(bench.base, EPOCHS)
    units = read_manifest(root_key("--base", str(folder))).units
    events = sum(unit.counts["events"] for unit in units if unit.source.startswith("train/"))
    rate = events * (EPOCHS - 1) / (long.cpu_seconds - short.cpu_seconds)
    name, speed = "train inclusive (GRU), batch 128, one worker", limits(bench.base).speed
    goals = {"must": MUST * speed, "stretch": STRETCH * speed}
    return [Figure(name, rate, "events/s", peak_bytes=long.peak_process_bytes, **goals)]


def _train(base: Path, epochs: int) -> Usage:
    settings = [f"--set=epochs={epochs}", f"--set=patience={epochs}"]  # so that none is left out
    command = [sys.executable, JOBS_FOLDER / "train.py", "--base", base, "--dataset", "bench", *settings]
    with measured() as usage:
        subprocess.run(command, check=True, env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1"})
    return usage
