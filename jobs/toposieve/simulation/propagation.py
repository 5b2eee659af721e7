"""Particles on their way to the calorimeter: straight lines and helices in a solenoid. mm, GeV, tesla, radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toposieve.simulation.columns import Columns, take
from toposieve.simulation.kinematics import Array, eta_of

RADIUS = 1290.0
"""Radius of the calorimeter's barrel, mm."""
HALF_LENGTH = 3000.0
"""Distance of its endcaps from the centre, mm."""
FIELD = 3.8
"""Solenoid field along +z, T."""
GEV_PER_TESLA_MM = 0.299792458e-3
"""Transverse momentum of a unit charge on a circle of 1 mm in 1 T."""
PT_MIN = 1e-3
"""Particles below this transverse momentum (GeV) stay in the beam pipe."""


def in_tracker(particles: Columns) -> NDArray[np.bool_]:
    """Which particles start inside the calorimeter and leave the beam pipe."""
    start = np.hypot(particles["x"], particles["y"])
    pt = np.hypot(particles["px"], particles["py"])
    return np.asarray((start < RADIUS) & (np.abs(particles["z"]) < HALF_LENGTH) & (pt > PT_MIN))


def propagate(particles: Columns) -> tuple[Array, Array]:
    """Pseudorapidity and azimuth, seen from the centre, at which particles reach the calorimeter.

    Args:
        particles: Columns charge, px, py, pz, x, y, z of particles :func:`in_tracker`.
    """
    bent = particles["charge"] != 0
    position = np.empty((3, len(bent)))
    position[:, bent] = helix_end(take(particles, bent))
    position[:, ~bent] = straight_end(take(particles, ~bent))
    x, y, z = position
    return eta_of(x, y, z), np.arctan2(y, x)


def straight_end(particles: Columns) -> Array:
    """Where straight lines leave the calorimeter's cylinder, (3, n) mm."""
    x, y, z = (particles[axis] for axis in ("x", "y", "z"))
    pt = np.hypot(particles["px"], particles["py"])
    ux, uy, slope = particles["px"] / pt, particles["py"] / pt, particles["pz"] / pt
    along = x * ux + y * uy
    to_barrel = np.sqrt(along**2 + RADIUS**2 - x**2 - y**2) - along
    path = np.minimum(to_barrel, _path_to_endcap(z, slope))  # transverse path length
    return np.stack([x + ux * path, y + uy * path, z + slope * path])


def helix_end(particles: Columns) -> Array:
    """Where helices leave the calorimeter's cylinder, (3, n) mm. Positive charges turn clockwise, seen from +z."""
    x, y, z, charge = (particles[name] for name in ("x", "y", "z", "charge"))
    pt = np.hypot(particles["px"], particles["py"])
    slope = particles["pz"] / pt
    radius = pt / (GEV_PER_TESLA_MM * FIELD * np.abs(charge))
    sense = np.sign(charge)
    centre_x = x + sense * radius * particles["py"] / pt
    centre_y = y - sense * radius * particles["px"] / pt
    start = np.arctan2(y - centre_y, x - centre_x)
    turn = np.minimum(_turn_to_barrel(centre_x, centre_y, radius, start, sense), _path_to_endcap(z, slope) / radius)
    angle = start - sense * turn
    return np.stack([centre_x + radius * np.cos(angle), centre_y + radius * np.sin(angle), z + slope * radius * turn])


def _path_to_endcap(z: Array, slope: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):  # a slope of nearly 0 never gets there
        path = (np.copysign(HALF_LENGTH, slope) - z) / slope
    return np.where(slope != 0, path, 1e9)


def _turn_to_barrel(centre_x: Array, centre_y: Array, radius: Array, start: Array, sense: Array) -> Array:
    # The circle meets the barrel at centre angles ±opening from the direction of the beam axis; curlers never do.
    distance = np.hypot(centre_x, centre_y)
    reaches = (distance + radius >= RADIUS) & (np.abs(distance - radius) <= RADIUS)
    cosine = (radius**2 + distance**2 - RADIUS**2) / np.maximum(2 * radius * distance, 1e-9)
    opening = np.arccos(np.clip(cosine, -1, 1))
    to_axis = np.arctan2(-centre_y, -centre_x)
    turns = [np.mod(sense * (start - to_axis + side * opening), 2 * np.pi) for side in (-1, 1)]
    return np.where(reaches, np.minimum(*turns), np.inf)
