"""Dropout whose choice depends on (seed, step, event) only, not on how a batch is spread over workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class DropoutKeys:
    """What the choice of one step depends on."""

    seed: int
    """Of any size, 0 or more."""
    step: tf.Tensor
    """Number of the step in the run, below 2**31: int64 scalar."""
    rows: tf.Tensor
    """Rows of the global batch that are at hand: int32 (local batch,)."""

    def of_rows(self, stream: int) -> tf.Tensor:
        """A key for each row at hand and one layer: int64 (local batch, 2)."""
        layer = np.random.SeedSequence(self.seed, spawn_key=(stream,)).generate_state(1, np.uint64).astype(np.int64)[0]
        places = tf.bitwise.left_shift(self.step, 32) + tf.cast(self.rows, tf.int64)
        return tf.stack([tf.fill(tf.shape(places), layer), places], axis=1)


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
    """Dropout on (batch, …), drawn for the rows at hand only.

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
        kept = _draws(keys.of_rows(self.stream), tuple(inputs.shape[1:])) >= self.rate  # (batch, …)
        return inputs * tf.cast(kept, inputs.dtype) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "rate": self.rate, "stream": self.stream}


@tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
def _draws(keys: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Uniform numbers of ``shape`` for each key, (keys, …); compiled, or a GPU would start each row by itself."""
    signature = tf.TensorSpec(shape, tf.float32)
    return tf.map_fn(
        lambda key: tf.random.stateless_uniform(shape, key, alg="philox"), keys, fn_output_signature=signature
    )
