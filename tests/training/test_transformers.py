from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.published_definitions import ROWS, TRANSFORMERS, taken_by_dropout
from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.preprocessing import Scaling
from toposieve.training.architectures import build_model
from toposieve.training.architectures.particle_transformer import leading, pair_features, set_scaling
from toposieve.training.dropout import DropoutKeys, EventDropout, dropout_keys

RNG = np.random.default_rng(0)
SETS = ["inclusive_masked_transformer", "particle_transformer"]
PT, ETA, PHI = (schema.LOW_LEVEL_FEATURES.index(name) for name in ("Pt", "Eta", "Phi"))
SCALING = Scaling(
    np.zeros(14, np.float32),
    np.ones(14, np.float32),
    np.linspace(0.5, 1.0, 19, dtype=np.float32),
    np.linspace(1.0, 2.0, 19, dtype=np.float32),
    {},
)
"""Other than that of any real dataset, and another for each feature."""


def events(lengths: list[int], rows: int) -> dict[str, np.ndarray]:
    """Scaled, zero-padded."""
    particles = RNG.normal(size=(len(lengths), rows, 19)).astype(np.float32)
    particles[..., PT] = RNG.exponential(2.0, particles.shape[:2])
    particles[np.arange(rows) >= np.array(lengths)[:, None]] = 0.0
    return {"high_level": RNG.normal(size=(len(lengths), 14)).astype(np.float32), "particles": particles}


def randomised(model: keras.Model) -> keras.Model:
    """No weight is 0, as biases are at first."""
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(2).normal(scale=0.2, size=variable.shape))
    return model


def small(name: str) -> keras.Model:
    config = TrainingConfig(model=name, set_units=8, set_heads=3, set_blocks=2, leading_particles=6)
    model = build_model(config, 3)
    set_scaling(model, SCALING)
    return randomised(model)


def scores(model: keras.Model, batch: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(model({name: batch[name] for name in model.input}, training=False))


def compiled(model: keras.Model, *, training: bool = False) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """Events → loss, probabilities and slopes of the weights."""

    @tf.function(jit_compile=True)
    def compute(inputs: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        labels = tf.range(len(inputs["particles"])) % 3
        keys = DropoutKeys(1, tf.constant(0, tf.int64), tf.range(len(labels)))
        with dropout_keys(keys), tf.GradientTape() as tape:
            output = model(inputs, training=training)
            loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(labels, output))
        return [loss, output, *tape.gradient(loss, model.trainable_variables)]

    return lambda batch: [
        tensor.numpy() for tensor in compute({name: tf.constant(batch[name]) for name in model.input})
    ]


# --- the published one -------------------------------------------------------------------------------------------


def alike(name: str) -> tuple[keras.Model, keras.Model]:
    """Our model and the published one, with the same weights."""
    parameters, build = TRANSFORMERS[name]
    ours, published = build_model(TrainingConfig(model=name), 3), build()
    assert ours.count_params() == published.count_params() == parameters
    published.set_weights(randomised(ours).get_weights())
    return ours, published


def test_outputs_and_gradients_are_those_of_the_published_model() -> None:
    batch = events([ROWS, ROWS - 1, 60], ROWS)
    both = (compiled(model)(batch) for model in alike("inclusive_transformer"))
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(two).max()))


def test_the_branch_alone_is_the_published_one() -> None:
    batch = events([ROWS, 60], ROWS)
    one, two = (scores(model, batch) for model in alike("particle_sequence_transformer"))
    np.testing.assert_allclose(one, two, rtol=1e-3)


def test_dropout_is_where_it_was_published() -> None:
    batch = events([ROWS, 60], ROWS)
    both = (taken_by_dropout(model, batch) for model in alike("inclusive_transformer"))
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


def test_the_published_model_sees_its_rows_however_far_a_batch_is_padded() -> None:
    model, batch = randomised(build_model(TrainingConfig(model="inclusive_transformer"), 3)), events([30, 7], 40)
    padded = {**batch, "particles": np.pad(batch["particles"], ((0, 0), (0, ROWS - 40), (0, 0)))}
    np.testing.assert_allclose(scores(model, batch), scores(model, padded), rtol=1e-5)


# --- all ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inclusive_transformer", *SETS])
def test_dropout_is_as_published(name: str) -> None:
    """Also, no two layers drop the same."""
    layers = [layer for layer in build_model(TrainingConfig(model=name), 3).layers if isinstance(layer, EventDropout)]
    assert [layer.rate for layer in layers] == [0.2, 0.2]
    assert {layer.stream for layer in layers} == {0, 1}


# --- sets of particles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
def test_neither_order_nor_padding_of_particles_matters(name: str) -> None:
    model, batch = small(name), events([9, 4, 1], 9)
    before = scores(model, batch)
    order = RNG.permutation(4)
    mixed = {**batch, "particles": batch["particles"].copy()}
    mixed["particles"][0] = mixed["particles"][0, ::-1]
    mixed["particles"][1, :4] = mixed["particles"][1, order]
    padded = {**batch, "particles": np.pad(batch["particles"], ((0, 0), (0, 30), (0, 0)))}
    np.testing.assert_allclose(scores(model, mixed), before, rtol=1e-4)
    np.testing.assert_allclose(scores(model, padded), before, rtol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_every_particle_that_is_looked_at_matters(name: str) -> None:
    model, batch = small(name), events([6], 9)
    before = scores(model, batch)
    for place in range(6):
        particles = batch["particles"].copy()
        particles[0, place, ETA] += 1.0
        assert not np.allclose(scores(model, {**batch, "particles": particles}), before, rtol=1e-5)


@pytest.mark.parametrize("name", SETS)
def test_training_reaches_every_weight_and_lowers_the_loss(name: str) -> None:
    model, batch = small(name), events([9, 6, 3, 1, 8, 9], 9)
    compute = compiled(model, training=True)
    before, _, *gradients = compute(batch)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.any(gradient) or variable.path.endswith("bias"), variable.path  # a key's bias changes no softmax
        variable.assign_sub(0.01 * gradient)
    assert compute(batch)[0] < before


# --- pairs -------------------------------------------------------------------------------------------------------


def test_pair_features_are_those_of_four_vectors() -> None:
    pt, eta, phi = np.array([[30.0, 4.0, 0.7]]), np.array([[0.3, -1.2, 2.0]]), np.array([[3.0, -3.1, 0.4]])
    found = np.asarray(pair_features(tf.constant(np.stack([pt, eta, phi], axis=-1), tf.float32)))
    momentum = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=-1)[0]
    angle = np.exp(1j * phi[0])
    for i, j in [(0, 1), (1, 2), (2, 0)]:
        together = momentum[i] + momentum[j]
        delta = np.hypot(eta[0, i] - eta[0, j], np.angle(angle[i] / angle[j]))
        lower = min(pt[0, i], pt[0, j])
        expected = [lower * delta, delta, lower / (pt[0, i] + pt[0, j]), together[0] ** 2 - np.sum(together[1:] ** 2)]
        np.testing.assert_allclose(found[0, i, j], np.log(expected), rtol=1e-4)
        np.testing.assert_allclose(found[0, i, j], found[0, j, i], rtol=1e-6)
    assert np.isfinite(found).all()


def test_pairs_are_made_of_physical_units() -> None:
    model, batch = small("particle_transformer"), events([6], 6)
    inner = keras.Model(model.input, model.get_layer("kinematics").output)
    physical = np.asarray(inner(batch))[0]
    chosen = batch["particles"][0][np.argsort(-batch["particles"][0, :, PT])] * SCALING.particle_scale
    np.testing.assert_allclose(physical, (chosen + SCALING.particle_offset)[:, [PT, ETA, PHI]], rtol=1e-5)
    assert not {weight.path for weight in model.trainable_variables} & {
        weight.path for weight in model.get_layer("kinematics").weights
    }


def test_pairs_are_made_in_full_precision_whatever_the_layers_compute_in() -> None:
    batch, found = events([6, 3], 9), []
    for precision in ("float32", "mixed_bfloat16"):
        model = build_model(TrainingConfig(model="particle_transformer", precision=precision), 3)
        set_scaling(model, SCALING)
        layer = model.get_layer("pair_hidden")
        found.append(np.asarray(keras.Model(model.input, layer.input)(batch)))
    assert layer.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(*found)


def test_leading_particles_are_those_of_highest_pt() -> None:
    particles = events([5, 2], 7)["particles"]
    particles[0, :5, PT] = [-0.5, 3.0, -0.1, 2.0, 1.0]  # scaled: it may be below 0
    found = np.asarray(leading(tf.constant(particles), 4))
    np.testing.assert_array_equal(found[0], particles[0, [1, 3, 4, 2]])
    assert sorted(found[1].any(axis=-1)) == [False, False, True, True]


def test_a_dataset_without_scaling_is_refused_where_units_are_needed() -> None:
    set_scaling(build_model(TrainingConfig(model="hlf"), 3), None)
    with pytest.raises(InvalidInputError, match="particle_transformer needs Pt, Eta, Phi in physical units"):
        set_scaling(build_model(TrainingConfig(model="particle_transformer"), 3), None)
