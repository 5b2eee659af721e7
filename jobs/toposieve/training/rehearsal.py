"""What a run would take, from a few steps on events as they typically are; nothing is read but the manifest."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import tensorflow as tf

from toposieve import schema
from toposieve.models import ARCHITECTURES, HIGH_LEVEL, PARTICLES
from toposieve.training.loop import Task, new_state
from toposieve.training.records import Batch
from toposieve.training.steps import SUM_NAMES

MEAN_PARTICLES, PARTICLES_SPREAD = 485, 127
"""Of the published selection at pile-up 20."""


@dataclass(frozen=True)
class Rehearsal:
    """An estimate, for workers like this one."""

    epochs: int
    epoch_steps: int
    epoch_seconds: float
    """Of training steps and validation, without input and the time that workers wait for each other."""
    peak_bytes: int
    """Memory of one worker's process."""

    def __str__(self) -> str:
        """In a sentence."""
        return (
            f"{self.epochs * self.epoch_steps:,} steps ({self.epochs} epochs of {self.epoch_steps:,}), at most "
            f"{timedelta(seconds=round(self.epochs * self.epoch_seconds))} ({self.epoch_seconds:.1f} s an epoch), "
            f"{self.peak_bytes / 1e9:.1f} GB of memory a worker"
        )


def rehearse(task: Task) -> Rehearsal:
    """Do two calls of each kind of step with this worker's part of a batch, on its own."""
    batch = typical_batch(len(task.share.rows), ARCHITECTURES[task.config.model].inputs, len(task.dataset.classes))
    spec = {name: tf.TensorSpec(values.shape, values.dtype) for name, values in batch.items()}
    steps = new_state(task, tf.distribute.get_strategy(), spec).steps
    batches, sums = [batch] * steps.per_call, np.zeros(len(SUM_NAMES))
    training = _seconds(lambda: steps.train(batches, 0, sums)) / steps.per_call
    validation = _seconds(lambda: steps.validate(batches, sums)) / steps.per_call
    validation_steps = task.dataset.validation.steps(task.config.batch_size)
    epoch_seconds = task.train_steps * training + validation_steps * validation
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Rehearsal(task.config.epochs, task.train_steps, epoch_seconds, peak_bytes)


def _seconds(call: Callable[[], object]) -> float:
    """How long a call takes once it is compiled."""
    call()
    start = time.monotonic()
    call()
    return time.monotonic() - start


def typical_batch(rows: int, inputs: tuple[str, ...], classes: int) -> Batch:
    """Some rows with these inputs, as many particles in them as the published selection has, by chance.

    Args:
        rows: How many.
        inputs: Roles that the model takes.
        classes: How many it tells apart.
    """
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.normal(MEAN_PARTICLES, PARTICLES_SPREAD, rows), 1, schema.MAX_PARTICLES)
    real = np.arange(schema.MAX_PARTICLES) < lengths[:, np.newaxis]  # (rows, 801)
    features = {
        HIGH_LEVEL: rng.random((rows, len(schema.HIGH_LEVEL_FEATURES)), np.float32),
        PARTICLES: real[..., np.newaxis] * rng.random((rows, 1, len(schema.LOW_LEVEL_FEATURES)), np.float32),
    }
    return {
        **{name: features[name] for name in inputs},
        "label": rng.integers(0, classes, rows),
        "weight": np.ones(rows, np.float32),
        "present": np.ones(rows, np.float32),
        "row": np.arange(rows, dtype=np.int32),
    }
