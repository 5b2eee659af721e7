"""Our models against the published definitions (arXiv:1909.10389) in plain Keras: layers, outputs, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.published_definitions import PUBLISHED, taken_by_dropout
from toposieve.config import TrainingConfig
from toposieve.training.architectures import build_model
from toposieve.training.export import standard

LENGTHS = np.array([12, 3, 7, 1, 9])
LABELS = np.array([0, 1, 2, 1, 0])
RNG = np.random.default_rng(4)


@pytest.fixture(scope="module", params=PUBLISHED)
def pair(request: pytest.FixtureRequest) -> tuple[keras.Model, keras.Model]:
    """Our model and the published one, with the same weights, none of them 0."""
    ours, reference = build_model(TrainingConfig(model=request.param), 3), PUBLISHED[request.param][1]()
    weights = [RNG.normal(scale=0.3, size=weight.shape) for weight in ours.get_weights()]
    for model in (ours, reference):
        model.set_weights(weights)
    return ours, reference


def events(padding: int, lengths: np.ndarray = LENGTHS) -> dict[str, np.ndarray]:
    """Events with particles up to their lengths, and some more rows of zeros."""
    particles = RNG.normal(size=(len(lengths), lengths.max() + padding, 19)).astype(np.float32)
    particles[np.arange(particles.shape[1]) >= lengths[:, np.newaxis]] = 0.0
    return {"high_level": RNG.normal(size=(len(lengths), 14)).astype(np.float32), "particles": particles}


def output_and_gradients(model: keras.Model, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    @tf.function(autograph=False)
    def compute(batch: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            output = model(batch, training=False)
            loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(LABELS, output))
        return [output, *tape.gradient(loss, model.trainable_variables)]

    return [tensor.numpy() for tensor in compute({name: tf.constant(inputs[name]) for name in model.input})]


@pytest.mark.parametrize(
    ("padding", "lengths"), [(0, LENGTHS), (23, LENGTHS), (0, np.full(5, 12))], ids=["some", "much", "none"]
)
def test_outputs_and_gradients_are_those_published(
    pair: tuple[keras.Model, keras.Model], padding: int, lengths: np.ndarray
) -> None:
    inputs = events(padding, lengths)
    results = (output_and_gradients(model, inputs) for model in pair)
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_dropout_is_where_it_was_published(pair: tuple[keras.Model, keras.Model]) -> None:
    inputs = events(2)
    both = (taken_by_dropout(model, inputs) for model in pair)
    for one, two in zip(*both, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_layers_are_those_published(pair: tuple[keras.Model, keras.Model]) -> None:
    ours, published = (
        [shape(layer) for layer in model.layers if not isinstance(layer, UNSEEN)]
        for model in (standard(pair[0], None), pair[1])
    )
    assert sorted(ours) == sorted(published)


UNSEEN = (keras.layers.InputLayer, keras.layers.Softmax)
"""The softmax is one with the layer before it, in the published definitions."""


def shape(layer: keras.layers.Layer) -> str:
    """What tells a layer from another that has the same weights."""
    config = layer.get_config() | ({"activation": "softmax"} if layer.name == "logits" else {})
    known = ("activation", "recurrent_activation", "rate", "units", "use_bias")
    return " ".join([type(layer).__name__, *(f"{key}={config[key]}" for key in known if key in config)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_models_have_the_published_number_of_parameters(name: str) -> None:
    assert build_model(TrainingConfig(model=name), 3).count_params() == PUBLISHED[name][0]
