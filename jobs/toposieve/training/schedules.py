"""Learning rates: constant, along a cosine, or in steps as published; after a warm-up where one is wanted."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule, PiecewiseConstantDecay

from toposieve.config import TrainingConfig


def learning_rate(config: TrainingConfig, epoch_steps: int) -> float | LearningRateSchedule:
    """The rate of each step of a run, as an optimizer takes it.

    Args:
        config: Of the run.
        epoch_steps: Steps in an epoch.
    """
    rate = _without_warm_up(config, epoch_steps)
    return _WarmUp(rate, config.warmup_steps) if config.warmup_steps else rate


def _without_warm_up(config: TrainingConfig, epoch_steps: int) -> float | LearningRateSchedule:
    rate: float | LearningRateSchedule = config.learning_rate
    if config.learning_rate_schedule == "cosine":
        rate = CosineDecay(config.learning_rate, config.epochs * epoch_steps)
    elif config.learning_rate_schedule == "steps":
        drops = sorted(config.learning_rate_steps.items())
        last_steps = [epochs * epoch_steps - 1 for epochs, _ in drops]  # a boundary belongs to what is before it
        rate = PiecewiseConstantDecay(last_steps, [config.learning_rate * factor for _, factor in ((0, 1.0), *drops)])
    return rate


class _WarmUp(LearningRateSchedule):  # type: ignore[misc]
    """Another schedule, times a factor that rises from 1/steps to 1 in the first steps."""

    def __init__(self, rate: float | LearningRateSchedule, steps: int) -> None:
        self._rate = rate
        self._steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        rate = self._rate(step) if callable(self._rate) else self._rate
        return rate * tf.minimum(1.0, tf.cast(step + 1, tf.float32) / self._steps)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self._rate, "steps": self._steps}
