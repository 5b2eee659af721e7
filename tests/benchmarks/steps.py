"""Steps of training: those of a small model on all cores, and those of two workers against one, a core each.

Rates per second, not per CPU second: what several steps in a call, or several workers, are for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.preparation import dataset
from benchmarks.table import Figure
from support.gangs import free_addresses, tf_config
from toposieve.environment import JOBS_FOLDER

GOALS = {128: (150_000.0, 300_000.0), 1024: (500_000.0, 1_000_000.0)}
"""Batch size → rows per second that must and should be."""
MUST_SCALE, SHOULD_SCALE = 1.6, 1.8
EPOCHS = 4
ROUNDS = 5
ROWS = 2**18


def rows(bench: Bench) -> Iterator[Figure]:
    """Small model first."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.steps"], check=True, stdout=subprocess.PIPE)
    speed = limits(bench.base).speed
    for size, (one, several) in json.loads(done.stdout.splitlines()[-1]).items():
        must, stretch = (goal * speed for goal in GOALS[int(size)])
        yield Figure(f"hlf steps, batch {size}, against one a call", several, "rows/s", one, must, stretch)
    folder = dataset(bench)
    alone, together = (_epoch_rate(folder, workers) for workers in (1, 2))
    name = "train inclusive, two workers against one"
    yield Figure(name, together, "events/s", alone, MUST_SCALE * alone, SHOULD_SCALE * alone)


def _epoch_rate(folder: Path, workers: int) -> float:
    """Events per second of the fastest epoch after the first."""
    addresses = free_addresses(workers)
    with tempfile.TemporaryDirectory(prefix="toposieve-bench-") as base:
        (Path(base) / "datasets").mkdir()
        (Path(base) / "datasets" / folder.name).symlink_to(folder)
        settings = [f"--set=epochs={EPOCHS}", f"--set=patience={EPOCHS}"]
        command = [sys.executable, JOBS_FOLDER / "train.py", "--base", base, "--dataset", folder.name, *settings]
        processes = [
            subprocess.Popen(
                ["taskset", "--cpu-list", str(core), *command],
                env={**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_CONFIG": tf_config(addresses, index)},
            )
            for index, core in zip(range(workers), sorted(os.sched_getaffinity(0)), strict=False)
        ]
        if any([process.wait() for process in processes]):
            raise RuntimeError(f"{workers} workers failed: see their output")
        [timing] = Path(base).glob("models/*/*/timing.json")
        times = json.loads(timing.read_text(encoding="utf-8"))
    return float(times["events"] / EPOCHS / min(times["epoch_seconds"][1:]))


def main() -> None:
    """Print, as JSON, batch size → rows per second with one step in a call and with as many as training does."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from toposieve.training import steps

    print(json.dumps({size: [_rate(size, each) for each in (1, steps.STEPS_PER_CALL)] for size in GOALS}))


def _rate(size: int, per_call: int) -> float:
    """Rows per second of the best of some rounds."""
    import keras
    import numpy as np
    import tensorflow as tf

    from toposieve.config import TrainingConfig
    from toposieve.models import ARCHITECTURES
    from toposieve.training import steps
    from toposieve.training.architectures import build_model
    from toposieve.training.rehearsal import typical_batch

    steps.STEPS_PER_CALL = per_call
    batch = typical_batch(size, ARCHITECTURES["hlf"].inputs, 3)
    spec = {name: tf.TensorSpec(values.shape, values.dtype) for name, values in batch.items()}
    model, optimizer = build_model(TrainingConfig(model="hlf"), 3), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    of = {"seed": 1, "event_weights": "absolute", "signed_factors": (1.0,) * 3}
    train = steps.build_steps(model, optimizer, tf.distribute.get_strategy(), spec, **of).train
    sums, seconds = train([batch], 0, np.zeros(len(steps.SUM_NAMES))), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for first in range(0, ROWS // size, per_call):
            sums = train([batch] * per_call, first, sums)
        seconds.append(time.perf_counter() - start)
    return ROWS / min(seconds)


if __name__ == "__main__":
    main()
