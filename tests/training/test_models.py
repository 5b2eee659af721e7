from pathlib import Path

import keras
import numpy as np
import pytest

from toposieve.training.models import build_model, logits_of, model_inputs

RNG = np.random.default_rng(0)
HIGH_LEVEL = RNG.normal(size=(4, 14)).astype(np.float32)
PARTICLES = RNG.normal(size=(4, 12, 19)).astype(np.float32)
EVENTS = {"high_level": HIGH_LEVEL, "particles": PARTICLES}


def scores(model: keras.Model, events: dict[str, np.ndarray] = EVENTS) -> np.ndarray:
    return np.asarray(model({name: events[name] for name in model.input}, training=False))


@pytest.mark.parametrize(("name", "parameters"), [("hlf", 2013), ("particle_sequence", 10_803), ("inclusive", 12_353)])
def test_models_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    assert build_model(name, seed=1).count_params() == parameters


@pytest.mark.parametrize("name", ["hlf", "particle_sequence", "inclusive"])
def test_models_give_a_probability_per_class(name: str) -> None:
    model = build_model(name, seed=1)
    assert tuple(model.input) == model_inputs(name)
    result = scores(model)
    assert result.shape == (4, 3)
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-6)
    assert (result > 0).all()


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    model = build_model("inclusive", seed=1)
    logits = scores(logits_of(model))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores(model), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["particle_sequence", "inclusive"])
def test_padding_changes_nothing(name: str) -> None:
    model = build_model(name, seed=1)
    padded = {**EVENTS, "particles": np.pad(PARTICLES, ((0, 0), (0, 20), (0, 0)))}
    np.testing.assert_allclose(scores(model, padded), scores(model), rtol=1e-5)


@pytest.mark.parametrize("name", ["particle_sequence", "inclusive"])
def test_the_order_of_particles_matters(name: str) -> None:
    model = build_model(name, seed=1)
    assert not np.allclose(scores(model, {**EVENTS, "particles": PARTICLES[:, ::-1]}), scores(model), rtol=1e-3)


def test_the_seed_decides_the_initial_weights() -> None:
    first, again, other = (build_model("inclusive", seed).get_weights() for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.allclose(first[0], other[0])


def test_a_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = build_model("inclusive", seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert tuple(loaded.input) == tuple(model.input)
    np.testing.assert_array_equal(scores(loaded), scores(model))
