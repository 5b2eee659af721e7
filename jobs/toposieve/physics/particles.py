"""The particles of each selected event: the lepton, then tracks, photons and neutral hadrons by decreasing PT."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.compiled import kernel
from toposieve.physics.events import AnyArray, Events, FloatArray, IntArray, Objects, column, objects
from toposieve.physics.isolation import (
    NONE_OWN,
    SPECIES,
    Kept,
    isolation_sums,
    keep_objects,
    species_objects,
    thresholds,
)
from toposieve.physics.kinematics import delta_r, squared_edge
from toposieve.physics.leptons import ELECTRON, MUON, Leptons

TRACKS = SPECIES.index("EFlowTrack")
# In the order of SPECIES.
CAPS = (schema.MAX_TRACKS, schema.MAX_PHOTONS, schema.MAX_NEUTRAL_HADRONS)
KINDS = tuple(schema.PARTICLE_KINDS.index(flag) for flag in ("isChHad", "isGamma", "isNeuHad"))

PT, ETA, PHI, VTX_X, VTX_Y, VTX_Z, ISO_CHARGED, ISO_PHOTON, ISO_NEUTRAL = (
    schema.STORED_PARTICLE_FEATURES.index(name)
    for name in ("Pt", "Eta", "Phi", "vtxX", "vtxY", "vtxZ", "ChPFIso", "GammaPFIso", "NeuPFIso")
)


class Rows(NamedTuple):
    """Output of the kernels: rows of all selected events."""

    offsets: IntArray  # (events + 1,)
    values: NDArray[np.float32]  # (stored features, particles)
    kind: NDArray[np.int8]
    charge: NDArray[np.int8]


class TrackDetails(NamedTuple):
    """What tracks have beyond kinematics."""

    charge: NDArray[np.int32]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]


def particle_rows(
    events: Events, rows: IntArray, leptons: Leptons, config: SelectionConfig
) -> tuple[IntArray, dict[str, AnyArray]]:
    """Rows of the selected events: the lepton, then up to 450 tracks, 150 photons and 200 neutral hadrons.

    Each group is ordered by decreasing PT, at equal PT as in the file. The lepton's own tracks are left out before the
    cap; the first in file order gives the lepton its vertex. Isolation sums run over all kept objects, capped or not.
    A track with a reconstructed electron or muon of any PT at ΔR up to ``config.own_track_dr`` is flagged
    as the nearest.

    Args:
        events: The events.
        rows: Positions of the selected ones, (n,).
        leptons: Their leptons, (n,) each.
        config: Cuts and cone.

    Returns:
        Offsets (n + 1,) and columns: float32 per name in ``schema.STORED_PARTICLE_FEATURES`` (GeV, mm, rad), int8
        ``kind`` and ``Charge``. Charges beyond the range of int8 (Delphes gives unknown particles -999) are cut to it.
    """
    charge, x, y, z = (column(events, "EFlowTrack", leaf) for leaf in ("Charge", "X", "Y", "Z"))
    out = _empty_rows(events, rows)
    _fill_rows(
        out,
        rows,
        leptons,
        species_objects(events),
        TrackDetails(charge, x, y, z),
        objects(events, "Electron"),
        objects(events, schema.MUON),
        thresholds(config),
        config.isolation_cone,
        squared_edge(config.isolation_cone),
        config.own_track_dr,
    )
    n = out.offsets[-1]
    columns: dict[str, AnyArray] = dict(zip(schema.STORED_PARTICLE_FEATURES, out.values[:, :n], strict=True))
    return out.offsets, {**columns, schema.PARTICLE_KIND_COLUMN: out.kind[:n], "Charge": out.charge[:n]}


def _empty_rows(events: Events, rows: IntArray) -> Rows:
    """Room for as many particles as there can be, filled with zeros."""
    room = len(rows)
    for name, cap in zip(SPECIES, CAPS, strict=True):
        room += int(np.minimum(events[name].counts()[rows], cap).sum())
    values = np.zeros((len(schema.STORED_PARTICLE_FEATURES), room), np.float32)
    return Rows(np.zeros(len(rows) + 1, np.int64), values, np.zeros(room, np.int8), np.zeros(room, np.int8))


@kernel
def _fill_rows(
    out: Rows,
    rows: IntArray,
    leptons: Leptons,
    species: tuple[Objects, Objects, Objects],
    details: TrackDetails,
    electrons: Objects,
    muons: Objects,
    pt_min: tuple[float, float, float],
    cone: float,
    edge: float,
    own_dr: float,
) -> None:
    for i in range(len(rows)):
        event = rows[i]
        kept = (
            keep_objects(event, species[0], pt_min[0]),
            keep_objects(event, species[1], pt_min[1]),
            keep_objects(event, species[2], pt_min[2]),
        )
        sums = isolation_sums(kept, cone, edge)
        row = out.offsets[i]
        _write_lepton(out, row, leptons, i)
        row += 1
        for s in range(len(kept)):
            own = _find_own(kept[s], leptons.eta[i], leptons.phi[i], own_dr if s == TRACKS else NONE_OWN)
            order = np.argsort(-kept[s].pt, kind="mergesort")
            order = order[~own[order]][: CAPS[s]]
            index = kept[s].origin[order]
            _write_objects(out, row, species[s], index, KINDS[s])
            _write_isolation(out, row, kept[s].pt, sums[s], order)
            if s == TRACKS:
                _write_vertices(out, out.offsets[i], details, kept[s].origin[own][:1])
                _write_vertices(out, row, details, index)
                _write_charges(out, row, details, index)
                _flag_leptons(out, row, len(index), event, electrons, muons, own_dr)
            row += len(index)
        out.offsets[i + 1] = row


@kernel
def _find_own(kept: Kept, eta: float, phi: float, own_dr: float) -> NDArray[np.bool_]:
    """Which objects are the lepton's own, (n,)."""
    own = np.empty(len(kept.pt), np.bool_)
    for k in range(len(own)):
        own[k] = delta_r(kept.eta[k], kept.phi[k], eta, phi) <= own_dr
    return own


@kernel
def _write_lepton(out: Rows, row: int, leptons: Leptons, i: int) -> None:
    out.values[PT, row] = leptons.pt[i]
    out.values[ETA, row] = leptons.eta[i]
    out.values[PHI, row] = leptons.phi[i]
    out.values[ISO_CHARGED, row] = leptons.isolation[i, 0]
    out.values[ISO_PHOTON, row] = leptons.isolation[i, 1]
    out.values[ISO_NEUTRAL, row] = leptons.isolation[i, 2]
    out.kind[row] = leptons.kind[i]
    out.charge[row] = _limit(leptons.charge[i])


@kernel
def _write_objects(out: Rows, row: int, objects: Objects, index: IntArray, kind: int) -> None:
    for k in range(len(index)):
        out.values[PT, row + k] = objects.pt[index[k]]
        out.values[ETA, row + k] = objects.eta[index[k]]
        out.values[PHI, row + k] = objects.phi[index[k]]
        out.kind[row + k] = kind


@kernel
def _write_isolation(out: Rows, row: int, pt: FloatArray, sums: FloatArray, order: IntArray) -> None:
    for k in range(len(order)):
        out.values[ISO_CHARGED, row + k] = sums[0, order[k]] / pt[order[k]]
        out.values[ISO_PHOTON, row + k] = sums[1, order[k]] / pt[order[k]]
        out.values[ISO_NEUTRAL, row + k] = sums[2, order[k]] / pt[order[k]]


@kernel
def _write_vertices(out: Rows, row: int, details: TrackDetails, index: IntArray) -> None:
    for k in range(len(index)):
        out.values[VTX_X, row + k] = details.x[index[k]]
        out.values[VTX_Y, row + k] = details.y[index[k]]
        out.values[VTX_Z, row + k] = details.z[index[k]]


@kernel
def _write_charges(out: Rows, row: int, details: TrackDetails, index: IntArray) -> None:
    for k in range(len(index)):
        out.charge[row + k] = _limit(details.charge[index[k]])


@kernel
def _limit(charge: int) -> int:
    """Cut a charge to the range of int8."""
    return max(-128, min(charge, 127))


@kernel
def _flag_leptons(out: Rows, row: int, n: int, event: int, electrons: Objects, muons: Objects, own_dr: float) -> None:
    """Flag the tracks that have a reconstructed lepton at ΔR up to ``own_dr`` as the nearest; electrons win a tie."""
    for k in range(row, row + n):
        eta, phi = float(out.values[ETA, k]), float(out.values[PHI, k])
        electron = _nearest(eta, phi, electrons, event)
        muon = _nearest(eta, phi, muons, event)
        if electron <= own_dr and electron <= muon:
            out.kind[k] = ELECTRON
        elif muon <= own_dr:
            out.kind[k] = MUON


@kernel
def _nearest(eta: float, phi: float, objects: Objects, event: int) -> float:
    """ΔR of the nearest of an event's objects, infinite without any."""
    nearest = np.inf
    for j in range(objects.offsets[event], objects.offsets[event + 1]):
        nearest = min(nearest, delta_r(eta, phi, float(objects.eta[j]), float(objects.phi[j])))
    return nearest
