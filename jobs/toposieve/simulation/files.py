"""One simulated file, from its seed to its ROOT file: what happens in a task."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toposieve.classes import CLASSES
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import Sample, SelectionConfig, SimulationConfig
from toposieve.io.manifests import Unit
from toposieve.io.names import SIMULATED, unit_name
from toposieve.io.store import Key
from toposieve.io.units import Finished, adopt_or_make
from toposieve.physics.events import Jagged
from toposieve.physics.selection import select_events
from toposieve.simulation.columns import concatenate, keep_events
from toposieve.simulation.detector import simulate
from toposieve.simulation.generator import TruthEvents, generate
from toposieve.simulation.heavy_flavour import generate_qcd
from toposieve.simulation.pileup import LibraryFiles, load_library, overlay, place_vertices
from toposieve.simulation.seeds import day_of, detector_rng, file_number, series_seed
from toposieve.simulation.writer import delphes_file, event_collection

DETECTOR_CHUNK = 100
"""Least events that the detector handles at a time, where the file has as many."""

ROOT_EPOCH = datetime(1995, 1, 1)
ROOT_YEARS = range(1995, 1995 + 64)
"""Years that a date in a ROOT file can have."""


@dataclass(frozen=True)
class FileTask:
    """One file to simulate. Its content follows from everything here but ``folder`` and ``adopt``."""

    sample: Sample
    partition: str
    index: int
    """Number of the file in its sample and partition."""
    events: int
    """Events that pass the generator's lepton filter."""
    config: SimulationConfig
    """What decides this sample's content."""
    library: LibraryFiles | None
    """Pile-up library; None without pile-up."""
    folder: Key
    """The sample's output folder."""
    adopt: bool = True
    """Whether to take what an earlier run has left."""

    @property
    def name(self) -> str:
        """The file's path below ``folder``. No other content ever gets it."""
        library = self.library.identity if self.library else ""
        identity = (CODE_NUMBERS["simulate"], self.config.hash, self.partition, library)
        return f"{SIMULATED}/{unit_name(f'{self.sample}-{self.index:06d}.root', 'simulate', *identity, suffix='.root')}"

    @property
    def seed(self) -> int:
        """The file's own seed."""
        return series_seed(file_number(self.partition, self.index), self.config.seed, self.sample)

    @property
    def source(self) -> str:
        """Where the file comes from, for the manifest: in the order of their names, files are in that of numbers."""
        return f"file {self.index:06d}: pythia seed {self.seed}"

    @property
    def uuid(self) -> uuid.UUID:
        """What ROOT knows the file by."""
        return uuid.uuid5(uuid.NAMESPACE_OID, self.name)


def simulate_item(task: FileTask) -> Finished:
    """Make one file and its record, unless they are there."""
    return adopt_or_make(task.folder, task.name, partial(simulate_file, task), adopt=task.adopt)


def simulate_file(task: FileTask, path: Path) -> Unit:
    """Generate, simulate and write one file.

    Args:
        task: What to write.
        path: Where, on this machine.

    Returns:
        The file's record, without outputs: counts ``generated`` (hard collisions tried), ``events`` (written) and
        ``selected`` (by the default selection); and the cross-section of what the generator found.
    """
    rng = detector_rng(task.sample, task.seed)
    events = selected = 0
    with delphes_file(path, task.uuid, date_of(task.partition)) as writer:
        for truth in truth_chunks(_generator(task), task.events):
            collections, pileup = reconstruct(truth, task, rng)
            selected += count_selected(collections, task.sample)
            writer.add({"Event": event_collection(events, truth.weights, pileup), **collections})
            events += truth.count
    return Unit(
        source=task.source,
        source_checksum="",
        entry_start=0,
        entry_stop=events,
        counts={"generated": truth.so_far.tried, "events": events, "selected": selected},
        cross_section=truth.so_far.cross_section(),
        outputs=(),
    )


def date_of(partition: str) -> datetime:
    """When the files of a partition seem to have been written: the day itself, or the first one that ROOT knows.

    >>> date_of("2026-01-02").isoformat(), date_of("warm-up").isoformat()
    ('2026-01-02T00:00:00', '1995-01-01T00:00:00')
    """
    day = day_of(partition)
    return day if day and day.year in ROOT_YEARS else ROOT_EPOCH


def _generator(task: FileTask) -> Iterator[TruthEvents]:
    if CLASSES[task.sample].leptons == "heavy_flavour":
        return generate_qcd(task.seed, fast=task.config.qcd_fast)
    return generate(task.sample, task.seed)


def truth_chunks(batches: Iterator[TruthEvents], n_events: int) -> Iterator[TruthEvents]:
    """Exactly ``n_events`` events of a generator, in chunks of at least :data:`DETECTOR_CHUNK` but for the last."""
    remaining = n_events
    while remaining:
        waiting: list[TruthEvents] = []
        while sum(batch.count for batch in waiting) < min(DETECTOR_CHUNK, remaining):
            waiting.append(next(batches))
        chunk = merge(waiting, at_most=remaining)
        remaining -= chunk.count
        yield chunk


def merge(batches: list[TruthEvents], at_most: int) -> TruthEvents:
    """Several batches as one, cut after ``at_most`` events."""
    starts = np.cumsum([0, *(batch.count for batch in batches)])
    total, count = int(starts[-1]), min(at_most, int(starts[-1]))
    tables = [
        concatenate(
            [{**table, "event": table["event"] + start} for table, start in zip(parts, starts[:-1], strict=True)]
        )
        for parts in ([batch.particles for batch in batches], [batch.quarks for batch in batches])
    ]
    particles, quarks = (keep_events(table, np.arange(count), total) for table in tables)
    weights = np.concatenate([batch.weights for batch in batches])[:count]
    return TruthEvents(count, particles, quarks, weights, batches[-1].so_far)


def reconstruct(
    truth: TruthEvents, task: FileTask, rng: np.random.Generator
) -> tuple[dict[str, Jagged], NDArray[np.int64]]:
    """Overlay pile-up and simulate the detector: its collections, and the pile-up interactions of each event, (n,)."""
    particles = place_vertices(truth.particles, truth.count, rng)
    pileup = np.zeros(truth.count, np.int64)
    if task.library is not None:
        particles, pileup = overlay(particles, truth.count, load_library(task.library), task.config.pileup, rng)
    return simulate(particles, truth.quarks, truth.count, rng), pileup


def count_selected(collections: dict[str, Jagged], sample: Sample) -> int:
    """Events that pass the default selection."""
    config = SelectionConfig()
    return len(select_events(collections, config, btag_mask=config.btag_mask[sample]).rows)
