"""A self-attention layer whose cost on CPU comes from the real particles of each event, however far it is padded.

All rows of padding are equal: as keys they are one, with the logarithm of their number added to its score, and as
queries one row that is copied to the others. The rest goes block by block, forward and backward (Dao et al.,
arXiv:2205.14135), so that no matrix of all pairs of particles is ever kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

BLOCK = 128
"""Particles in a block: enough for quick products, and the scores of all heads fit into the cache."""

_NEVER = -1e9
"""Added to the score of a key that nobody attends to."""

Gradients = tuple[tf.Tensor | None, ...]


@keras.saving.register_keras_serializable("toposieve")
class TrimmedAttention(keras.layers.MultiHeadAttention):  # type: ignore[misc]
    """``keras.layers.MultiHeadAttention`` of particles among themselves: called as ``layer(particles, particles)``.

    Weights and results are those of the Keras layer with its default options. Without a mask padding is attended to
    like a particle. With a mask it is not, and what comes out in its place means nothing. On GPU it is the Keras layer.
    """

    def call(
        self,
        query: tf.Tensor,
        value: tf.Tensor,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        **options: Any,
    ) -> tf.Tensor:
        """Attend: (batch, particles, features), zero-padded on the right, to the same shape.

        Args:
            query: The particles.
            value: The same.
            key: None, for the same.
            query_mask: (batch, particles), false for padding; None attends to it.
            value_mask: The same.
            **options: Of the Keras layer.
        """
        if tf.config.list_logical_devices("GPU"):
            return super().call(query, value, key, query_mask=query_mask, value_mask=value_mask, **options)
        keys = _unmasked_keys(query) if query_mask is None else _masked_keys(query_mask)
        result = self._output_dense(self._attend(query, keys))
        if query_mask is not None:
            return result
        first_padding = tf.gather(result, keys.used[:, tf.newaxis] - 1, batch_dims=1)  # (batch, 1, features)
        computed = tf.range(tf.shape(result)[1]) < keys.used[:, tf.newaxis]  # (batch, particles)
        return tf.where(computed[..., tf.newaxis], result, first_padding)

    def _attend(self, particles: tf.Tensor, keys: _Keys) -> tf.Tensor:
        """Values summed by attention, (batch, particles, heads, width)."""
        length = tf.shape(particles)[1]
        spare = [[0, 0], [0, -length % BLOCK]]
        padded = tf.pad(particles, [*spare, [0, 0]])  # (batch, a multiple of BLOCK, features)
        bias = tf.pad(keys.bias, spare, constant_values=_NEVER)
        summed = _attention(
            _blocks(self._query_dense(padded) * self._inverse_sqrt_key_dim, tf.ones_like(bias)),
            _blocks(self._key_dense(padded), bias),
            _blocks(self._value_dense(padded), tf.ones_like(bias)),
            keys.used,
            tf.shape(padded)[1] // BLOCK,
        )  # (batch * blocks, heads, width, BLOCK)
        _, heads, width, _ = summed.shape
        rows = tf.transpose(summed, (0, 3, 1, 2))  # (batch * blocks, BLOCK, heads, width)
        return tf.reshape(rows, (-1, tf.shape(padded)[1], heads, width))[:, :length]


class _Keys(NamedTuple):
    """What an event's particles attend to."""

    bias: tf.Tensor
    """Added to the scores of a key: (batch, particles)."""
    used: tf.Tensor
    """Keys up to the last that counts, (batch,); they are the queries that are computed, too."""


def _unmasked_keys(particles: tf.Tensor) -> _Keys:
    """The real particles and the first row of padding, which stands for all of them."""
    length = tf.shape(particles)[1]
    real = _stop(tf.reduce_any(particles != 0.0, axis=-1))  # (batch,)
    padding = tf.maximum(tf.math.log(tf.cast(length - real, tf.float32)), _NEVER)[:, tf.newaxis]
    place = tf.range(length) - real[:, tf.newaxis]  # (batch, particles)
    return _Keys(tf.where(place < 0, 0.0, tf.where(place == 0, padding, _NEVER)), tf.minimum(real + 1, length))


def _masked_keys(mask: tf.Tensor) -> _Keys:
    return _Keys(tf.where(mask, 0.0, _NEVER), _stop(mask))


def _stop(mask: tf.Tensor) -> tf.Tensor:
    """Place after the last true one, (batch,)."""
    return tf.reduce_max(tf.where(mask, tf.range(tf.shape(mask)[1]) + 1, 0), axis=1)


def _blocks(rows: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """(batch, particles, heads, width), and a column (batch, particles) → (batch * blocks, heads, width + 1, BLOCK)."""
    column = tf.broadcast_to(last[..., tf.newaxis, tf.newaxis], tf.concat([tf.shape(rows)[:3], [1]], axis=0))
    wider = tf.concat([rows, column], axis=-1)  # (batch, particles, heads, width + 1)
    return tf.transpose(tf.reshape(wider, (-1, BLOCK, *wider.shape[2:])), (0, 2, 3, 1))


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _attention(
    queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, used: tf.Tensor, blocks: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], Gradients]]:
    """Values summed with the softmax of keys · queries; 0 in blocks that no event reaches.

    Args:
        queries: (batch * blocks, heads, width + 1, BLOCK); the last row is 1.
        keys: The same; the last row is what is added to the scores.
        values: The same; the last row is 1, and so comes to be the sum of the weights.
        used: Queries and keys to look at, (batch,).
        blocks: Blocks of an event.

    Returns:
        (batch * blocks, heads, width, BLOCK).
    """
    count, blocks_of = _pairs(used, blocks)

    def forward(pair: tf.Tensor, tops: tf.TensorArray, sums: tf.TensorArray) -> tuple[Any, ...]:
        i, j = blocks_of(pair)
        scores = tf.matmul(keys[j], queries[i], transpose_a=True)  # (heads, keys, queries)
        before = tops.read(i)
        top = tf.maximum(before, tf.reduce_max(scores, axis=1, keepdims=True))  # (heads, 1, queries)
        added = tf.matmul(values[j], tf.exp(scores - top))  # (heads, width + 1, queries)
        return pair + 1, tops.write(i, top), sums.write(i, sums.read(i) * tf.exp(before - top) + added)

    start = (0, _array(tf.fill(tf.shape(queries[:, :, :1]), _NEVER)), _array(tf.zeros_like(values)))
    _, tops, sums = tf.while_loop(lambda pair, *_: pair < count, forward, start, parallel_iterations=1)
    summed, total = tf.split(sums.stack(), (values.shape[2] - 1, 1), axis=2)
    result = tf.math.divide_no_nan(summed, total)
    logs = tops.stack() + tf.math.log(total)  # (batch * blocks, heads, 1, BLOCK)

    def gradient(slope: tf.Tensor) -> Gradients:
        # With a last row for the sum of the weights, by which the others were divided.
        slopes = tf.concat([slope, -tf.reduce_sum(slope * result, axis=2, keepdims=True)], axis=2)

        def backward(pair: tf.Tensor, *at: tf.TensorArray) -> tuple[Any, ...]:
            i, j = blocks_of(pair)
            weights = tf.exp(tf.matmul(keys[j], queries[i], transpose_a=True) - logs[i])  # (heads, keys, queries)
            at_scores = weights * tf.matmul(values[j], slopes[i], transpose_a=True)
            return (
                pair + 1,
                _add(at[0], i, tf.matmul(keys[j], at_scores)),
                _add(at[1], j, tf.matmul(queries[i], at_scores, transpose_b=True)),
                _add(at[2], j, tf.matmul(slopes[i], weights, transpose_b=True)),
            )

        begin = (0, *(_array(tf.zeros_like(tensor)) for tensor in (queries, keys, values)))
        _, *at = tf.while_loop(lambda pair, *_: pair < count, backward, begin, parallel_iterations=1)
        return (*(each.stack() for each in at), None, None)

    return result, gradient


def _pairs(used: tf.Tensor, blocks: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """How many pairs of blocks all events have, and the blocks of queries and keys of such a pair."""
    across = (used + BLOCK - 1) // BLOCK  # (batch,)
    ends = tf.cumsum(across**2)

    def blocks_of(pair: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        event = tf.reduce_sum(tf.cast(ends <= pair, tf.int32))
        inside = pair - ends[event] + across[event] ** 2
        return event * blocks + inside // across[event], event * blocks + inside % across[event]

    return tf.reduce_sum(across**2), blocks_of


def _array(values: tf.Tensor) -> tf.TensorArray:
    """One entry for each block."""
    array = tf.TensorArray(
        values.dtype, size=tf.shape(values)[0], element_shape=values.shape[1:], clear_after_read=False
    )
    return array.unstack(values)


def _add(array: tf.TensorArray, block: tf.Tensor, value: tf.Tensor) -> tf.TensorArray:
    return array.write(block, array.read(block) + value)
