"""What goes into a scorer, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Event:
    """One selected event, in physical units.

    Attributes:
        event_id: Who it is, such as ``ttbar/2026-01-01/a.root:17``.
        high_level: In the order of ``schema.HIGH_LEVEL_FEATURES``, (14,).
        particles: As they are stored, ``io.selected.PARTICLE_RECORD``, the lepton first, (particles,).
    """

    event_id: str
    high_level: NDArray[np.float32]
    particles: NDArray[Any]


@dataclass(frozen=True)
class Decision:
    """What a model says of an event.

    Attributes:
        event_id: Who it is.
        version: Of the model, in the registry.
        logits: In the order of the model's classes; their softmax is the probability. (classes,)
        accepted: Whether it passes as each class, in the same order.
    """

    event_id: str
    version: int
    logits: NDArray[np.float32]
    accepted: tuple[bool, ...]


@dataclass(frozen=True)
class Refused:
    """An event that no model can be asked about.

    Attributes:
        event_id: Who it is.
        reason: What is wrong with it.
    """

    event_id: str
    reason: str
