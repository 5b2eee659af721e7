"""The 14 features of each event, the 19 features of each particle, and the particles' order in sequences."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.compiled import kernel
from toposieve.physics.events import AnyArray, Events, FloatArray, IntArray, Objects, column, objects
from toposieve.physics.kinematics import delta_r, massless_four_vector
from toposieve.physics.leptons import ELECTRON, Leptons

BLOCK = 4096
"""Particles expanded at a time: few enough for their columns to stay in the processor's cache."""


def high_level_features(
    events: Events, rows: IntArray, leptons: Leptons, config: SelectionConfig, *, btag_mask: int
) -> FloatArray:
    """The features ``schema.HIGH_LEVEL_FEATURES`` (GeV, rad) of the selected events.

    ``HT``, ``nJets`` and ``nBjets`` run over the kept jets that are not within ``config.jet_lepton_dr`` of the lepton;
    ``MT = √(2·MET·pT·(1 - cos Δφ(lepton, MET)))``.

    Args:
        events: The events.
        rows: Positions of the selected ones, (n,).
        leptons: Their leptons, (n,) each.
        config: Jet cuts.
        btag_mask: Bits of ``Jet.BTag`` that count as b-tagged.

    Returns:
        (n, 14)
    """
    met, met_phi = (column(events, "MissingET", leaf)[rows + events["MissingET"].offsets[0]] for leaf in ("MET", "Phi"))
    met, met_phi = met.astype(np.float64), met_phi.astype(np.float64)
    jets = _sum_jets(
        rows,
        leptons.eta,
        leptons.phi,
        objects(events, "Jet"),
        column(events, "Jet", "BTag"),
        np.uint32(btag_mask),
        (config.jet_pt_min, config.jet_eta_max, config.jet_lepton_dr),
    )
    values = {
        "HT": jets[:, 0],
        "MET": met,
        "phiMET": met_phi,
        "MT": np.sqrt(2 * met * leptons.pt * (1 - np.cos(leptons.phi - met_phi))),
        "nJets": jets[:, 1],
        "nBjets": jets[:, 2],
        "LepPt": leptons.pt,
        "LepEta": leptons.eta,
        "LepPhi": leptons.phi,
        "LepIsoCh": leptons.isolation[:, 0],
        "LepIsoGamma": leptons.isolation[:, 1],
        "LepIsoNeu": leptons.isolation[:, 2],
        "LepCharge": leptons.charge,
        "LepIsEle": leptons.kind == ELECTRON,
    }
    return np.stack([values[name] for name in schema.HIGH_LEVEL_FEATURES], axis=1).astype(np.float64)


@kernel
def _sum_jets(
    rows: IntArray,
    lepton_eta: FloatArray,
    lepton_phi: FloatArray,
    jets: Objects,
    btags: NDArray[np.uint32],
    btag_mask: np.uint32,
    cuts: tuple[float, float, float],
) -> FloatArray:
    """HT (GeV), number of jets and number of b-tagged jets, (n, 3)."""
    pt_min, eta_max, lepton_dr = cuts
    sums = np.zeros((len(rows), 3))
    for i in range(len(rows)):
        for j in range(jets.offsets[rows[i]], jets.offsets[rows[i] + 1]):
            pt, eta, phi = float(jets.pt[j]), float(jets.eta[j]), float(jets.phi[j])
            if not (pt > pt_min and abs(eta) < eta_max) or delta_r(eta, phi, lepton_eta[i], lepton_phi[i]) < lepton_dr:
                continue
            sums[i, 0] += pt
            sums[i, 1] += 1
            sums[i, 2] += 1 if btags[j] & btag_mask else 0
    return sums


def low_level_features(particles: Mapping[str, AnyArray]) -> NDArray[np.float32]:
    """Expand stored particle columns to the features ``schema.LOW_LEVEL_FEATURES`` (GeV, mm, rad).

    Energy and momentum are those of massless particles.

    Args:
        particles: Columns of ``schema.STORED_PARTICLE_FEATURES``, ``kind`` and ``Charge``, (n,) each.

    Returns:
        (n, 19)
    """
    n = len(particles["Pt"])
    features = np.empty((n, len(schema.LOW_LEVEL_FEATURES)), np.float32)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        _expand({name: values[block] for name, values in particles.items()}, features[block])
    return features


def _expand(particles: Mapping[str, AnyArray], features: NDArray[np.float32]) -> None:
    pt, eta, phi = (np.asarray(particles[name], np.float64) for name in ("Pt", "Eta", "Phi"))
    derived = dict(zip(("Energy", "Px", "Py", "Pz"), massless_four_vector(pt, eta, phi), strict=True))
    kind = np.asarray(particles[schema.PARTICLE_KIND_COLUMN])
    flags = {flag: kind == value for value, flag in enumerate(schema.PARTICLE_KINDS)}
    values = {**particles, **derived, **flags}
    for i, name in enumerate(schema.LOW_LEVEL_FEATURES):
        features[:, i] = values[name]


def sequence_order(offsets: IntArray, eta: AnyArray, phi: AnyArray) -> IntArray:
    """Order of particles in sequence models: by decreasing ΔR from the lepton, at equal ΔR as stored, lepton last.

    Args:
        offsets: (events + 1,); row 0 of each event is its lepton.
        eta: Pseudorapidity of all particles.
        phi: Azimuth of all particles, rad.

    Returns:
        Positions in the flat arrays, (particles,): ``flat[order]`` is ordered within each event, events stay in place.
    """
    bounds = np.asarray(offsets, np.int64)
    order = np.empty(bounds[-1] - bounds[0], np.int64)
    codes = np.empty(len(order), np.uint64)
    bits = np.uint64(int(np.diff(bounds).max(initial=0)).bit_length())
    distances = _encode(codes, bounds, np.asarray(eta, np.float64), np.asarray(phi, np.float64), bits)
    for start, stop in pairwise((bounds - bounds[0]).tolist()):
        codes[start + 1 : stop].sort()  # numpy's sort of integers is the fastest there is
    _decode(order, bounds, codes, distances, bits)
    return order


@kernel
def _encode(
    codes: NDArray[np.uint64], offsets: IntArray, eta: FloatArray, phi: FloatArray, bits: np.uint64
) -> FloatArray:
    """Code of each particle: its ΔR but for the last bits, where it counts from the event's end; and ΔR itself."""
    distances, first = np.empty(len(codes)), offsets[0]
    for i in range(len(offsets) - 1):
        lepton, stop = offsets[i], offsets[i + 1]
        for k in range(lepton, stop):
            distances[k - first] = delta_r(eta[k], phi[k], eta[lepton], phi[lepton])
    patterns = distances.view(np.uint64)  # positive floats are in the order of their bit patterns
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            codes[k - first] = (patterns[k - first] >> bits << bits) | np.uint64(offsets[i + 1] - 1 - k)
    return distances


@kernel
def _decode(
    order: IntArray, offsets: IntArray, codes: NDArray[np.uint64], distances: FloatArray, bits: np.uint64
) -> None:
    first, mask = offsets[0], (np.uint64(1) << bits) - np.uint64(1)
    for i in range(len(offsets) - 1):
        lepton, stop = offsets[i] - first, offsets[i + 1] - first
        if lepton == stop:
            continue
        order[stop - 1] = lepton + first
        for k in range(lepton, stop - 1):
            particle, at = stop - 1 - np.int64(codes[stop - 1 - (k - lepton)] & mask), k
            # Sorted already, but for distances that differ in their last bits alone.
            while at > lepton and distances[order[at - 1] - first] < distances[particle]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = particle + first


def pad_sequences(offsets: IntArray, features: AnyArray) -> AnyArray:
    """Zero-pad particles to the published layout; do it last, after ordering and scaling, so that padding stays zero.

    Args:
        offsets: (events + 1,)
        features: (particles, features)

    Returns:
        (events, 801, features)

    Raises:
        ValueError: An event has more particles than the layout has rows.
    """
    counts = np.diff(offsets)
    if counts.max(initial=0) > schema.MAX_PARTICLES:
        raise ValueError(f"an event has {counts.max()} particles; the layout has {schema.MAX_PARTICLES} rows")
    padded = np.zeros((len(counts), schema.MAX_PARTICLES, features.shape[1]), features.dtype)
    real = np.arange(schema.MAX_PARTICLES) < counts[:, np.newaxis]  # (events, 801)
    padded[real] = features[offsets[0] : offsets[-1]]
    return padded
