"""Events of a dataset as a scorer takes them: in physical units, without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.evaluation.inputs import TestData
from toposieve.models import HIGH_LEVEL, PARTICLES
from toposieve.preprocessing import Scaling
from toposieve.training.cache import Cache
from toposieve.training.sources import open_source

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def physical_events(data: TestData, inputs: Sequence[str], batch: int) -> Iterator[Batch]:
    """High-level features, particles and offsets of a split's events, in the order of its shards.

    Args:
        data: The split, of a dataset that says how it was scaled.
        inputs: What of it is read; the rest is empty.
        batch: Events at a time.
    """
    scaling = data.scaling
    assert scaling is not None
    starts = range(0, data.split.events, batch)
    numbers = (np.arange(start, min(start + batch, data.split.events))[np.newaxis] for start in starts)
    with Cache() as cache:
        for events in open_source(data.split, tuple(sorted(inputs)), cache).batches(iter(numbers)):
            yield _physical(events, scaling)


def _physical(events: dict[str, NDArray[Any]], scaling: Scaling) -> Batch:
    high_level = np.empty((0, len(schema.HIGH_LEVEL_FEATURES)), np.float32)
    particles, offsets = np.empty((0, len(schema.LOW_LEVEL_FEATURES)), np.float32), np.zeros(1, np.int64)
    if HIGH_LEVEL in events:
        high_level = scaling.physical_high_level(events[HIGH_LEVEL])
    if PARTICLES in events:
        padded = events[PARTICLES]
        is_real: NDArray[np.bool_] = np.any(padded, axis=-1)
        lengths = padded.shape[1] - np.argmax(is_real[:, ::-1], axis=1)  # a real particle may be 0 once it is scaled
        kept = np.arange(padded.shape[1]) < lengths[:, np.newaxis]
        particles = scaling.physical_particles(padded[kept])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if HIGH_LEVEL not in events:
            high_level = np.empty((len(lengths), high_level.shape[1]), np.float32)
    return high_level, particles, offsets
