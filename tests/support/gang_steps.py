"""A few steps of plain gradient descent on some models, by one worker or by each of a gang.

    python gang_steps.py FOLDER

writes the weights of each model to FOLDER, worker by worker: TF_CONFIG says which this is. Batches are partial, and
spread unevenly over the workers: what one worker divides by its own number of events shows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.models import ARCHITECTURES
from toposieve.training.architectures import build_model
from toposieve.training.gang import gang_from_environment
from toposieve.training.layers import describe_layers
from toposieve.training.loop import State
from toposieve.training.records import Batch
from toposieve.training.steps import SUM_NAMES, build_steps

MODELS = ("hlf", "inclusive", "inclusive_lstm", "inclusive_transformer", "particle_transformer")
"""One for each way to read particles: what else there is has the same layers."""

ROWS = 8
RATE = 0.5
PRESENT = (7, 8, 2)
"""Events in each batch: of two workers the second has 3, 4 and none of them."""


class Run:
    """A model, and this worker's rows of some batches.

    Args:
        name: The model.
        strategy: One replica per worker.
        worker: Which this is.
        options: More of :func:`build_steps`.
    """

    def __init__(self, name: str, strategy: tf.distribute.Strategy, worker: int = 0, **options: int) -> None:
        size = ROWS // strategy.num_replicas_in_sync
        mine = slice(worker * size, (worker + 1) * size)
        used = {*ARCHITECTURES[name].inputs, "label", "weight", "present", "row"}
        self.batches = [{key: batch[key][mine] for key in used} for batch in _batches()]
        model = build_model(TrainingConfig(model=name), 3)
        optimizer = keras.optimizers.SGD(RATE, momentum=0.9)  # Adam would hide a constant factor
        optimizer.build(model.trainable_variables)
        spec = {key: tf.TensorSpec(values.shape, values.dtype) for key, values in self.batches[0].items()}
        of = {"seed": 1, "event_weights": "absolute", "signed_factors": (1.0,) * 3, **options}
        self.state = State(
            model, optimizer, describe_layers(model), build_steps(model, optimizer, strategy, spec, **of)
        )

    def train(self, first: int = 0, stop: int = len(PRESENT)) -> np.ndarray:
        """Do these steps, and return their sums."""
        sums, steps = np.zeros(len(SUM_NAMES)), self.state.steps
        for start in range(first, stop, steps.per_call):
            sums = steps.train(self.batches[start : min(stop, start + steps.per_call)], start, sums)
        return sums


def _batches() -> list[Batch]:
    """Global batches of small events with uneven weights."""
    rng = np.random.default_rng(5)
    made = []
    for present in PRESENT:
        real = np.arange(schema.MAX_PARTICLES)[:, np.newaxis] < rng.integers(2, 6, (ROWS, 1, 1))  # (rows, 801, 1)
        there = np.arange(ROWS) < present
        made.append(
            {
                "high_level": rng.normal(size=(ROWS, len(schema.HIGH_LEVEL_FEATURES))).astype(np.float32),
                "particles": (rng.normal(size=(ROWS, 1, len(schema.LOW_LEVEL_FEATURES))) * real).astype(np.float32),
                "label": rng.integers(0, len(schema.SAMPLES), ROWS),
                "weight": np.where(there, rng.uniform(0.5, 2.0, ROWS), 0.0).astype(np.float32),
                "present": there.astype(np.float32),
                "row": np.arange(ROWS, dtype=np.int32),
            }
        )
    return made


def main(folder: Path) -> None:
    """Train each model, and write what this worker has."""
    gang = gang_from_environment(os.environ)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for name in MODELS:
        run = Run(name, strategy, gang.index)
        sums = run.train()
        np.savez(folder / f"{name}-{gang.index}.npz", *run.state.weights, sums=sums)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
