"""Dropout whose choice depends on (seed, step, event) only, not on how a batch is spread over workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass(frozen=True)
class DropoutKeys:
    """What the choice of one step depends on."""

    seed: int
    step: tf.Tensor
    """Number of the step in the run: int64 scalar."""
    rows: tf.Tensor
    """Rows of the global batch that are at hand: int32 (local batch,)."""
    batch_size: int
    """Rows of the global batch."""


_KEYS: ContextVar[DropoutKeys | None] = ContextVar("dropout_keys", default=None)


@contextmanager
def dropout_keys(keys: DropoutKeys) -> Iterator[None]:
    """Give every :class:`EventDropout` called in the body its keys."""
    token = _KEYS.set(keys)
    try:
        yield
    finally:
        _KEYS.reset(token)


@keras.saving.register_keras_serializable("toposieve")
class EventDropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout on (batch, units): draws for the whole global batch, then takes the rows at hand.

    At inference it does nothing. In training it must be called within :func:`dropout_keys`.
    """

    def __init__(self, rate: float, stream: int, **kwargs: Any) -> None:
        """Make the layer.

        Args:
            rate: Share of the inputs to drop; the others are divided by 1 - rate.
            stream: Tells the layers of one model apart.
            **kwargs: Of ``keras.layers.Layer``.
        """
        super().__init__(**kwargs)
        self.rate = rate
        self.stream = stream
        self.supports_masking = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop inputs in training, else return them as they are."""
        if not training:
            return inputs
        keys = _KEYS.get()
        if keys is None:
            raise RuntimeError(f"{self.name} needs dropout_keys() around a call with training=True")
        seed = tf.stack([tf.constant(keys.seed * 1009 + self.stream, tf.int64), keys.step])
        shape = (keys.batch_size, inputs.shape[-1])
        draws = tf.random.stateless_uniform(shape, seed, alg="philox")  # (global batch, units)
        kept = tf.gather(draws, keys.rows) >= self.rate  # (batch, units)
        return tf.where(kept, inputs / (1.0 - self.rate), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "stream": self.stream}
