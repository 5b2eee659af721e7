"""Compile every kernel once, so that no Spark task has to: ``python -m toposieve.warm_up`` (a quarter of a minute).

Numba keeps what it compiles beside the sources, for this kind of processor.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from toposieve import schema
from toposieve.config import SimulationConfig
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.io.store import Key
from toposieve.physics.features import sequence_order
from toposieve.physics.moments import Moments
from toposieve.physics.scoring import accepted_of, particles_are_right
from toposieve.physics.sequences import scaled_features
from toposieve.preprocessing import SCALED_FEATURES
from toposieve.simulation.files import FileTask, simulate_file


def warm_up() -> None:
    """Simulate and select a few events, bring a particle into order and scale, and decide on it."""
    with TemporaryDirectory() as folder:
        task = FileTask("wjets", "warm-up", 0, 20, SimulationConfig(pileup=0), None, Key(folder))
        simulate_file(task, Path(folder) / "warm-up.root")
    particles, scale = np.zeros(1, PARTICLE_RECORD), np.ones(len(schema.LOW_LEVEL_FEATURES), np.float32)
    order = sequence_order(np.array([0, 1]), particles["Eta"], particles["Phi"])
    Moments.of(scaled_features(particles, order, scale, scale), np.ones(1), len(SCALED_FEATURES))
    for writeable in (True, False):  # those of a stream's message are not
        particles.flags.writeable = writeable
        particles_are_right(particles.view(np.uint8).reshape(1, -1))
    accepted_of(np.zeros((1, 2), np.float32), np.zeros(2))


if __name__ == "__main__":
    warm_up()
