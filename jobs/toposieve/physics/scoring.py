"""Kernels of the scorer: what one event by itself would wait for longer in numpy than for its model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.physics.compiled import dividing_kernel, kernel

_FLOATS = len(schema.STORED_PARTICLE_FEATURES)
_KINDS = len(schema.PARTICLE_KINDS)


@kernel
def particles_are_right(records: NDArray[np.uint8]) -> bool:
    """Whether all floats of stored particles are finite, and all kinds known.

    Args:
        records: ``io.selected.PARTICLE_RECORD`` as bytes, (particles, 38): they may lie at any address.
    """
    wrong = False
    for particle in range(records.shape[0]):
        for feature in range(_FLOATS):  # one whose exponent's bits are all set is not finite
            wrong |= (records[particle, 4 * feature + 3] & 0x7F) == 0x7F and records[particle, 4 * feature + 2] >= 0x80
        wrong |= records[particle, 4 * _FLOATS] >= _KINDS
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
