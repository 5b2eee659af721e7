import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from itertools import pairwise

import keras
import numpy as np
import pytest

from support.serving_data import MODELS, make_scaling, portable, trained
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.scores import probabilities
from toposieve.serving.portable import to_onnx
from toposieve.serving.scorer import Scorer
from toposieve.training.architectures import build_model
from toposieve.training.export import standard

# Keras 3.15 and TensorFlow 2.21 under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def physical(events=23, particles=40):
    """Events of any length, in physical units; no particle is all zeros."""
    random = np.random.default_rng(1)
    lengths = random.integers(1, particles + 1, events)
    lengths[:2] = 1, particles
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    high_level = random.normal(3, 2, (events, 14)).astype(np.float32)
    return high_level, random.normal(1, 3, (offsets[-1], 19)).astype(np.float32), offsets


def padded(particles, offsets, width):
    found = np.zeros((len(offsets) - 1, width, 19), np.float32)
    for row, (start, stop) in enumerate(pairwise(offsets)):
        found[row, : stop - start] = particles[start:stop]
    return found


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_are_those_of_keras(name):
    model = trained(name)
    high_level, particles, offsets = physical()
    given = {"high_level": high_level, "particles": padded(particles, offsets, 44)}
    expected = standard(model, make_scaling())({key: given[key] for key in model.input}).numpy()
    assert np.ptp(expected, axis=0).min() > 0.05
    found = probabilities(Scorer(portable(name), 1).logits(high_level, particles, offsets))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", MODELS)
def test_an_event_gets_the_same_bits_whatever_comes_with_it(name):
    scorer = Scorer(portable(name), 1)
    high_level, particles, offsets = physical(events=700 if name == "hlf" else 23)
    together = scorer.logits(high_level, particles, offsets)
    for row in (0, 1, len(high_level) - 1):
        start, stop = offsets[row : row + 2]
        alone = scorer.logits(high_level[row : row + 1], particles[start:stop], np.array([0, stop - start]))
        assert alone.tobytes() == together[row : row + 1].tobytes()


def test_the_same_model_has_the_same_bytes():
    assert portable("inclusive") == portable("inclusive")
    assert portable("hlf") != portable("hlf", label="another")


def test_a_layer_without_a_portable_form_is_named():
    model = standard(build_model(TrainingConfig(model="particle_transformer"), 3), None)
    with pytest.raises(InvalidInputError, match=r"particle_transformer has a layer \w+ \(\w+\), .*SavedModel"):
        to_onnx(model, make_scaling(), {})


def test_an_activation_without_a_portable_form_is_named():
    given = keras.Input((14,), name="high_level")
    hidden = keras.layers.Dense(3, activation="tanh", name="hidden")(given)
    with pytest.raises(InvalidInputError, match="layer hidden: tanh"):
        to_onnx(keras.Model({"high_level": given}, hidden), make_scaling(), {})
