"""A training step of our models against plain Keras ``fit`` of the published ones: events per CPU second, one thread.

Each runs in a process of its own, which this file is. Compilation is left out, and so is reading.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.inputs import Bench
from benchmarks.measure import measured
from benchmarks.table import Figure
from toposieve import schema

BATCH = 128
ROUNDS = 8
PARTICLES = 485, 127
"""Mean and standard deviation of an event's, as published: pile-up 20."""


class Goals(NamedTuple):
    """In multiples of plain Keras."""

    must: float
    stretch: float
    published_batch: int = BATCH
    """Smaller where plain Keras takes too much memory."""


GOALS = {
    "inclusive": Goals(2.5, 4.0),
    "inclusive_lstm": Goals(2.5, 3.5),
    "inclusive_transformer": Goals(3.0, 5.0, published_batch=16),
}


def rows(bench: Bench) -> list[Figure]:
    """One for each model."""
    return [_row(name, goals) for name, goals in GOALS.items()]


def _row(name: str, goals: Goals) -> Figure:
    published = _measure(name, "published", goals.published_batch)
    with measured() as usage:
        ours = _measure(name, "ours", BATCH)
    label = f"train {name}, batch {BATCH}, against plain Keras"
    must, stretch = goals.must * published, goals.stretch * published
    return Figure(label, ours, "events/s", published, must, stretch, peak_bytes=usage.peak_process_bytes)


def _measure(name: str, which: str, batch: int) -> float:
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "benchmarks.training", name, which, str(batch)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return float(done.stdout.splitlines()[-1])


def main(name: str, which: str, events: str) -> None:
    """Print events per CPU second in the best of some rounds."""
    step = {"ours": _step, "published": _published_step}[which](name, _batch(int(events)))
    step()
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        step()
        seconds.append(time.process_time() - start)
    print(int(events) / min(seconds))


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


def _step(name: str, batch: dict[str, np.ndarray]) -> Callable[[], object]:
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
    return lambda: steps.train([tensors], 0, np.zeros(len(SUM_NAMES)))


def _published_step(name: str, batch: dict[str, np.ndarray]) -> Callable[[], object]:
    from support.published_definitions import PUBLISHED, TRANSFORMERS

    _, build = (PUBLISHED | TRANSFORMERS)[name]
    model = build()
    model.compile("adam", "sparse_categorical_crossentropy")
    inputs = {key: batch[key] for key in model.input}
    return lambda: model.fit(inputs, batch["label"], batch_size=len(batch["label"]), verbose=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
