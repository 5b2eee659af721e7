"""Particle-flow isolation: what lies around a particle, relative to its own PT.

``iso = Σ PT / PT(particle)`` over all kept objects of a species at ΔR < cone, the particle itself excepted.
The sums are exact in float64, hence the same in any order: PT is a float32 above a cut, so that 53 bits hold every
digit of a sum up to 2²⁹ times the cut (2.7 · 10⁸ GeV for 0.5 GeV).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toposieve.config import SelectionConfig
from toposieve.physics.compiled import kernel, summing_kernel
from toposieve.physics.events import Events, FloatArray, IntArray, Objects, objects
from toposieve.physics.kinematics import TWO_PI, delta_phi, delta_r

SPECIES = ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron")
"""The particle-flow collections: charged, photon and neutral, the order of all isolation sums."""

NONE_OWN = -1.0
"""In place of the ΔR up to which objects are a lepton's own: none is."""

N_STRIPS = 34
MIN_STRIP_WIDTH = 0.3
"""Strips of η that objects are put into: by default |η| up to 5, the calorimeters' reach."""


def thresholds(config: SelectionConfig) -> tuple[float, float, float]:
    """PT cuts (GeV) of kept objects, in the order of ``SPECIES``."""
    return config.track_pt_min, config.photon_et_min, config.neutral_et_min


def species_objects(events: Events) -> tuple[Objects, Objects, Objects]:
    """The collections of ``SPECIES`` for a kernel."""
    tracks, photons, neutrals = (objects(events, name) for name in SPECIES)
    return tracks, photons, neutrals


@summing_kernel
def cone_sum(eta: float, phi: float, pts: FloatArray, etas: FloatArray, phis: FloatArray, edge: float) -> float:
    """Σ PT (GeV) of the objects at ΔR² < ``edge`` of a direction. Branch-free, so that it vectorises.

    Args:
        eta: Pseudorapidity of the direction.
        phi: Azimuth of the direction in [-π, π], rad.
        pts: PT of the objects, GeV, (n,) float64.
        etas: Their pseudorapidities, (n,) float64.
        phis: Their azimuths in [-π, π], rad, (n,) float64.
        edge: :func:`~toposieve.physics.kinematics.squared_edge` of the cone.
    """
    total = 0.0
    for i in range(len(pts)):
        d_eta = etas[i] - eta
        d_phi = abs(phis[i] - phi)
        d_phi = min(d_phi, TWO_PI - d_phi)  # twice as fast as delta_phi, and the same: the sign does not matter
        total += pts[i] if d_eta * d_eta + d_phi * d_phi < edge else 0.0
    return total


@kernel
def lepton_cone_sum(
    event: int, eta: float, phi: float, objects: Objects, pt_min: float, cone: float, own_dr: float
) -> float:
    """Σ PT (GeV) of an event's kept objects at ``own_dr`` < ΔR < ``cone`` of a lepton.

    Args:
        event: Position of the event.
        eta: The lepton's pseudorapidity.
        phi: The lepton's azimuth, rad.
        objects: The species to sum.
        pt_min: Objects are kept above this PT, GeV.
        cone: Radius of the cone.
        own_dr: Objects up to this ΔR are the lepton's own and left out; a negative value leaves none out.
    """
    total = 0.0
    for i in range(objects.offsets[event], objects.offsets[event + 1]):
        pt = float(objects.pt[i])
        if pt > pt_min:
            distance = delta_r(float(objects.eta[i]), float(objects.phi[i]), eta, phi)
            if own_dr < distance < cone:
                total += pt
    return total


class Kept(NamedTuple):
    """One event's kept objects of one species: float64, φ in [-π, π], (n,) each.

    ``origin`` says where each came from: positions in the flat arrays, or in another ``Kept``.
    """

    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    origin: IntArray


@kernel
def keep_objects(event: int, objects: Objects, pt_min: float) -> Kept:
    """An event's objects above a PT cut (GeV), in file order; ``origin`` is their position in the flat arrays."""
    start, stop = objects.offsets[event], objects.offsets[event + 1]
    room = stop - start
    kept = Kept(np.empty(room), np.empty(room), np.empty(room), np.empty(room, np.int64))
    n = 0
    for i in range(start, stop):
        pt = float(objects.pt[i])
        if pt > pt_min:
            kept.pt[n] = pt
            kept.eta[n] = objects.eta[i]
            kept.phi[n] = delta_phi(float(objects.phi[i]), 0.0)
            kept.origin[n] = i
            n += 1
    return Kept(kept.pt[:n], kept.eta[:n], kept.phi[:n], kept.origin[:n])


@kernel
def isolation_sums(
    kept: tuple[Kept, Kept, Kept], cone: float, edge: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Σ PT (GeV) in the cone of each particle of an event, the particle itself excepted.

    Objects are first put into strips of η, at least as wide as the cone, so that a particle meets only those of its own
    strip and the two beside it: twice as fast as meeting all.

    Args:
        kept: The event's kept objects, in the order of ``SPECIES``.
        cone: Radius of the cone.
        edge: Its :func:`~toposieve.physics.kinematics.squared_edge`.

    Returns:
        For the particles of each species: (3, n), summed over the objects of each species.
    """
    width = max(cone * 1.001, MIN_STRIP_WIDTH)  # a little wider than the cone, against rounding
    first, second, third = (
        _sort_into_strips(kept[0], width),
        _sort_into_strips(kept[1], width),
        _sort_into_strips(kept[2], width),
    )
    sums = (np.empty((3, len(kept[0].pt))), np.empty((3, len(kept[1].pt))), np.empty((3, len(kept[2].pt))))
    objects = (first[0], second[0], third[0])
    starts = (first[1], second[1], third[1])
    for of in range(3):
        for over in range(3):
            _sum_strips(objects[of], starts[of], objects[over], starts[over], of == over, edge, sums[of][over])
    return sums


@kernel
def _sort_into_strips(kept: Kept, width: float) -> tuple[Kept, IntArray]:
    """The same objects strip by strip (``origin`` is their position in ``kept``), and where each strip starts."""
    n = len(kept.pt)
    strip = np.empty(n, np.int64)
    starts = np.zeros(N_STRIPS + 1, np.int64)
    for k in range(n):
        position = kept.eta[k] / width + N_STRIPS / 2
        # The outermost strips take the rest; compared this way around, the first takes NaN too.
        strip[k] = int(min(position, N_STRIPS - 1.0)) if position > 0 else 0
        starts[strip[k] + 1] += 1
    starts = np.cumsum(starts)
    ordered = Kept(np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.int64))
    free = starts.copy()
    for k in range(n):
        place = free[strip[k]]
        free[strip[k]] += 1
        ordered.pt[place], ordered.eta[place], ordered.phi[place] = kept.pt[k], kept.eta[k], kept.phi[k]
        ordered.origin[place] = k
    return ordered, starts


@kernel
def _sum_strips(
    particles: Kept, starts: IntArray, objects: Kept, object_starts: IntArray, same: bool, edge: float, sums: FloatArray
) -> None:
    """Sums over the objects of one species around the particles of another or the same."""
    for strip in range(N_STRIPS):
        near = slice(object_starts[max(strip - 1, 0)], object_starts[min(strip + 2, N_STRIPS)])
        pts, etas, phis = objects.pt[near], objects.eta[near], objects.phi[near]
        for k in range(starts[strip], starts[strip + 1]):
            pt = particles.pt[k]
            if same:
                objects.pt[k] = 0.0  # a particle never counts itself
            sums[particles.origin[k]] = cone_sum(particles.eta[k], particles.phi[k], pts, etas, phis, edge)
            if same:
                objects.pt[k] = pt
