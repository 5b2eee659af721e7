"""One simulated file, from its seed to its ROOT file: what happens in a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toposieve.config import Sample, SelectionConfig, SimulationConfig
from toposieve.io.manifests import Unit, describe_file
from toposieve.physics.events import Jagged
from toposieve.physics.selection import select_events
from toposieve.simulation.columns import concatenate, keep_events
from toposieve.simulation.detector import simulate
from toposieve.simulation.generator import TruthEvents, generate
from toposieve.simulation.heavy_flavour import generate_qcd
from toposieve.simulation.pileup import LibraryFiles, load_library, overlay, place_vertices
from toposieve.simulation.seeds import derive_seed, detector_rng
from toposieve.simulation.writer import DelphesWriter, event_collection

DETECTOR_CHUNK = 100
"""Least events that the detector handles at a time, where the file has as many."""


@dataclass(frozen=True)
class FileTask:
    """One file to simulate. Its content follows from everything here but ``folder``."""

    sample: Sample
    partition: str
    index: int
    """Number of the file in its sample and partition."""
    events: int
    """Events that pass the generator's lepton filter."""
    config: SimulationConfig
    library: LibraryFiles | None
    """Pile-up library; None without pile-up."""
    folder: Path
    """Where the file goes."""

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.sample}-{self.index:06d}.root"

    @property
    def seed(self) -> int:
        """The file's own seed."""
        return derive_seed(self.config.seed, self.partition, self.sample, self.index)

    @property
    def source(self) -> str:
        """Where the file comes from, for the manifest."""
        return f"file {self.index}: pythia seed {self.seed}"


def simulate_file(task: FileTask) -> Unit:
    """Generate, simulate and write one file.

    Returns:
        The file's record: counts ``generated`` (hard collisions tried), ``events`` (written) and ``selected`` (by the
        default selection).
    """
    path = task.folder / task.name
    rng = detector_rng(task.seed)
    generated = events = selected = 0
    with DelphesWriter(path) as writer:
        for truth in truth_chunks(_generator(task), task.events):
            collections = reconstruct(truth, task, rng)
            selected += count_selected(collections, task.sample)
            writer.add({"Event": event_collection(events, truth.weights), **collections})
            events += truth.count
            generated += truth.tried
    counts = {"generated": generated, "events": events, "selected": selected}
    return Unit(
        source=task.source,
        source_checksum="",
        entry_start=0,
        entry_stop=events,
        counts=counts,
        outputs=(describe_file(path, task.folder),),
    )


def _generator(task: FileTask) -> Iterator[TruthEvents]:
    if task.sample == "qcd":
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
    return TruthEvents(count, particles, quarks, weights, tried=sum(batch.tried for batch in batches))


def reconstruct(truth: TruthEvents, task: FileTask, rng: np.random.Generator) -> dict[str, Jagged]:
    """Overlay pile-up and simulate the detector."""
    particles = place_vertices(truth.particles, truth.count, rng)
    if task.library is not None:
        particles = overlay(particles, truth.count, load_library(task.library), task.config.pileup, rng)
    return simulate(particles, truth.quarks, truth.count, rng)


def count_selected(collections: dict[str, Jagged], sample: Sample) -> int:
    """Events that pass the default selection."""
    config = SelectionConfig()
    return len(select_events(collections, config, btag_mask=config.btag_mask[sample]).rows)
