"""What goes into a scorer, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.physics.scoring import particles_are_right


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

    def wrong_value(self) -> str | None:
        """The first of its values that no event has, such as ``MET is nan``; None where all are right."""
        if not all(map(isfinite, self.high_level.tolist())):
            place = int(np.argmin(np.isfinite(self.high_level)))
            return f"{schema.HIGH_LEVEL_FEATURES[place]} is {self.high_level[place]}"
        records = np.ascontiguousarray(self.particles).view(np.uint8).reshape(-1, PARTICLE_RECORD.itemsize)
        if particles_are_right(records):
            return None
        right = {name: np.isfinite(self.particles[name]) for name in schema.STORED_PARTICLE_FEATURES}
        right["kind"] = (self.particles["kind"] >= 0) & (self.particles["kind"] < len(schema.PARTICLE_KINDS))
        name = next(name for name, each in right.items() if not each.all())
        place = int(np.argmin(right[name]))
        return f"{name} of particle {place} is {self.particles[name][place]}"


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
