"""A small Particle Transformer: attention that knows how two particles lie to each other (arXiv:2202.03772).

As there, a learned function of ln kT, ln ΔR, ln z and ln m² of a pair is added to its score of attention. Other than
there, the mean over particles takes the place of the class token, and a fixed factor that of the batch norm, which
would make what an event gives depend on its batch.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.preprocessing import Scaling
from toposieve.training.architectures.parts import (
    PARTICLES_STREAM,
    high_level_input,
    joined,
    particles_input,
    with_output,
)
from toposieve.training.architectures.transformer import feed_forward
from toposieve.training.dropout import EventDropout

KINEMATICS = ("Pt", "Eta", "Phi")
"""Features of a particle that those of a pair are made of."""
KINEMATICS_LAYER = "kinematics"
_COLUMNS = [schema.LOW_LEVEL_FEATURES.index(name) for name in KINEMATICS]

_PAIR_UNITS = 16
_SMALLEST = 1e-4
"""Least pt in GeV, ΔR, and m² in GeV² whose logarithm is taken: less than detectors tell from 0."""
_SIZE_OF_LOGARITHMS = 5.0


def particle_transformer(
    *,
    classes: int,
    set_units: int,
    set_heads: int,
    set_blocks: int,
    leading_particles: int,
    joined_units: int,
    dropout_rate: float,
) -> keras.Model:
    """Attention among the particles of highest pt, whose mean is joined with the high-level features.

    Its layer of physical units is still to be told the scaling of the dataset: :func:`set_scaling`.
    """
    high_level, every = high_level_input(), particles_input()
    particles = leading(every, leading_particles)  # (batch, leading_particles, 19)
    real = ops.any(ops.not_equal(particles, 0.0), axis=-1)
    bias = _bias(pair_features(_kinematics(particles)), set_heads)
    hidden = keras.layers.Dense(set_units, name="embedded")(particles)
    for block in range(set_blocks):
        hidden = feed_forward(_attended(hidden, bias, real, block), block)
    normal = keras.layers.LayerNormalization(name="norm")(hidden)
    mean = keras.layers.GlobalAveragePooling1D(name="mean")(normal, mask=real)
    branch = EventDropout(dropout_rate, PARTICLES_STREAM, name="particles_dropout")(mean)
    hidden = joined(branch, high_level, joined_units, dropout_rate)
    return with_output([high_level, every], hidden, classes, "particle_transformer")


def set_scaling(model: keras.Model, scaling: Scaling | None) -> None:
    """Tell a model that needs it how its particles were scaled; it is saved among the weights, and never trained.

    Raises:
        InvalidInputError: The model needs physical units and the dataset has no scaling.
    """
    layer = next((layer for layer in model.layers if layer.name == KINEMATICS_LAYER), None)
    if layer is None:
        return
    if scaling is None:
        raise InvalidInputError(
            f"{model.name} needs {', '.join(KINEMATICS)} in physical units, and the dataset has no scaling.json: "
            "prepare one, or train another model"
        )
    factors, offsets = scaling.particle_scale[_COLUMNS], scaling.particle_offset[_COLUMNS]
    layer.set_weights([factors, offsets, np.zeros_like(offsets), np.ones_like(factors)])


def leading(particles: keras.KerasTensor, count: int) -> keras.KerasTensor:
    """The particles of highest pt, (batch, particles, 19) → (batch, count, 19); zeros where there are no more."""
    enough = keras.layers.ZeroPadding1D((0, count), dtype="float32", name="enough")(particles)
    real = ops.any(ops.not_equal(enough, 0.0), axis=-1)
    pt = ops.take(enough, schema.LOW_LEVEL_FEATURES.index("Pt"), axis=-1)  # scaled: in the same order
    _, places = ops.top_k(ops.where(real, pt, -1e9), count)
    return ops.take_along_axis(enough, ops.expand_dims(places, -1), axis=1)


def pair_features(kinematics: keras.KerasTensor) -> keras.KerasTensor:
    """Logarithms of kT, ΔR, z and m² of each pair of massless particles, (batch, particles, particles, 4).

    With ΔR² = Δη² + Δφ², kT = min(pt) · ΔR in GeV, z = min(pt) / (pt + pt'), m² = 2 pt pt' (cosh Δη - cos Δφ) in GeV².

    Args:
        kinematics: pt in GeV, η, and φ in rad: (batch, particles, 3).
    """
    one, other = ops.expand_dims(kinematics, 2), ops.expand_dims(kinematics, 1)
    pt, eta, phi = (ops.take(one, column, axis=-1) for column in range(3))  # (batch, particles, 1)
    pt_other, eta_other, phi_other = (ops.take(other, column, axis=-1) for column in range(3))
    pt, pt_other = (ops.maximum(each, _SMALLEST) for each in (pt, pt_other))
    d_eta = eta - eta_other
    d_phi = ops.mod(phi - phi_other + math.pi, 2 * math.pi) - math.pi
    delta = ops.maximum(ops.sqrt(d_eta * d_eta + d_phi * d_phi), _SMALLEST)
    lower = ops.minimum(pt, pt_other)
    mass = ops.maximum(2 * pt * pt_other * (ops.cosh(d_eta) - ops.cos(d_phi)), _SMALLEST)
    return ops.log(ops.stack([lower * delta, delta, lower / (pt + pt_other), mass], axis=-1))


def _kinematics(particles: keras.KerasTensor) -> keras.KerasTensor:
    """In physical units: a batch norm at rest is the standard layer that keeps a factor and an offset a column.

    In full precision: two particles that lie close would be none or far apart in less.
    """
    scaled = ops.take(particles, _COLUMNS, axis=-1)
    return keras.layers.BatchNormalization(epsilon=0.0, trainable=False, dtype="float32", name=KINEMATICS_LAYER)(scaled)


def _bias(features: keras.KerasTensor, heads: int) -> keras.KerasTensor:
    """What is added to the scores, (batch, heads, particles, particles)."""
    hidden = keras.layers.Dense(_PAIR_UNITS, activation="gelu", name="pair_hidden")(features / _SIZE_OF_LOGARITHMS)
    return ops.transpose(keras.layers.Dense(heads, name="pair_bias")(hidden), (0, 3, 1, 2))


def _attended(
    hidden: keras.KerasTensor, bias: keras.KerasTensor, real: keras.KerasTensor, block: int
) -> keras.KerasTensor:
    """Attention among real particles, with layer norm before and a residual around it."""
    (_, count, units), heads = hidden.shape, bias.shape[1]
    width = math.ceil(units / heads)
    normal = keras.layers.LayerNormalization(name=f"attention_norm_{block}")(hidden)
    query, key, value = (
        ops.reshape(keras.layers.Dense(heads * width, name=f"{name}_{block}")(normal), (-1, count, heads, width))
        for name in ("query", "key", "value")
    )
    summed = ops.dot_product_attention(query, key, value, bias=bias, mask=ops.expand_dims(real, (1, 2)))
    flat = ops.reshape(summed, (-1, count, heads * width))
    mixed = keras.layers.Dense(units, name=f"mixed_{block}")(flat)
    return keras.layers.Add(name=f"attended_{block}")([hidden, mixed])
