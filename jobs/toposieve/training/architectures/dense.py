"""The network of the high-level features alone."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from toposieve.training.architectures.parts import high_level_input, with_output


def hlf(*, classes: int, hlf_units: Sequence[int]) -> keras.Model:
    """Dense layers, one after the other."""
    high_level = hidden = high_level_input()
    for number, units in enumerate(hlf_units, start=1):
        hidden = keras.layers.Dense(units, activation="relu", name=f"hidden_{number}")(hidden)
    return with_output([high_level], hidden, classes, "hlf")
