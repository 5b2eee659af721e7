"""Angles, distances and massless four-vectors."""

from __future__ import annotations

import math

import numpy as np

from toposieve.physics.compiled import kernel
from toposieve.physics.events import FloatArray

TWO_PI = 2 * math.pi


@kernel
def delta_phi(phi1: float, phi2: float) -> float:
    """Azimuth of 1 relative to 2, wrapped into [-π, π] (rad), for one pair of float64 angles of any size."""
    difference = phi1 - phi2
    turns: float = np.rint(difference / TWO_PI)
    return difference - TWO_PI * turns


@kernel
def delta_r(eta1: float, phi1: float, eta2: float, phi2: float) -> float:
    """Distance ΔR = √(Δη² + Δφ²) of one pair of float64 directions, Δφ wrapped into [-π, π]."""
    eta = eta1 - eta2
    phi = delta_phi(phi1, phi2)
    return math.sqrt(eta * eta + phi * phi)


def squared_edge(radius: float) -> float:
    """The smallest float64 whose square root is at least ``radius``.

    ``ΔR² < squared_edge(radius)`` is then ``ΔR < radius`` to the last bit, without a square root for every pair.
    """
    edge = radius * radius
    while math.sqrt(edge) >= radius:
        edge = math.nextafter(edge, 0.0)
    while math.sqrt(edge) < radius:
        edge = math.nextafter(edge, math.inf)
    return edge


def massless_four_vector(
    pt: FloatArray, eta: FloatArray, phi: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Energy and momentum (E, px, py, pz) in GeV of massless particles, elementwise.

    Args:
        pt: Transverse momentum, GeV, float64.
        eta: Pseudorapidity.
        phi: Azimuth, rad.
    """
    return pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
