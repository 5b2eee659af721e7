"""The published architectures (arXiv:1909.10389), by name.

Inputs are dictionaries: ``high_level`` (batch, 14) and ``particles`` (batch, particles, 19), zero-padded on the right;
a model's ``input`` names those it takes. The output is the probability of each class, (batch, 3).
"""

from __future__ import annotations

from collections.abc import Callable

import keras

from toposieve import schema
from toposieve.config import ModelName
from toposieve.training.dropout import EventDropout
from toposieve.training.recurrent import TrimmedGRU

HIGH_LEVEL = "high_level"
PARTICLES = "particles"
LOGITS_LAYER = "logits"
DROPOUT_RATE = 0.2
_IN_PLACE_OF_ZERO = 2**30
"""TensorFlow's shuffle cannot work with the global seed 0 (or 2**31 - 1, the same to it) and a tensor as its own."""


def build_model(name: ModelName, seed: int) -> keras.Model:
    """A new model, its initial weights drawn from ``seed``."""
    keras.utils.set_random_seed(seed or _IN_PLACE_OF_ZERO)
    return _BUILDERS[name]()


def model_inputs(name: ModelName) -> tuple[str, ...]:
    """Names of the inputs that a model takes."""
    return MODEL_INPUTS[name]


def logits_of(model: keras.Model) -> keras.Model:
    """The same model up to the scores before the softmax."""
    return keras.Model(model.input, model.get_layer(LOGITS_LAYER).output)


def _high_level_input() -> keras.KerasTensor:
    return keras.Input((len(schema.HIGH_LEVEL_FEATURES),), name=HIGH_LEVEL)


def _particles_input() -> keras.KerasTensor:
    return keras.Input((None, len(schema.LOW_LEVEL_FEATURES)), name=PARTICLES)


def _with_output(inputs: list[keras.KerasTensor], hidden: keras.KerasTensor, name: str) -> keras.Model:
    logits = keras.layers.Dense(len(schema.LABELS), name=LOGITS_LAYER)(hidden)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model({tensor.name: tensor for tensor in inputs}, probabilities, name=name)


def _recurrent_branch(particles: keras.KerasTensor) -> keras.KerasTensor:
    real = keras.layers.Masking(name="real_particles")(particles)
    summary = TrimmedGRU(50, name="gru")(real)
    return EventDropout(DROPOUT_RATE, stream=0, name="particles_dropout")(summary)


def _hlf() -> keras.Model:
    high_level = hidden = _high_level_input()
    for units in (50, 20, 10):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    return _with_output([high_level], hidden, "hlf")


def _particle_sequence() -> keras.Model:
    particles = _particles_input()
    return _with_output([particles], _recurrent_branch(particles), "particle_sequence")


def _inclusive() -> keras.Model:
    high_level, particles = _high_level_input(), _particles_input()
    beside = EventDropout(DROPOUT_RATE, stream=1, name="high_level_dropout")(high_level)
    joined = keras.layers.Concatenate(name="joined")([_recurrent_branch(particles), beside])
    hidden = keras.layers.Dense(25, activation="relu")(joined)
    return _with_output([high_level, particles], hidden, "inclusive")


_BUILDERS: dict[str, Callable[[], keras.Model]] = {
    "hlf": _hlf,
    "particle_sequence": _particle_sequence,
    "inclusive": _inclusive,
}

MODEL_INPUTS: dict[str, tuple[str, ...]] = {
    "hlf": (HIGH_LEVEL,),
    "particle_sequence": (PARTICLES,),
    "inclusive": (HIGH_LEVEL, PARTICLES),
}
