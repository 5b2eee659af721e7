"""The published models (arXiv:1909.10389) in plain Keras: what ours are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np

from toposieve.training.dropout import EventDropout

ROWS = 801


def taken_by_dropout(model: keras.Model, events: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What each dropout of a model takes, ours or of Keras, in the order of their widths."""
    layers = [layer for layer in model.layers if isinstance(layer, EventDropout | keras.layers.Dropout)]
    inputs = {name: events[name] for name in model.input}
    found = [np.asarray(keras.Model(model.input, layer.input)(inputs)) for layer in layers]
    return sorted(found, key=lambda values: values.shape[-1])


def dense(units: int, activation: str = "relu") -> keras.layers.Dense:
    return keras.layers.Dense(units, activation=activation)


def dropout() -> keras.layers.Dropout:
    return keras.layers.Dropout(0.2)


def published_hlf() -> keras.Model:
    features = keras.Input((14,), name="high_level")
    hidden = dense(10)(dense(20)(dense(50)(features)))
    return keras.Model({"high_level": features}, dense(3, "softmax")(hidden))


def published_sequence(layer: keras.layers.Layer) -> keras.Model:
    particles = keras.Input((None, 19), name="particles")
    summary = dropout()(layer(keras.layers.Masking()(particles)))
    return keras.Model({"particles": particles}, dense(3, "softmax")(summary))


def published_inclusive(layer: keras.layers.Layer) -> keras.Model:
    particles = keras.Input((None, 19), name="particles")
    features = keras.Input((14,), name="high_level")
    summary = dropout()(layer(keras.layers.Masking()(particles)))
    hidden = dense(25)(keras.layers.Concatenate()([summary, dropout()(features)]))
    return keras.Model({"high_level": features, "particles": particles}, dense(3, "softmax")(hidden))


def published_transformer() -> keras.Model:
    """The particles alone, ``ROWS`` of them."""
    particles, branch = _transformer()
    return keras.Model({"particles": particles}, dense(3, "softmax")(branch))


def published_inclusive_transformer() -> keras.Model:
    """As in the authors' notebook TensorFlow_Inclusive_Classifier_Transformer_TFRecord."""
    particles, branch = _transformer()
    features = keras.Input((14,), name="high_level")
    hidden = dense(25)(keras.layers.Concatenate()([branch, dropout()(features)]))
    return keras.Model({"high_level": features, "particles": particles}, dense(3, "softmax")(hidden))


def _transformer() -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Input and branch."""
    particles = keras.Input((ROWS, 19), name="particles")
    attended = keras.layers.MultiHeadAttention(num_heads=8, key_dim=19)(particles, particles, particles)
    kept = dropout()(keras.layers.LayerNormalization(epsilon=1e-6)(attended))
    each = dense(20)(kept)  # TimeDistributed there, which Keras 3 would unroll 801 times
    return particles, dense(10)(keras.layers.Flatten()(each))


PUBLISHED: dict[str, tuple[int, Callable[[], keras.Model]]] = {
    "hlf": (2013, published_hlf),
    "particle_sequence": (10_803, lambda: published_sequence(keras.layers.GRU(50, activation="tanh"))),
    "inclusive": (12_353, lambda: published_inclusive(keras.layers.GRU(50, activation="tanh"))),
    "particle_sequence_lstm": (14_153, lambda: published_sequence(keras.layers.LSTM(50))),
    "inclusive_lstm": (15_703, lambda: published_inclusive(keras.layers.LSTM(50))),
}
"""Model → number of its parameters, and how it was published."""

TRANSFORMERS: dict[str, tuple[int, Callable[[], keras.Model]]] = {
    "particle_sequence_transformer": (172_708, published_transformer),
    "inclusive_transformer": (173_378, published_inclusive_transformer),
}
"""The same of those that see all rows, padding too."""
