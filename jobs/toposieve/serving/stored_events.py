"""Events as they are stored, in selected files or in shards of a dataset, and what a model says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve import schema
from toposieve.io.manifests import Unit
from toposieve.io.names import sample_of
from toposieve.io.selected import SelectedBatch, open_selected
from toposieve.io.shard_events import read_shard
from toposieve.io.store import Key
from toposieve.models import PARTICLES
from toposieve.preprocessing import Scaling
from toposieve.serving.scorer import Scorer

_HALVINGS = 32


class Scored(NamedTuple):
    """What a model says of some events."""

    event_ids: list[str] | pa.Array
    """(events,)."""
    names: NDArray[np.str_]
    """What each of them is of: a sample, or a class of a dataset. (events,)"""
    logits: NDArray[np.float32]
    """(events, classes)."""


class Events(Protocol):
    """The events of one unit."""

    def scored(self, scorer: Scorer) -> Iterator[Scored]:
        """All of them, some at a time.

        Raises:
            InvalidInputError: A file is missing, damaged, or holds values that it must not.
        """
        ...


@dataclass(frozen=True)
class SelectedEvents:
    """Events that are selected already."""

    key: Key
    """Their file."""
    unit: Unit
    """Its record in the manifest of selected events."""

    def scored(self, scorer: Scorer) -> Iterator[Scored]:
        """In the order of the file."""
        sample = sample_of(self.unit.source)
        for event_ids, batch in self.batches():
            logits = scorer.logits_of_stored(batch.high_level, batch.particle_records(), batch.offsets)
            yield Scored(event_ids, np.full(len(event_ids), sample), logits)

    def batches(self) -> Iterator[tuple[list[str], SelectedBatch]]:
        """Ids of some events, and these themselves, in the order of the file.

        Raises:
            InvalidInputError: The file is missing or damaged.
        """
        events = self.unit.counts[schema.CUTFLOW[-1]]
        with open_selected(self.key, self.unit, whole=True) as file:
            for batch in file.batches(np.arange(events)) if events else ():
                yield [f"{self.unit.source}:{entry}" for entry in batch.entries.tolist()], batch


@dataclass(frozen=True)
class DatasetEvents:
    """The events of a shard of a dataset."""

    folder: Key
    unit: Unit
    classes: tuple[str, ...]
    """Of the dataset, in the order of its labels."""
    scaling: Scaling | None
    """How they were scaled; None where nobody knows, as in an imported dataset, and models take them as they are."""

    def scored(self, scorer: Scorer) -> Iterator[Scored]:
        """In the order of the shard."""
        for batch in read_shard(self.folder, self.unit, particles=PARTICLES in scorer.inputs):
            high_level, particles = batch.high_level, batch.particles
            if self.scaling is not None:
                high_level = _exactly_physical(high_level, self.scaling)
                particles = self.scaling.physical_particles(particles)
            names = np.array(self.classes)[batch.labels]
            yield Scored(batch.event_ids, names, scorer.logits(high_level, particles, batch.offsets))


def _exactly_physical(scaled: NDArray[np.float32], scaling: Scaling) -> NDArray[np.float32]:
    """High-level features, (events, 14), that are the same bits once they are scaled again, where there are such.

    Trees cut at the numbers of their training events: a rounding off, an event lies on the other side. What is scaled
    grows with what is not, so the right number lies between two that enclose it.
    """
    physical: NDArray[np.float32] = scaling.physical_high_level(scaled)
    reach = 4.0 * np.spacing(np.maximum(np.abs(physical), np.abs(scaling.high_level_offset))).astype(np.float64)
    low, high = physical - reach, physical + reach
    for _ in range(_HALVINGS):
        again = scaling.apply_high_level(physical)
        if np.array_equal(again, scaled):
            break
        low, high = np.where(again < scaled, physical, low), np.where(again > scaled, physical, high)
        physical = np.where(again == scaled, physical, (low + high) / 2).astype(np.float32)
    return physical
