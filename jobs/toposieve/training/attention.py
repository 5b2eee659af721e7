"""A self-attention layer whose cost on CPU comes from the real particles of each event, however far it is padded.

All rows of padding are equal: as keys they are one, with the logarithm of their number added to its score, and as
queries one row that is copied to the others. The rest goes block by block, forward and backward (Dao et al.,
arXiv:2205.14135), so that no matrix of all pairs of particles is ever kept. The weights of keys go into the queries,
and those of values come after the sum over the keys: all heads look at the particles themselves. So a block of all
heads is one product, and where the particles are the input, nothing goes back to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

BLOCK = 96
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
        result = self._attend(query, keys)
        if query_mask is not None:
            return result
        first_padding = tf.gather(result, keys.used[:, tf.newaxis] - 1, batch_dims=1)  # (batch, 1, features)
        computed = tf.range(tf.shape(result)[1]) < keys.used[:, tf.newaxis]  # (batch, particles)
        return tf.where(computed[..., tf.newaxis], result, first_padding)

    def _attend(self, particles: tf.Tensor, keys: _Keys) -> tf.Tensor:
        """What comes out for each particle, (batch, particles, features)."""
        length, features = tf.shape(particles)[1], particles.shape[-1]
        spare = [[0, 0], [0, -length % BLOCK]]
        bias = tf.pad(keys.bias, spare, constant_values=_NEVER)[..., tf.newaxis]
        known = tf.concat([tf.pad(particles, [*spare, [0, 0]]), tf.ones_like(bias)], axis=-1)
        queries = known @ tf.reshape(self._query_kernel(), (features + 1, -1))
        mean = _attention(
            tf.reshape(queries, (-1, BLOCK * self.num_heads, features + 2)),
            tf.reshape(tf.concat([known, bias], axis=-1), (-1, BLOCK, features + 2)),
            keys.used,
            tf.shape(bias)[1] // BLOCK,
        )  # (batch * blocks, BLOCK * heads, features)
        value, output = self._value_dense, self._output_dense
        kernel = tf.einsum("fhd,hdo->hfo", value.kernel, output.kernel)
        rows = tf.reshape(mean, (-1, tf.shape(bias)[1], self.num_heads * features))[:, :length]
        constant = tf.einsum("hd,hdo->o", value.bias, output.kernel) + output.bias
        return rows @ tf.reshape(kernel, (rows.shape[-1], -1)) + constant

    def _query_kernel(self) -> tf.Tensor:
        """Makes queries of particles that meet particles: (features + 1, heads, features + 2)."""
        query, key = (tf.concat([d.kernel, d.bias[tf.newaxis]], axis=0) for d in (self._query_dense, self._key_dense))
        kernel = tf.einsum("ahd,bhd->ahb", query * self._inverse_sqrt_key_dim, key)
        constant = tf.fill((self.num_heads, 1), kernel.shape[0] - 1)
        one = tf.one_hot(constant, kernel.shape[0], axis=0)  # meets what is added to the score
        return tf.concat([kernel, one], axis=-1)


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


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _attention(
    queries: tf.Tensor, keys: tf.Tensor, used: tf.Tensor, blocks: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], Gradients]]:
    """Mean of the keys' features by the softmax of keys · queries; 0 in blocks that no event reaches.

    Args:
        queries: (batch * blocks, rows, features + 2), where each of a block's particles has a row for each head.
        keys: (batch * blocks, BLOCK, features + 2): features, 1, and what is added to the scores.
        used: Queries and keys to look at, (batch,).
        blocks: Blocks of an event.

    Returns:
        (batch * blocks, rows, features).
    """
    across = (used + BLOCK - 1) // BLOCK  # (batch,)
    rows, width = tf.shape(queries)[1], queries.shape[2]

    def met_by(block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first block of the same event, and how many of them meet this one."""
        event, place = block // blocks, block % blocks
        return block - place, tf.where(place < across[event], across[event], 0)

    def forward(i: tf.Tensor, tops: tf.TensorArray, sums: tf.TensorArray) -> tuple[Any, ...]:
        first, count = met_by(i)

        def add(j: tf.Tensor, before: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
            scores = tf.matmul(keys[first + j], queries[i], transpose_b=True)  # (keys, rows)
            top = tf.maximum(before, tf.reduce_max(scores, axis=0))
            added = tf.matmul(keys[first + j], tf.exp(scores - top), transpose_a=True)  # (width, rows): so it is quick
            return j + 1, top, total * tf.exp(before - top) + added

        top, total = _loop(count, add, tf.fill([rows], _NEVER), tf.zeros([width, rows]))
        return i + 1, tops.write(i, top), sums.write(i, total)

    every = tf.shape(queries)[0]
    tops, sums = _loop(every, forward, _array(every, [None]), _array(every, [width, None]))
    summed, total, _ = tf.split(sums.stack(), (width - 2, 1, 1), axis=1)
    result = tf.math.divide_no_nan(summed, total)  # (batch * blocks, features, rows)
    logs = tops.stack() + tf.math.log(total[:, 0])  # (batch * blocks, rows)

    def gradient(slope: tf.Tensor) -> Gradients:
        # At the sums: with a row for that of the weights, by which the others were divided.
        turned = tf.transpose(slope, (0, 2, 1))
        at_total = -tf.reduce_sum(turned * result, axis=1, keepdims=True)
        slopes = tf.concat([turned, at_total, tf.zeros_like(at_total)], axis=1)

        def at_pair(key: tf.Tensor, i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            weights = tf.exp(tf.matmul(key, queries[i], transpose_b=True) - logs[i])  # (keys, rows)
            return weights, weights * tf.matmul(key, slopes[i])

        def at_queries(i: tf.Tensor, found: tf.TensorArray) -> tuple[Any, ...]:
            first, count = met_by(i)

            def add(j: tf.Tensor, at_query: tf.Tensor) -> tuple[Any, ...]:
                _, at_scores = at_pair(keys[first + j], i)
                return j + 1, at_query + tf.matmul(keys[first + j], at_scores, transpose_a=True)

            return i + 1, found.write(i, *_loop(count, add, tf.zeros([width, rows])))

        # Apart, for nothing is done of it where no weight lies before the keys: two products of five.
        def at_keys(j: tf.Tensor, found: tf.TensorArray) -> tuple[Any, ...]:
            first, count = met_by(j)

            def add(i: tf.Tensor, at_key: tf.Tensor) -> tuple[Any, ...]:
                weights, at_scores = at_pair(keys[j], first + i)
                at_sums = tf.matmul(weights, slopes[first + i], transpose_b=True)
                return i + 1, at_key + tf.matmul(at_scores, queries[first + i]) + at_sums

            return j + 1, found.write(j, *_loop(count, add, tf.zeros_like(keys[j])))

        (of_queries,) = _loop(every, at_queries, _array(every, [width, None]))
        (of_keys,) = _loop(every, at_keys, _array(every, keys.shape[1:]))
        return tf.transpose(of_queries.stack(), (0, 2, 1)), of_keys.stack(), None, None

    return tf.transpose(result, (0, 2, 1)), gradient


def _loop(count: tf.Tensor, body: Callable[..., tuple[Any, ...]], *start: Any) -> tuple[Any, ...]:
    """What becomes of ``start`` in so many turns, of which ``body`` is told the number."""
    _, *end = tf.while_loop(lambda turn, *_: turn < count, body, (0, *start), parallel_iterations=1)
    return tuple(end)


def _array(size: tf.Tensor, shape: Any) -> tf.TensorArray:
    """One entry for each block."""
    return tf.TensorArray(tf.float32, size=size, element_shape=shape, clear_after_read=False)
