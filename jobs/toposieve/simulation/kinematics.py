"""Kinematics of the detector: pseudorapidity, angles, log-normal smearing. GeV and radians."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ALONG_BEAM_ETA = 20.0
"""|η| given to particles without transverse momentum."""


def eta_of(x: Array, y: Array, z: Array) -> Array:
    """Pseudorapidity arcsinh(z / √(x² + y²)) of a direction; ±20 along the beam, 0 for the null vector."""
    transverse = np.hypot(x, y)
    return np.where(transverse > 0, np.arcsinh(z / np.maximum(transverse, 1e-12)), np.sign(z) * ALONG_BEAM_ETA)


def delta_phi(phi: Array, other: Array | float) -> Array:
    """Difference of two angles, in [-π, π)."""
    return (phi - other + np.pi) % (2 * np.pi) - np.pi


def smear_lognormal(mean: Array, sigma: Array, rng: np.random.Generator) -> Array:
    """Random numbers of a log-normal distribution with the given mean and standard deviation; 0 where the mean is 0.

    A measured energy or momentum is never negative, and its mean is the true one whatever the resolution.
    """
    smeared = np.zeros_like(mean, dtype=float)
    positive = mean > 0
    mu = mean[positive]
    width = np.sqrt(np.log1p((sigma[positive] / mu) ** 2))
    smeared[positive] = mu * np.exp(width * rng.standard_normal(len(mu)) - 0.5 * width**2)
    return smeared
