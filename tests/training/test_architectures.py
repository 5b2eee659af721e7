import inspect

import keras
import numpy as np
import pytest

from toposieve.config import TrainingConfig
from toposieve.models import ARCHITECTURES
from toposieve.training import architectures
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of, parts_at_joint
from toposieve.training.dropout import EventDropout

RNG = np.random.default_rng(0)
EVENTS = {
    "high_level": RNG.normal(size=(4, 14)).astype(np.float32),
    "particles": RNG.normal(size=(4, 12, 19)).astype(np.float32),
}


def build(name: str) -> keras.Model:
    return build_model(TrainingConfig(model=name), 3)


def scores(model: keras.Model, events: dict[str, np.ndarray] = EVENTS) -> np.ndarray:
    return np.asarray(model({name: events[name] for name in model.input}, training=False))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_take_the_inputs_and_parameters_that_are_registered(name: str) -> None:
    functions = [getattr(family, name) for family in architectures._FAMILIES if hasattr(family, name)]
    assert [tuple(sorted(inspect.signature(each).parameters)) for each in functions] == [
        tuple(sorted(("classes", *ARCHITECTURES[name].parameters)))
    ]
    model = build(name)
    assert tuple(model.input) == ARCHITECTURES[name].inputs
    assert model.name == name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_models_give_a_probability_per_class(name: str) -> None:
    result = scores(build(name))
    assert result.shape == (4, 3)
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-6)
    assert (result > 0).all()


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    model = build("inclusive")
    logits = scores(logits_of(model))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores(model), expected, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name, each in ARCHITECTURES.items() if len(each.inputs) == 2])
def test_a_model_is_the_sum_of_its_parts(name: str) -> None:
    model = build(name)
    summary, rest = parts_at_joint(model)
    events = {summary.output.name: scores(summary), "high_level": EVENTS["high_level"]}
    np.testing.assert_array_equal(scores(rest, events), scores(model))


@pytest.mark.parametrize("name", ["particle_sequence", "inclusive", "inclusive_lstm"])
def test_the_order_of_particles_matters(name: str) -> None:
    model = build(name)
    backwards = {**EVENTS, "particles": EVENTS["particles"][:, ::-1]}
    assert not np.allclose(scores(model, backwards), scores(model), rtol=1e-3)


def test_the_seed_decides_the_initial_weights() -> None:
    first, again, other = (build_model(TrainingConfig(seed=seed), 3).get_weights() for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.allclose(first[0], other[0])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dropouts_of_a_model_choose_independently(name: str) -> None:
    streams = [layer.stream for layer in build(name).layers if isinstance(layer, EventDropout)]
    assert len(set(streams)) == len(streams)
