import keras
import numpy as np
import pytest
import tensorflow as tf

from toposieve.training.recurrent import TrimmedGRU

UNITS = 7
BATCH, PARTICLES, FEATURES = 5, 12, 19
RNG = np.random.default_rng(0)


def sequences(lengths: list[int]) -> np.ndarray:
    values = RNG.normal(size=(BATCH, PARTICLES, FEATURES)).astype(np.float32)
    values[np.arange(PARTICLES) >= np.array(lengths)[:, None]] = 0.0
    return values


def models() -> tuple[keras.Model, keras.Model]:
    """The layer and the Keras layer, masked, with the same weights (none of them zero)."""
    made = []
    for layer in (TrimmedGRU(UNITS), keras.layers.GRU(UNITS)):
        inputs = keras.Input((None, FEATURES))
        made.append(keras.Model(inputs, layer(keras.layers.Masking()(inputs))))
    weights = [RNG.normal(scale=0.3, size=weight.shape) for weight in made[0].get_weights()]
    for model in made:
        model.set_weights(weights)
    return made[0], made[1]


def value_and_gradients(model: keras.Model, values: np.ndarray) -> list[np.ndarray]:
    @tf.function(jit_compile=True)
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = model(batch, training=True)
            loss = tf.reduce_sum(output * tf.range(1.0, UNITS + 1))
        return [output, *tape.gradient(loss, model.trainable_variables)]

    return [tensor.numpy() for tensor in compute(values)]


@pytest.mark.parametrize(
    "lengths", [[12, 3, 7, 1, 9], [4, 4, 4, 4, 4], [6, 0, 2, 0, 1]], ids=["mixed", "padded", "empty"]
)
def test_states_and_gradients_are_those_of_keras(lengths: list[int]) -> None:
    ours, reference = models()
    values = sequences(lengths)
    for one, two in zip(value_and_gradients(ours, values), value_and_gradients(reference, values), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_a_gap_in_a_sequence_is_passed_over_as_in_keras() -> None:
    ours, reference = models()
    values = sequences([12] * BATCH)
    values[:, 3:6] = 0.0
    np.testing.assert_allclose(ours(values), reference(values), rtol=1e-4, atol=1e-5)


def test_events_without_particles_keep_the_initial_state() -> None:
    ours, _ = models()
    np.testing.assert_array_equal(ours(sequences([0] * BATCH)), 0.0)


def test_padding_changes_not_a_bit() -> None:
    ours, _ = models()
    values = sequences([9, 3, 7, 1, 5])
    np.testing.assert_array_equal(ours(np.pad(values, ((0, 0), (0, 30), (0, 0)))), ours(values))
