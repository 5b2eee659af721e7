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
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.preparation import dataset
from benchmarks.table import Figure
from support.gangs import free_addresses, tf_config
from toposieve.environment import JOBS_FOLDER
from toposieve.training.records import Batch

GOALS = {128: (150_000.0, 300_000.0), 1024: (500_000.0, 1_000_000.0)}
"""Batch size → rows per second that must and should be."""
MUST_SCALE, SHOULD_SCALE = 1.6, 1.8
EPOCHS = 4
ROUNDS = 5
ROWS = 2**18


def rows(bench: Bench) -> Iterator[Figure]:
    """Small model first."""
    folder = dataset(bench)
    done = subprocess.run([sys.executable, "-m", "benchmarks.steps", folder], check=True, stdout=subprocess.PIPE)
    speed = limits(bench.base).speed
    for size, (one, several, tables) in json.loads(done.stdout.splitlines()[-1]).items():
        goals = [goal * speed for goal in GOALS[int(size)]]
        yield Figure(f"hlf steps, batch {size}, against one a call", several, "rows/s", one, *goals)
        yield Figure("  the same, fed from tables", tables, "rows/s", several, *goals)
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


def main(folder: str) -> None:
    """Print, as JSON, batch size → rows per second with one step in a call, with as many as training does, from tables.

    Args:
        folder: Of a dataset, whose tables are read over and over again.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from toposieve.io.store import root_key
    from toposieve.training.cache import Cache
    from toposieve.training.input_pipeline import Epochs, training_batches
    from toposieve.training.order import Share
    from toposieve.training.shards import open_dataset
    from toposieve.training.sources import open_source
    from toposieve.training.steps import STEPS_PER_CALL

    train = open_dataset(root_key("--base", folder)).train
    split = replace(train, shards=train.shards * -(-ROWS // train.events))
    source, found = open_source(split, ("high_level",), Cache()), {}
    for size in GOALS:
        batches = training_batches(split, source, Share(size), Epochs(1, 0, ROUNDS))
        found[size] = [_rate(size, 1), _rate(size, STEPS_PER_CALL), _rate(size, STEPS_PER_CALL, batches)]
    print(json.dumps(found))


def _rate(size: int, per_call: int, batches: Iterator[Batch] | None = None) -> float:
    """Rows per second of the best of some rounds; without batches to read, all are the same."""
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
            sums = train(list(islice(batches or repeat(batch), per_call)), first, sums)
        seconds.append(time.perf_counter() - start)
    return ROWS / min(seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
