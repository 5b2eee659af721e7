"""What the models share: inputs, the joint with the high-level features, and the output.

Every layer has a name: Keras would number them through the process, and a model's file would not be the same again.
"""

from __future__ import annotations

import keras

from toposieve import schema
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.training.dropout import EventDropout

LOGITS_LAYER = "logits"
JOINT_LAYER = "joined"
PARTICLES_STREAM, HIGH_LEVEL_STREAM = 0, 1
"""Streams of the dropout behind the particles' branch and behind the high-level features."""


def high_level_input() -> keras.KerasTensor:
    """Features of events, (batch, 14)."""
    return keras.Input((len(schema.HIGH_LEVEL_FEATURES),), name=HIGH_LEVEL)


def particles_input() -> keras.KerasTensor:
    """Particles of events, (batch, particles, 19), zero-padded on the right."""
    return keras.Input((None, len(schema.LOW_LEVEL_FEATURES)), name=PARTICLES)


def joined(
    branch: keras.KerasTensor, high_level: keras.KerasTensor, joined_units: int, dropout_rate: float
) -> keras.KerasTensor:
    """A summary of the particles and the high-level features, (batch, any) and (batch, 14) → (batch, joined_units)."""
    beside = EventDropout(dropout_rate, HIGH_LEVEL_STREAM, name="high_level_dropout")(high_level)
    both = keras.layers.Concatenate(name=JOINT_LAYER)([branch, beside])
    return keras.layers.Dense(joined_units, activation="relu", name="hidden")(both)


def with_output(inputs: list[keras.KerasTensor], hidden: keras.KerasTensor, classes: int, name: str) -> keras.Model:
    """The model that tells so many classes from (batch, any)."""
    logits = keras.layers.Dense(classes, name=LOGITS_LAYER)(hidden)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model({tensor.name: tensor for tensor in inputs}, probabilities, name=name)


def logits_of(model: keras.Model) -> keras.Model:
    """The same model up to the scores before the softmax."""
    return keras.Model(model.input, model.get_layer(LOGITS_LAYER).output)


def parts_at_joint(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """A model's summary of the particles alone, and what it makes of such summaries and the high-level features.

    The second knows the summaries, (batch, any), by the name of the first one's output.
    """
    branch, _ = model.get_layer(JOINT_LAYER).input
    summary = keras.Model({PARTICLES: model.input[PARTICLES]}, branch)
    return summary, keras.Model({branch.name: branch, HIGH_LEVEL: model.input[HIGH_LEVEL]}, model.output)
