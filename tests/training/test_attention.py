import keras
import numpy as np
import pytest
import tensorflow as tf

from toposieve import schema
from toposieve.training.attention import BLOCK, TrimmedAttention

HEADS, KEY = 3, 7
FEATURES = 19
RNG = np.random.default_rng(0)

LENGTHS = {
    "one block": (40, [40, 1, 17]),
    "several blocks": (2 * BLOCK, [2 * BLOCK, 2 * BLOCK - 1, BLOCK, BLOCK - 1, 5]),
    "as recorded": (schema.MAX_PARTICLES, [schema.MAX_PARTICLES, 300]),
}
"""Rows, and the real ones of each event."""


def sequences(particles: int, lengths: list[int]) -> np.ndarray:
    values = RNG.normal(size=(len(lengths), particles, FEATURES)).astype(np.float32)
    values[np.arange(particles) >= np.array(lengths)[:, None]] = 0.0
    return values


def models(*, masked: bool, scale: float = 0.3) -> tuple[keras.Model, keras.Model]:
    """The layer and the Keras layer, with the same weights (none of them zero)."""
    made = []
    for layer in (TrimmedAttention(HEADS, KEY), keras.layers.MultiHeadAttention(HEADS, KEY)):
        inputs = keras.Input((None, FEATURES))
        particles = keras.layers.Masking()(inputs) if masked else inputs
        made.append(keras.Model(inputs, layer(particles, particles)))
    weights = [RNG.normal(scale=scale, size=weight.shape) for weight in made[0].get_weights()]
    for model in made:
        model.set_weights(weights)
    return made[0], made[1]


def value_and_gradients(model: keras.Model, values: np.ndarray, looked_at: np.ndarray) -> list[np.ndarray]:
    """Output of the rows that are looked at, slopes of the real particles (of padding only the sum is) and weights."""
    real = tf.constant(values.any(axis=-1, keepdims=True), tf.float32)
    shown = tf.constant(looked_at[..., np.newaxis], tf.float32)
    factors = tf.constant(np.random.default_rng(1).normal(size=values.shape), tf.float32)

    @tf.function(jit_compile=True)
    def compute(particles: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(particles)
            output = model(particles, training=True) * shown
            loss = tf.reduce_sum(output * factors)
        at_particles, *at_weights = tape.gradient(loss, [particles, *model.trainable_variables])
        return [output, at_particles * real, *at_weights]

    return [tensor.numpy() for tensor in compute(tf.constant(values))]


def assert_alike(ours: keras.Model, reference: keras.Model, values: np.ndarray, looked_at: np.ndarray) -> None:
    both = (value_and_gradients(model, values, looked_at) for model in (ours, reference))
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(two).max()))


@pytest.mark.parametrize(("particles", "lengths"), LENGTHS.values(), ids=LENGTHS)
def test_outputs_and_gradients_are_those_of_keras(particles: int, lengths: list[int]) -> None:
    values = sequences(particles, lengths)
    assert_alike(*models(masked=False), values, np.ones(values.shape[:2]))


def test_masked_particles_are_attended_to_as_in_keras() -> None:
    values = sequences(*LENGTHS["several blocks"])
    assert_alike(*models(masked=True), values, values.any(axis=-1))


@pytest.mark.parametrize("masked", [False, True])
def test_a_gap_among_the_particles_is_treated_as_in_keras(masked: bool) -> None:
    values = sequences(2 * BLOCK, [BLOCK + 7, 30])
    values[0, :BLOCK] = values[1, 3:6] = 0.0
    looked_at = values.any(axis=-1) | (not masked)
    one, two = (model(values).numpy()[looked_at] for model in models(masked=masked))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    ours, reference = models(masked=False, scale=5.0)
    values = sequences(BLOCK + 9, [BLOCK + 9, 20])
    np.testing.assert_allclose(ours(values), reference(values), rtol=1e-3, atol=0.05)


def test_masked_padding_changes_not_a_bit() -> None:
    ours, _ = models(masked=True)
    values = sequences(40, [40, 3, 7])
    padded = ours(np.pad(values, ((0, 0), (0, 2 * BLOCK), (0, 0))))[:, :40]
    real = values.any(axis=-1)
    np.testing.assert_array_equal(padded[real], ours(values)[real])


def test_the_layer_is_saved_and_loaded() -> None:
    config = keras.saving.serialize_keras_object(TrimmedAttention(HEADS, KEY))
    layer = keras.saving.deserialize_keras_object(config)
    assert (type(layer), layer.num_heads, layer.key_dim) == (TrimmedAttention, HEADS, KEY)
