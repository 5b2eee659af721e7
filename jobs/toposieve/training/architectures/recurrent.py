"""Networks that read an event's particles one by one, in order: a GRU or an LSTM."""

from __future__ import annotations

import keras

from toposieve.training.architectures.parts import (
    PARTICLES_STREAM,
    high_level_input,
    joined,
    particles_input,
    with_output,
)
from toposieve.training.dropout import EventDropout
from toposieve.training.recurrent import TrimmedGRU, TrimmedLSTM


def particle_sequence(*, classes: int, gru_units: int, dropout_rate: float) -> keras.Model:
    """The GRU of the particles alone."""
    return _alone(TrimmedGRU(gru_units, name="gru"), dropout_rate, classes, "particle_sequence")


def inclusive(*, classes: int, gru_units: int, joined_units: int, dropout_rate: float) -> keras.Model:
    """The GRU of the particles, joined with the high-level features: the best of the published."""
    return _inclusive(TrimmedGRU(gru_units, name="gru"), joined_units, dropout_rate, classes, "inclusive")


def particle_sequence_lstm(*, classes: int, lstm_units: int, dropout_rate: float) -> keras.Model:
    """An LSTM in place of the GRU."""
    return _alone(TrimmedLSTM(lstm_units, name="lstm"), dropout_rate, classes, "particle_sequence_lstm")


def inclusive_lstm(*, classes: int, lstm_units: int, joined_units: int, dropout_rate: float) -> keras.Model:
    """An LSTM in place of the GRU."""
    return _inclusive(TrimmedLSTM(lstm_units, name="lstm"), joined_units, dropout_rate, classes, "inclusive_lstm")


def _alone(layer: keras.layers.Layer, dropout_rate: float, classes: int, name: str) -> keras.Model:
    particles = particles_input()
    return with_output([particles], _branch(particles, layer, dropout_rate), classes, name)


def _inclusive(
    layer: keras.layers.Layer, joined_units: int, dropout_rate: float, classes: int, name: str
) -> keras.Model:
    high_level, particles = high_level_input(), particles_input()
    branch = _branch(particles, layer, dropout_rate)
    hidden = joined(branch, high_level, joined_units, dropout_rate)
    return with_output([high_level, particles], hidden, classes, name)


def _branch(particles: keras.KerasTensor, layer: keras.layers.Layer, dropout_rate: float) -> keras.KerasTensor:
    real = keras.layers.Masking(name="real_particles")(particles)
    return EventDropout(dropout_rate, PARTICLES_STREAM, name="particles_dropout")(layer(real))
