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
def cone_sums(
    eta: float,
    phi: float,
    pts: tuple[FloatArray, FloatArray, FloatArray],
    etas: FloatArray,
    phis: FloatArray,
    edge: float,
) -> tuple[float, float, float]:
    """Σ PT (GeV) of each species' objects at ΔR² < ``edge`` of a direction. Branch-free, so that it vectorises.

    Args:
        eta: Pseudorapidity of the direction.
        phi: Azimuth of the direction in [-π, π], rad.
        pts: PT of the objects in the array of their species, 0 in the others, GeV, (n,) float64 each.
        etas: Their pseudorapidities, (n,) float64.
        phis: Their azimuths in [-π, π], rad, (n,) float64.
        edge: :func:`~toposieve.physics.kinematics.squared_edge` of the cone.
    """
    charged_pts, photon_pts, neutral_pts = pts
    charged, photon, neutral = 0.0, 0.0, 0.0
    for i in range(len(etas)):
        d_eta = etas[i] - eta
        d_phi = abs(phis[i] - phi)
        d_phi = min(d_phi, TWO_PI - d_phi)  # twice as fast as delta_phi, and the same: the sign does not matter
        inside = 1.0 if d_eta * d_eta + d_phi * d_phi < edge else 0.0
        charged += inside * charged_pts[i]
        photon += inside * photon_pts[i]
        neutral += inside * neutral_pts[i]
    return charged, photon, neutral


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
    first, second = len(kept[0].pt), len(kept[0].pt) + len(kept[1].pt)
    width = max(cone * 1.001, MIN_STRIP_WIDTH)  # a little wider than the cone, against rounding
    pts, etas, phis, origin, starts = _sort_into_strips(kept, width)
    sums = np.empty((3, len(etas)))
    for strip in range(N_STRIPS):
        near = slice(starts[max(strip - 1, 0)], starts[min(strip + 2, N_STRIPS)])
        near_pts = (pts[0][near], pts[1][near], pts[2][near])
        near_etas, near_phis = etas[near], phis[near]
        for k in range(starts[strip], starts[strip + 1]):
            species = (origin[k] >= first) + (origin[k] >= second)
            pt = pts[species, k]
            pts[species, k] = 0.0  # a particle never counts itself
            around = cone_sums(etas[k], phis[k], near_pts, near_etas, near_phis, edge)
            pts[species, k] = pt
            for over in range(3):
                sums[over, origin[k]] = around[over]
    return sums[:, :first], sums[:, first:second], sums[:, second:]


@kernel
def _sort_into_strips(
    kept: tuple[Kept, Kept, Kept], width: float
) -> tuple[FloatArray, FloatArray, FloatArray, IntArray, IntArray]:
    """All species' objects strip by strip.

    Returns:
        PT in the row of the species, (3, n); η, φ, and position among the kept objects of all species, (n,); and where
        each strip starts.
    """
    n = len(kept[0].pt) + len(kept[1].pt) + len(kept[2].pt)
    strip = np.empty(n, np.int64)
    starts = np.zeros(N_STRIPS + 1, np.int64)
    k = 0
    for species in range(3):
        for eta in kept[species].eta:
            position = eta / width + N_STRIPS / 2
            # The outermost strips take the rest; compared this way around, the first takes NaN too.
            strip[k] = int(min(position, N_STRIPS - 1.0)) if position > 0 else 0
            starts[strip[k] + 1] += 1
            k += 1
    starts = np.cumsum(starts)
    pts, etas, phis, origin = np.zeros((3, n)), np.empty(n), np.empty(n), np.empty(n, np.int64)
    free = starts.copy()
    k = 0
    for species in range(3):
        for j in range(len(kept[species].pt)):
            place = free[strip[k]]
            free[strip[k]] += 1
            pts[species, place] = kept[species].pt[j]
            etas[place], phis[place], origin[place] = kept[species].eta[j], kept[species].phi[j], k
            k += 1
    return pts, etas, phis, origin, starts
