"""Transformers of an event's particles: the published one, and one that looks at real particles only."""

from __future__ import annotations

import math

import keras

from toposieve import schema
from toposieve.training.architectures.parts import (
    PARTICLES_STREAM,
    high_level_input,
    joined,
    particles_input,
    with_output,
)
from toposieve.training.attention import TrimmedAttention
from toposieve.training.dropout import EventDropout


def particle_sequence_transformer(*, classes: int, transformer_heads: int, dropout_rate: float) -> keras.Model:
    """The published branch alone."""
    particles = particles_input()
    branch = _branch(particles, transformer_heads, dropout_rate)
    return with_output([particles], branch, classes, "particle_sequence_transformer")


def inclusive_transformer(
    *, classes: int, transformer_heads: int, joined_units: int, dropout_rate: float
) -> keras.Model:
    """The published branch, joined with the high-level features.

    As in the notebook TensorFlow_Inclusive_Classifier_Transformer_TFRecord of the authors' repository
    (cerndb/SparkDLTrigger): no mask, no residual, and weights of its own for each of the 801 rows, padding included.
    """
    high_level, particles = high_level_input(), particles_input()
    branch = _branch(particles, transformer_heads, dropout_rate)
    hidden = joined(branch, high_level, joined_units, dropout_rate)
    return with_output([high_level, particles], hidden, classes, "inclusive_transformer")


def inclusive_masked_transformer(
    *, classes: int, set_units: int, set_heads: int, set_blocks: int, joined_units: int, dropout_rate: float
) -> keras.Model:
    """Attention among the real particles, whose mean is joined with the high-level features.

    Layer norm comes before each layer, and a residual around it (Xiong et al., arXiv:2002.04745).
    """
    high_level, particles = high_level_input(), particles_input()
    real = keras.layers.Masking(name="real_particles")(particles)
    hidden = keras.layers.Dense(set_units, name="embedded")(real)  # (batch, particles, set_units)
    for block in range(set_blocks):
        normal = keras.layers.LayerNormalization(name=f"attention_norm_{block}")(hidden)
        attention = TrimmedAttention(set_heads, math.ceil(set_units / set_heads), name=f"attention_{block}")
        hidden = keras.layers.Add(name=f"attended_{block}")([hidden, attention(normal, normal)])
        hidden = feed_forward(hidden, block)
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(keras.layers.LayerNormalization(name="norm")(hidden))
    branch = EventDropout(dropout_rate, PARTICLES_STREAM, name="particles_dropout")(mean)
    hidden = joined(branch, high_level, joined_units, dropout_rate)
    return with_output([high_level, particles], hidden, classes, "inclusive_masked_transformer")


def feed_forward(hidden: keras.KerasTensor, block: int) -> keras.KerasTensor:
    """Two layers for each particle, with layer norm before and a residual around them: (batch, particles, units)."""
    units = hidden.shape[-1]
    normal = keras.layers.LayerNormalization(name=f"forward_norm_{block}")(hidden)
    wide = keras.layers.Dense(2 * units, activation="gelu", name=f"forward_wide_{block}")(normal)
    narrow = keras.layers.Dense(units, name=f"forward_narrow_{block}")(wide)
    return keras.layers.Add(name=f"forward_{block}")([hidden, narrow])


def _branch(particles: keras.KerasTensor, heads: int, dropout_rate: float) -> keras.KerasTensor:
    longest = schema.MAX_PARTICLES
    rows = keras.layers.ZeroPadding1D((0, longest), name="rows")(particles)[:, :longest]  # however far it is padded
    attended = TrimmedAttention(heads, len(schema.LOW_LEVEL_FEATURES), name="attention")(rows, rows)
    normal = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(attended)
    kept = EventDropout(dropout_rate, PARTICLES_STREAM, name="particles_dropout")(normal)
    each = keras.layers.Dense(20, activation="relu", name="each_particle")(kept)  # (batch, particles, 20)
    flat = keras.layers.Reshape((longest * 20,), name="flat")(each)
    return keras.layers.Dense(10, activation="relu", name="summary")(flat)
