"""Pile-up: soft collisions that overlay each event, drawn from a library that all runs of a base folder share.

{raw}/_pileup/{hash}/block-00000-0123456789ab.npy, ..., manifest-000001.json
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from toposieve.io.names import digest
from toposieve.io.store import Key
from toposieve.simulation.columns import Columns, concatenate, ranges, take
from toposieve.simulation.detector import INVISIBLE
from toposieve.simulation.generator import MINIMUM_BIAS, final_particles, make_pythia
from toposieve.simulation.kinematics import eta_of

BLOCK_EVENTS = 2500
"""Minimum-bias events in one block: one task, one seed."""
BATCH = 500

PT_MIN = 0.1
ETA_MAX = 5.0
"""The library keeps particles above this PT (GeV) and below this |η|: others leave no trace."""

BEAM_SPOT_SIGMA_Z = 53.0
"""Length of the luminous region, standard deviation in mm."""

_FLOATS = ("charge", "px", "py", "pz", "energy", "x", "y", "z")
LIBRARY_DTYPE = np.dtype([("event", "<i4"), ("pdg", "<i4"), *((name, "<f4") for name in _FLOATS)])


@dataclass(frozen=True)
class PileupLibrary:
    """Minimum-bias events, flat.

    Attributes:
        particles: Visible final-state particles (see ``TruthEvents.particles``), without event.
        offsets: Event ``i`` owns the particles ``offsets[i]:offsets[i + 1]``. (n + 1,)
    """

    particles: Columns
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1


def generate_block(seed: int, n_events: int) -> NDArray[np.void]:
    """Particles of so many minimum-bias events, as an array of :data:`LIBRARY_DTYPE`."""
    pythia = make_pythia(MINIMUM_BIAS, seed)
    parts, made = [], 0
    while made < n_events:
        batch = pythia.nextBatch(min(BATCH, n_events - made))
        particles = final_particles(pythia, batch)
        parts.append({**particles, "event": particles["event"] + made})
        made += len(batch)
    particles = concatenate(parts)
    particles = take(particles, leaves_trace(particles))
    block = np.empty(len(particles["event"]), LIBRARY_DTYPE)
    for name in LIBRARY_DTYPE.names or ():
        block[name] = particles[name]
    return block


def leaves_trace(particles: Columns) -> NDArray[np.bool_]:
    """Which particles belong into the library."""
    px, py, pz = (particles[axis] for axis in ("px", "py", "pz"))
    visible = ~np.isin(np.abs(particles["pdg"]), INVISIBLE)
    return visible & (np.hypot(px, py) > PT_MIN) & (np.abs(eta_of(px, py, pz)) < ETA_MAX)


@dataclass(frozen=True)
class LibraryFiles:
    """A published library: its blocks and the events in each."""

    blocks: tuple[Key, ...]
    sizes: tuple[int, ...]

    @property
    def identity(self) -> str:
        """Changes with the content, and not with the place."""
        return digest(*(block.name for block in self.blocks))


@lru_cache(maxsize=1)
def load_library(files: LibraryFiles) -> PileupLibrary:
    """Read a library, once in each process."""
    parts, counts = [], []
    for key, size in zip(files.blocks, files.sizes, strict=True):
        with key.fetch() as path:
            block = np.load(path)
        counts.append(np.bincount(block["event"], minlength=size))
        parts.append({name: block[name] for name in LIBRARY_DTYPE.names or () if name != "event"})
    return PileupLibrary(concatenate(parts), np.concatenate([[0], np.cumsum(np.concatenate(counts))]))


def place_vertices(particles: Columns, n_events: int, rng: np.random.Generator) -> Columns:
    """Move each event along the beam, to its place in the luminous region."""
    shift = rng.normal(0.0, BEAM_SPOT_SIGMA_Z, n_events)
    return {**particles, "z": particles["z"] + shift[particles["event"]]}


def overlay(
    particles: Columns, n_events: int, library: PileupLibrary, mean: float, rng: np.random.Generator
) -> tuple[Columns, NDArray[np.int64]]:
    """Add pile-up to events.

    Each event gets a Poisson-distributed number of library events, each rotated by a random angle around the beam and
    moved to its own place in the luminous region.

    Returns:
        The particles of all collisions; and how many each event got, (n_events,).
    """
    collisions = rng.poisson(mean, n_events)
    chosen = rng.integers(0, len(library), collisions.sum())
    lengths = np.diff(library.offsets)[chosen]
    soft = take(library.particles, ranges(library.offsets[chosen], lengths))
    angle = np.repeat(rng.uniform(0, 2 * np.pi, len(chosen)), lengths)
    shift = np.repeat(rng.normal(0.0, BEAM_SPOT_SIGMA_Z, len(chosen)), lengths)
    px, py = rotate(soft["px"], soft["py"], angle)
    x, y = rotate(soft["x"], soft["y"], angle)
    event = np.repeat(np.repeat(np.arange(n_events), collisions), lengths)
    soft = {**soft, "event": event, "px": px, "py": py, "x": x, "y": y, "z": soft["z"] + shift}
    return concatenate([particles, soft]), collisions


def rotate(
    x: NDArray[np.floating], y: NDArray[np.floating], angle: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors turned counter-clockwise by an angle (rad)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x - sin * y, sin * x + cos * y
