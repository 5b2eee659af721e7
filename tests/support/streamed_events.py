"""Random events, as they travel in streams."""

from __future__ import annotations

import numpy as np

from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.serving.events import Event


def random_event(number: int, particles: int = 5) -> Event:
    """The same event for the same number; nothing in it looks like physics."""
    random = np.random.default_rng(number)
    records = np.zeros(particles, PARTICLE_RECORD)
    for name in schema.STORED_PARTICLE_FEATURES:
        records[name] = random.normal(size=particles)
    records[schema.PARTICLE_KIND_COLUMN] = random.integers(0, len(schema.PARTICLE_KINDS), particles)
    records["Charge"] = random.integers(-1, 2, particles)
    high_level = random.normal(size=len(schema.HIGH_LEVEL_FEATURES)).astype(np.float32)
    return Event(f"ttbar/2026-01-01/a.root:{number}", high_level, records)
