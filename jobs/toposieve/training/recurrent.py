"""A GRU layer whose loop on CPU runs to the end of the longest real sequence, however far the batch is padded.

So one XLA compilation serves every batch, padded always to the same length, and padding costs nothing. The backward
loop is written by hand: it keeps the states only and computes the gates again, which is a quarter faster than what
TensorFlow derives from the loop of Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import tensorflow as tf

Gradients = tuple[tf.Tensor | None, ...]


@keras.saving.register_keras_serializable("toposieve")
class TrimmedGRU(keras.layers.GRU):  # type: ignore[misc]
    """``keras.layers.GRU`` with default activations, for the last state of masked sequences; no slope for its input.

    Weights and results are those of the Keras layer. On GPU it is the Keras layer: cuDNN has no use for a trimmed loop.
    """

    def inner_loop(self, sequences: tf.Tensor, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """Run over (batch, particles, features); last output, outputs and last states, as Keras wants them."""
        if tf.config.list_logical_devices("GPU"):
            return super().inner_loop(sequences, initial_state, mask, training)
        input_bias, state_bias = tf.unstack(tf.convert_to_tensor(self.cell.bias))
        weights = (self.cell.kernel, self.cell.recurrent_kernel, input_bias, state_bias)
        inputs = tf.transpose(sequences, (1, 0, 2))  # (particles, batch, features)
        real = tf.cast(tf.transpose(mask), inputs.dtype)[..., tf.newaxis]  # (particles, batch, 1)
        state = _last_state(inputs, real, *(tf.convert_to_tensor(weight) for weight in weights))  # (batch, units)
        return state, state[:, tf.newaxis], [state]


class _Gates(NamedTuple):
    """Values of one step, (batch, units) each."""

    update: tf.Tensor
    reset: tf.Tensor
    recurrent: tf.Tensor
    """What the state adds to the candidate, before the reset gate."""
    candidate: tf.Tensor


@dataclass(frozen=True)
class _Cell:
    """Weights in the layout of Keras: columns for update, reset, candidate."""

    kernel: tf.Tensor
    """(features, 3 units)"""
    recurrent_kernel: tf.Tensor
    """(units, 3 units)"""
    input_bias: tf.Tensor
    state_bias: tf.Tensor

    def gates(self, row: tf.Tensor, state: tf.Tensor) -> _Gates:
        """Gates for (batch, features) inputs and (batch, units) states."""
        units = self.recurrent_kernel.shape[0]
        from_input = tf.matmul(row, self.kernel) + self.input_bias  # (batch, 3 units)
        from_state = tf.matmul(state, self.recurrent_kernel) + self.state_bias
        both = tf.sigmoid(from_input[:, : 2 * units] + from_state[:, : 2 * units])
        update, reset = both[:, :units], both[:, units:]
        recurrent = from_state[:, 2 * units :]
        return _Gates(update, reset, recurrent, tf.tanh(from_input[:, 2 * units :] + reset * recurrent))

    def forward(self, row: tf.Tensor, real: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Next state: h + real · (1 - z) · (c - h)."""
        now = self.gates(row, state)
        return state + real * (1.0 - now.update) * (now.candidate - state)

    def backward(
        self, row: tf.Tensor, real: tf.Tensor, state: tf.Tensor, slope: tf.Tensor
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Slope at the state before a step, from that after it, and the step's terms of the weights' slopes."""
        now = self.gates(row, state)
        reaching = slope * real
        candidate = reaching * (1.0 - now.update) * (1.0 - now.candidate**2)
        update = reaching * (state - now.candidate) * now.update * (1.0 - now.update)
        reset = candidate * now.recurrent * now.reset * (1.0 - now.reset)
        at_input = tf.concat([update, reset, candidate], axis=1)  # (batch, 3 units)
        at_state = tf.concat([update, reset, candidate * now.reset], axis=1)
        passed_on = slope - reaching * (1.0 - now.update)
        before = passed_on + tf.matmul(at_state, self.recurrent_kernel, transpose_b=True)
        return before, (
            tf.matmul(row, at_input, transpose_a=True),
            tf.matmul(state, at_state, transpose_a=True),
            tf.reduce_sum(at_input, axis=0),
            tf.reduce_sum(at_state, axis=0),
        )


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _last_state(
    inputs: tf.Tensor, real: tf.Tensor, *weights: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], Gradients]]:
    """State (batch, units) after the real particles of each event.

    Args:
        inputs: (particles, batch, features).
        real: (particles, batch, 1), 1 for a real particle and 0 for padding.
        *weights: The fields of :class:`_Cell`.
    """
    cell = _Cell(*weights)
    units = cell.recurrent_kernel.shape[0]
    length, batch = tf.shape(inputs)[0], tf.shape(inputs)[1]
    has_real = tf.reduce_any(real[..., 0] > 0, axis=1)  # (particles,)
    steps = tf.reduce_max(tf.where(has_real, tf.range(length) + 1, 0))
    rows = _array(length, inputs.shape[-1]).unstack(inputs)
    reals = _array(length, 1).unstack(real)

    def forward(step: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple[tf.Tensor, ...]:
        after = cell.forward(rows.read(step), reals.read(step), state)
        return step + 1, after, states.write(step, state)

    start = (0, tf.zeros((batch, units)), _array(length, units))
    _, last, states = tf.while_loop(lambda step, *_: step < steps, forward, start, parallel_iterations=1)

    def gradient(slope: tf.Tensor) -> Gradients:
        def backward(step: tf.Tensor, slope: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            before, terms = cell.backward(rows.read(step), reals.read(step), states.read(step), slope)
            return step - 1, before, *(total + term for total, term in zip(sums, terms, strict=True))

        begin = (steps - 1, slope, *(tf.zeros_like(weight) for weight in weights))
        result = tf.while_loop(lambda step, *_: step >= 0, backward, begin, parallel_iterations=1)
        return (None, None, *result[2:])

    return last, gradient


def _array(length: tf.Tensor, width: int) -> tf.TensorArray:
    """One (batch, width) row per particle."""
    return tf.TensorArray(tf.float32, size=length, element_shape=(None, width))
