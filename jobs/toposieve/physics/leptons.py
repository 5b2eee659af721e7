"""The event's lepton: the isolated electron or muon of highest PT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.compiled import kernel
from toposieve.physics.events import Events, FloatArray, IntArray, Objects, column, count_events, objects
from toposieve.physics.isolation import NONE_OWN, lepton_cone_sum, species_objects, thresholds

ELECTRON, MUON = (schema.PARTICLE_KINDS.index(flag) for flag in ("isEle", "isMu"))


class Leptons(NamedTuple):
    """At most one lepton per event; all arrays have one entry per event, undefined where ``kind`` is negative.

    Attributes:
        candidates: Leptons above the PT cut, isolated or not.
        kind: Position of the lepton's flag in ``schema.PARTICLE_KINDS``; -1 where no lepton is isolated.
        pt: Transverse momentum, GeV.
        eta: Pseudorapidity.
        phi: Azimuth, rad.
        charge: Charge that the lepton's collection gives it.
        isolation: (n, 3): charged, photon and neutral isolation.
    """

    candidates: IntArray
    kind: NDArray[np.int8]
    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    charge: NDArray[np.int32]
    isolation: FloatArray

    def take(self, rows: IntArray) -> Leptons:
        """The leptons of some events."""
        return Leptons._make(array[rows] for array in self)


def find_leptons(events: Events, config: SelectionConfig) -> Leptons:
    """Find the isolated lepton of highest PT of each event; at equal PT electrons before muons, then file order.

    A lepton is isolated if (charged + photon) + neutral isolation is below ``config.isolation_max``; its own tracks, at
    ΔR up to ``config.own_track_dr``, are left out of the charged sum.
    """
    n = count_events(events)
    leptons = Leptons(
        candidates=np.zeros(n, np.int64),
        kind=np.full(n, -1, np.int8),
        pt=np.zeros(n),
        eta=np.zeros(n),
        phi=np.zeros(n),
        charge=np.zeros(n, np.int32),
        isolation=np.zeros((n, 3)),
    )
    # Electrons first: a muon replaces an electron only if its PT is higher.
    for collection, kind in (("Electron", ELECTRON), (schema.MUON, MUON)):
        _update_best(
            leptons,
            kind,
            objects(events, collection),
            column(events, collection, "Charge"),
            config.lepton_pt_min,
            species_objects(events),
            thresholds(config),
            (config.isolation_cone, config.own_track_dr, config.isolation_max),
        )
    return leptons


@kernel
def _update_best(
    best: Leptons,
    kind: int,
    candidates: Objects,
    charges: NDArray[np.int32],
    pt_min: float,
    species: tuple[Objects, Objects, Objects],
    species_pt_min: tuple[float, float, float],
    cuts: tuple[float, float, float],
) -> None:
    cone, own_dr, isolation_max = cuts
    for event in range(len(best.kind)):
        for i in range(candidates.offsets[event], candidates.offsets[event + 1]):
            pt = float(candidates.pt[i])
            if not pt > pt_min:
                continue
            best.candidates[event] += 1
            if best.kind[event] >= 0 and not pt > best.pt[event]:
                continue  # not the best one, isolated or not
            eta, phi = float(candidates.eta[i]), float(candidates.phi[i])
            charged = lepton_cone_sum(event, eta, phi, species[0], species_pt_min[0], cone, own_dr) / pt
            photon = lepton_cone_sum(event, eta, phi, species[1], species_pt_min[1], cone, NONE_OWN) / pt
            neutral = lepton_cone_sum(event, eta, phi, species[2], species_pt_min[2], cone, NONE_OWN) / pt
            if (charged + photon) + neutral < isolation_max:
                best.kind[event] = kind
                best.pt[event], best.eta[event], best.phi[event] = pt, eta, phi
                best.charge[event] = charges[i]
                best.isolation[event, 0] = charged
                best.isolation[event, 1] = photon
                best.isolation[event, 2] = neutral
