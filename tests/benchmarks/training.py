"""A training step of our models against plain Keras ``fit`` of the published ones: events per CPU second, one thread.

Each runs in a process of its own, which this file is. Compilation is left out, and so is reading, and what a call of
``fit`` costs beside its steps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.inputs import Bench
from benchmarks.measure import measured
from benchmarks.table import Figure, memory
from toposieve import schema
from toposieve.environment import job_variables

BATCH = 128
ROUNDS = 4
FEW, MANY = 1, 8
"""Steps of two runs: what another step costs is their difference."""
PARTICLES = 485, 127
"""Mean and standard deviation of an event's, as published: pile-up 20."""


class Goals(NamedTuple):
    """Rates in multiples of plain Keras."""

    must: float
    stretch: float
    published_batch: int = BATCH
    """Smaller where plain Keras takes too much memory."""
    most_memory: float | None = None
    """MB of ours."""


GOALS = {
    "inclusive": Goals(2.5, 4.0),
    "inclusive_lstm": Goals(2.5, 3.5),
    "inclusive_transformer": Goals(3.0, 5.0, published_batch=16, most_memory=8000.0),
}


def rows(bench: Bench) -> Iterator[Figure]:
    """Rate and memory of each model."""
    for name, goals in GOALS.items():
        published = _measure(name, "published", goals.published_batch)
        with measured() as usage:
            ours = _measure(name, "ours", BATCH)
        label = f"train {name}, batch {BATCH}, against plain Keras"
        yield Figure(label, ours, "events/s", published, goals.must * published, goals.stretch * published)
        yield memory("  the same, peak memory", usage.peak_process_bytes, goals.most_memory)


def _measure(name: str, which: str, batch: int) -> float:
    variables = job_variables(os.environ) if which == "ours" else {}
    environment = {**os.environ, **variables, "TF_NUM_INTRAOP_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "benchmarks.training", name, which, str(batch)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(done.stdout.splitlines()[-1])


def main(name: str, which: str, events: str) -> None:
    """Print events per CPU second in the best of some rounds."""
    train = {"ours": _trainer, "published": _published_trainer}[which](name, _batch(int(events)))
    train(FEW)
    seconds = {steps: min(_cpu_seconds(train, steps) for _ in range(ROUNDS)) for steps in (FEW, MANY)}
    print(int(events) * (MANY - FEW) / (seconds[MANY] - seconds[FEW]))


def _cpu_seconds(train: Callable[[int], object], steps: int) -> float:
    start = time.process_time()
    train(steps)
    return time.process_time() - start


def _batch(events: int) -> dict[str, np.ndarray]:
    """A batch as training reads it."""
    rng = np.random.default_rng(1)
    particles = rng.normal(size=(events, schema.MAX_PARTICLES, len(schema.LOW_LEVEL_FEATURES)))
    lengths = np.clip(rng.normal(*PARTICLES, events), 1, schema.MAX_PARTICLES)
    particles[np.arange(schema.MAX_PARTICLES) >= lengths[:, np.newaxis]] = 0.0
    return {
        "high_level": rng.normal(size=(events, len(schema.HIGH_LEVEL_FEATURES))).astype(np.float32),
        "particles": particles.astype(np.float32),
        "label": rng.integers(0, len(schema.SAMPLES), events),
        "weight": np.ones(events, np.float32),
        "present": np.ones(events, np.float32),
        "row": np.arange(events, dtype=np.int32),
    }


def _trainer(name: str, batch: dict[str, np.ndarray]) -> Callable[[int], object]:
    """Does so many steps on the batch."""
    import keras
    import tensorflow as tf

    from toposieve.config import TrainingConfig
    from toposieve.training.architectures import build_model
    from toposieve.training.steps import SUM_NAMES, build_steps

    model, optimizer = build_model(TrainingConfig(model=name), 3), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    tensors = {key: tf.constant(values) for key, values in batch.items()}
    spec = {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in tensors.items()}
    of = {"seed": 1, "event_weights": "none", "signed_factors": (1.0,) * len(schema.SAMPLES)}
    steps = build_steps(model, optimizer, tf.distribute.get_strategy(), spec, **of)
    return lambda count: [steps.train([tensors], step, np.zeros(len(SUM_NAMES))) for step in range(count)]


def _published_trainer(name: str, batch: dict[str, np.ndarray]) -> Callable[[int], object]:
    import tensorflow as tf

    from support.published_definitions import PUBLISHED, TRANSFORMERS

    _, build = (PUBLISHED | TRANSFORMERS)[name]
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    batches = tf.data.Dataset.from_tensors(({key: batch[key] for key in model.input}, batch["label"]))
    return lambda count: model.fit(batches.repeat(count), shuffle=False, verbose=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
