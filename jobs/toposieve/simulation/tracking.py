"""Tracks: efficiency and momentum resolution of a CMS-like tracker."""

from __future__ import annotations

import numpy as np

from toposieve.simulation.columns import Columns, take
from toposieve.simulation.kinematics import Array, smear_lognormal

HADRON, ELECTRON, MUON = range(3)

EFFICIENCY_PT_EDGES = (0.1, 1.0, 100.0)
EFFICIENCY_ETA_EDGES = (1.5, 2.5)
# Efficiency by kind, |η| bin and PT bin; nothing is seen up to 0.1 GeV, nor beyond |η| = 2.5.
EFFICIENCY = np.array(
    [
        [[0.0, 0.70, 0.95, 0.95], [0.0, 0.60, 0.85, 0.85], [0.0] * 4],
        [[0.0, 0.73, 0.95, 0.99], [0.0, 0.50, 0.83, 0.90], [0.0] * 4],
        [[0.0, 0.75, 0.99, 0.99], [0.0, 0.70, 0.98, 0.98], [0.0] * 4],
    ]
)

RESOLUTION_ETA_EDGES = (0.5, 1.5)
RESOLUTION_CONSTANT = np.array([[0.06, 0.10, 0.25], [0.03, 0.05, 0.15], [0.01, 0.015, 0.025]])
"""a of the PT resolution √(a² + b²PT²), by kind and |η| bin."""
RESOLUTION_SLOPE = np.array([[1.3e-3, 1.7e-3, 3.1e-3], [1.3e-3, 1.7e-3, 3.1e-3], [1.0e-4, 1.5e-4, 3.5e-4]])
"""b of the PT resolution, 1/GeV."""


def kind_of(pdg: Array) -> Array:
    """HADRON, ELECTRON or MUON for each PDG code."""
    code = np.abs(pdg)
    return np.select([code == 11, code == 13], [ELECTRON, MUON], HADRON)


def efficiency(kind: Array, pt: Array, eta: Array) -> Array:
    """Probability that a charged particle gives a track."""
    eta_bin = np.searchsorted(EFFICIENCY_ETA_EDGES, np.abs(eta))
    efficiency: Array = EFFICIENCY[kind, eta_bin, np.searchsorted(EFFICIENCY_PT_EDGES, pt)]
    return efficiency


def relative_resolution(kind: Array, pt: Array, eta: Array) -> Array:
    """Relative PT resolution √(a² + b²PT²) of a track."""
    eta_bin = np.searchsorted(RESOLUTION_ETA_EDGES, np.abs(eta))
    resolution: Array = np.hypot(RESOLUTION_CONSTANT[kind, eta_bin], RESOLUTION_SLOPE[kind, eta_bin] * pt)
    return resolution


def reconstruct_tracks(particles: Columns, rng: np.random.Generator) -> Columns:
    """Tracks of charged particles.

    Args:
        particles: Columns charge, pdg, pt, eta, phi, mass and any others.
        rng: Decides which are found, and smears their PT.

    Returns:
        The found particles' columns with ``pt`` smeared (log-normal), and ``kind`` and ``resolution`` added.
    """
    charged = take(particles, particles["charge"] != 0)
    kind = kind_of(charged["pdg"])
    found = rng.random(len(kind)) < efficiency(kind, charged["pt"], charged["eta"])
    tracks, kind = take(charged, found), kind[found]
    resolution = relative_resolution(kind, tracks["pt"], tracks["eta"])
    smeared = smear_lognormal(tracks["pt"], resolution * tracks["pt"], rng)
    return {**tracks, "pt": smeared, "kind": kind, "resolution": resolution}
