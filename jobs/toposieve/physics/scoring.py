"""Kernels of the scorer: what one event by itself would wait for longer in numpy than for its model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.physics.compiled import dividing_kernel, kernel

_FLOATS = len(schema.STORED_PARTICLE_FEATURES)
_KINDS = len(schema.PARTICLE_KINDS)
_EXPONENT = 0x7F80
"""Bits of the exponent in the upper half of a float32: all are set where it is not finite, and only there."""


@kernel
def particles_are_right(halves: NDArray[np.uint16]) -> bool:
    """Whether all floats of stored particles are finite, and all kinds known.

    Args:
        halves: The packed records, ``io.selected.PARTICLE_RECORD``, as 16-bit words: (particles, 19). A float is two of
            them, the lower half first; kind and charge share the last.
    """
    wrong = False
    for particle in range(halves.shape[0]):
        for feature in range(_FLOATS):
            wrong |= (halves[particle, 2 * feature + 1] & _EXPONENT) == _EXPONENT
        wrong |= (halves[particle, 2 * _FLOATS] & 0xFF) >= _KINDS
    return not wrong


@dividing_kernel
def accepted_of(logits: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the softmax of an event reaches the threshold of each class, (events, classes) → (events, classes).

    Nothing is reached by an event whose logits are not finite.
    """
    events, classes = logits.shape
    accepted = np.empty((events, classes), np.bool_)
    powers = np.empty(classes, np.float64)
    for event in range(events):
        highest = -np.inf
        for each in range(classes):
            highest = max(highest, np.float64(logits[event, each]))
        total = 0.0
        for each in range(classes):
            powers[each] = np.exp(logits[event, each] - highest)
            total += powers[each]
        for each in range(classes):
            accepted[event, each] = powers[each] / total >= thresholds[each]
    return accepted
