import keras
import numpy as np
import pytest
import tensorflow as tf

from toposieve.training import recurrent
from toposieve.training.recurrent import TrimmedGRU, TrimmedLSTM

UNITS = 7
BATCH, PARTICLES, FEATURES = 5, 36, 19
RNG = np.random.default_rng(0)
KINDS = {"gru": (TrimmedGRU, keras.layers.GRU), "lstm": (TrimmedLSTM, keras.layers.LSTM)}
Pair = tuple[keras.Model, keras.Model]


def sequences(lengths: list[int]) -> np.ndarray:
    values = RNG.normal(size=(len(lengths), PARTICLES, FEATURES)).astype(np.float32)
    values[np.arange(PARTICLES) >= np.array(lengths)[:, None]] = 0.0
    return values


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """The layer and the Keras layer, masked, with the same weights (none of them zero)."""
    made = []
    for layer in KINDS[request.param]:
        inputs = keras.Input((None, FEATURES))
        made.append(keras.Model(inputs, layer(UNITS)(keras.layers.Masking()(inputs))))
    weights = [RNG.normal(scale=0.3, size=weight.shape) for weight in made[0].get_weights()]
    for model in made:
        model.set_weights(weights)
    return made[0], made[1]


def value_and_gradients(model: keras.Model, values: np.ndarray, *, xla: bool) -> list[np.ndarray]:
    @tf.function(jit_compile=xla, autograph=False)
    def compute(batch: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = model(batch, training=True)
            # Another slope for each event and unit: summing over them must not hide an event in another's place.
            slopes = tf.reshape(tf.range(1.0, len(values) * UNITS + 1), (-1, UNITS)) / UNITS
            loss = tf.reduce_sum(output * slopes)
        return [output, *tape.gradient(loss, model.trainable_variables)]

    return [tensor.numpy() for tensor in compute(tf.constant(values))]


def check(pair: Pair, values: np.ndarray, *, xla: bool) -> None:
    results = (value_and_gradients(model, values, xla=xla) for model in pair)
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "lengths", [[33, 3, 17, 1, 9], [4, 4, 4, 4, 4], [16, 0, 32, 0, 1]], ids=["mixed", "padded", "empty"]
)
def test_states_and_gradients_are_those_of_keras(pair: Pair, lengths: list[int]) -> None:
    check(pair, sequences(lengths), xla=False)


def test_they_are_under_xla_in_several_blocks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "BLOCK", 3)
    check(pair, sequences([30, 2, 17, 36, 1, 0, 9]), xla=True)


def test_a_gap_in_a_sequence_is_passed_over_as_in_keras(pair: Pair) -> None:
    values = sequences([PARTICLES] * BATCH)
    values[:, 3:6] = 0.0
    check(pair, values, xla=False)


def test_events_without_particles_keep_the_initial_state(pair: Pair) -> None:
    np.testing.assert_array_equal(pair[0](sequences([0] * BATCH)), 0.0)


def test_padding_changes_not_a_bit(pair: Pair) -> None:
    values = sequences([9, 3, 27, 1, 5])
    padded = np.pad(values, ((0, 0), (0, 30), (0, 0)))
    np.testing.assert_array_equal(pair[0](padded), pair[0](values))


@pytest.mark.parametrize("kind", [TrimmedGRU, TrimmedLSTM])
@pytest.mark.parametrize(
    "option",
    [
        {"activation": "relu"},
        {"go_backwards": True},
        {"return_sequences": True},
        {"recurrent_dropout": 0.1},
        {"reset_after": False},
        {"unit_forget_bias": False},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_the_loop_does_not_do_is_refused(kind: type, option: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        kind(UNITS, **option)


@pytest.mark.parametrize(("kind", "reference"), KINDS.values(), ids=KINDS)
def test_without_a_mask_every_row_counts(kind: type, reference: type) -> None:
    values, layers = sequences([3, 36]), (kind(UNITS), reference(UNITS))
    layers[0](values), layers[1](values)
    layers[1].set_weights(layers[0].get_weights())
    np.testing.assert_allclose(layers[0](values), layers[1](values), rtol=1e-4, atol=1e-5)
