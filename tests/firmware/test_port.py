import numpy as np
import pytest

from support.evaluation_data import make_scaling
from toposieve import schema
from toposieve.firmware.port import INTEGER_BITS, Port, random_features

FEATURES = len(schema.HIGH_LEVEL_FEATURES)
SCALING = make_scaling()  # every feature from 5 to 55
PORT = Port.of(SCALING, 10)


def test_steps_are_powers_of_two_and_the_training_split_is_within_the_range():
    assert PORT.exponents.tolist() == [6] * FEATURES
    assert PORT.steps.tolist() == [64 / 1024] * FEATURES
    assert PORT.word_bits == 14


def test_a_feature_by_hand():
    features = np.zeros((5, FEATURES))
    features[:, 0] = [5.0, 5.03, 5.04, 600.0, -600.0]
    steps = PORT.rounded(features)
    assert steps[:, 0].tolist() == [80, 80, 81, 9600, -9600]
    assert PORT.saturated(steps)[:, 0].tolist() == [80, 80, 81, 8191, -8192]
    assert PORT.values(steps)[0, 0] == 5 / 64


def test_the_folded_layer_says_the_same_of_an_event():
    random = np.random.default_rng(0)
    kernel, bias = random.normal(size=(FEATURES, 4)), random.normal(size=4)
    steps = random.integers(-1024, 1024, (50, FEATURES))
    folded, moved = PORT.folded(kernel, bias, SCALING)
    scaled = (steps * PORT.steps - SCALING.high_level_offset) / SCALING.high_level_scale
    np.testing.assert_allclose(PORT.values(steps) @ folded + moved, scaled @ kernel + bias, rtol=0, atol=1e-5)


def test_every_word_is_described_with_its_unit_and_range():
    words = PORT.describe()
    assert [word["feature"] for word in words] == list(schema.HIGH_LEVEL_FEATURES)
    assert words[0] == {"feature": "HT", "unit": "GeV", "step": 0.0625, "least": -512.0, "most": 511.9375}


def test_random_features_reach_within_and_beyond_the_port():
    steps = PORT.rounded(random_features(PORT, 300, seed=1))
    reach = np.abs(PORT.values(steps)).max(axis=1)
    assert len(steps) == 300
    assert (reach <= 1).sum() == pytest.approx(100, abs=1)
    beyond = (PORT.saturated(steps) != steps).any(axis=1)
    assert 80 < beyond.sum() < 120
    assert sorted(np.sign(steps[:2, 0])) == [-1, 1]
    assert (reach[:2] == 4 * 2**INTEGER_BITS).all()
    assert not np.array_equal(steps, PORT.rounded(random_features(PORT, 300, seed=2)))
