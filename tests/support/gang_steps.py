"""A few steps of plain gradient descent on every model, by one worker or by each of a gang.

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
from toposieve.training.steps import SUM_NAMES, build_steps

ROWS = 8
STEPS = 3
PRESENT = (7, 8, 2)
"""Events in each batch: of two workers the second has 3, 4 and none of them."""


def batches() -> list[dict[str, np.ndarray]]:
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
                "label": rng.integers(0, len(schema.LABELS), ROWS),
                "weight": np.where(there, rng.uniform(0.5, 2.0, ROWS), 0.0).astype(np.float32),
                "present": there.astype(np.float32),
                "row": np.arange(ROWS, dtype=np.int32),
            }
        )
    return made


def train(
    model_name: str, strategy: tf.distribute.Strategy, worker: int = 0, **options: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights of a model after the steps of one worker, and the sums that it has seen."""
    inputs = ARCHITECTURES[model_name].inputs
    size = ROWS // strategy.num_replicas_in_sync
    mine = [
        {name: values[worker * size : (worker + 1) * size] for name, values in batch.items() if name in used(inputs)}
        for batch in batches()
    ]
    model = build_model(TrainingConfig(model=model_name))
    optimizer = keras.optimizers.SGD(1.0)  # Adam would hide a constant factor
    optimizer.build(model.trainable_variables)
    spec = {name: tf.TensorSpec(values.shape, values.dtype) for name, values in mine[0].items()}
    of = {"batch_size": ROWS, "seed": 1, "event_weights": "absolute", "signed_factors": (1.0, 1.0, 1.0), **options}
    steps = build_steps(model, optimizer, strategy, spec, **of)
    sums = np.zeros(len(SUM_NAMES))
    for first in range(0, STEPS, steps.per_call):
        sums = steps.train(mine[first : first + steps.per_call], first, sums)
    return model.get_weights(), sums


def used(inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Names in the batches of a model."""
    return (*inputs, "label", "weight", "present", "row")


def main(folder: Path) -> None:
    """Train every model, and write what this worker has."""
    gang = gang_from_environment(os.environ)
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    for name in ARCHITECTURES:
        weights, sums = train(name, strategy, gang.index)
        np.savez(folder / f"{name}-{gang.index}.npz", *weights, sums=sums)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
