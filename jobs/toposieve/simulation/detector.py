"""The detector: from particles to the collections of a Delphes file. GeV, mm and radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.physics.events import Jagged
from toposieve.simulation import calorimeter as calo
from toposieve.simulation.columns import Columns, concatenate, take
from toposieve.simulation.jets import reconstruct_jets
from toposieve.simulation.kinematics import Array, eta_of
from toposieve.simulation.propagation import in_tracker, propagate
from toposieve.simulation.tracking import ELECTRON, MUON, reconstruct_tracks

INVISIBLE = (12, 14, 16)
ELECTROMAGNETIC = (11, 22)
V0 = (310, 3122)
"""K0s and Λ: they share their energy between the calorimeters."""
V0_ECAL_SHARE = 0.3

LEPTON_PT_MIN = 10.0
ELECTRON_EFFICIENCY = ((1.5, 0.95), (2.5, 0.85))
MUON_EFFICIENCY = ((2.4, 0.95),)


def simulate(particles: Columns, quarks: Columns, n_events: int, rng: np.random.Generator) -> dict[str, Jagged]:
    """Reconstruct events.

    Args:
        particles: All final-state particles, pile-up included (see ``TruthEvents.particles``).
        quarks: c and b quarks of the hard collisions: event, eta, phi, flavour.
        n_events: Number of events.
        rng: All of the detector's chance.

    Returns:
        The collections of ``schema.DELPHES_LEAVES``, in its types. Jets and leptons are in order of decreasing PT.
    """
    particles = describe(take(particles, in_tracker(particles) & ~np.isin(np.abs(particles["pdg"]), INVISIBLE)))
    tracks = reconstruct_tracks(particles, rng)
    photons, tracks = _pass_calorimeter(calo.ECAL, "ecal_share", particles, tracks, rng)
    neutral_hadrons, tracks = _pass_calorimeter(calo.HCAL, "hcal_share", particles, tracks, rng)
    flow = concatenate([_kinematics(objects) for objects in (tracks, photons, neutral_hadrons)])
    tables = {
        "EFlowTrack": tracks,
        "EFlowPhoton": photons,
        "EFlowNeutralHadron": neutral_hadrons,
        "Electron": _by_pt(_identify(tracks, ELECTRON, ELECTRON_EFFICIENCY, rng)),
        schema.MUON: _by_pt(_identify(tracks, MUON, MUON_EFFICIENCY, rng)),
        "Jet": _by_pt(reconstruct_jets(flow, quarks, n_events, rng)),
        "MissingET": missing_momentum(flow, n_events),
    }
    return {collection: to_jagged(collection, table, n_events) for collection, table in tables.items()}


def describe(particles: Columns) -> Columns:
    """Add pt, eta, phi, mass, the direction at the calorimeters and the shares of energy left there."""
    px, py, pz, energy = (particles[name] for name in ("px", "py", "pz", "energy"))
    ecal_share, hcal_share = calorimeter_shares(particles["pdg"])
    calorimeter_eta, calorimeter_phi = propagate(particles)
    return {
        **particles,
        "pt": np.hypot(px, py),
        "eta": eta_of(px, py, pz),
        "phi": np.arctan2(py, px),
        "mass": np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)),
        "calorimeter_eta": calorimeter_eta,
        "calorimeter_phi": calorimeter_phi,
        "ecal_share": ecal_share,
        "hcal_share": hcal_share,
    }


def calorimeter_shares(pdg: NDArray[np.int32]) -> tuple[Array, Array]:
    """Shares of a particle's energy left in ECAL and HCAL."""
    code = np.abs(pdg)
    kinds = [np.isin(code, ELECTROMAGNETIC), np.isin(code, V0), code == 13]
    return np.select(kinds, [1.0, V0_ECAL_SHARE, 0.0], 0.0), np.select(kinds, [0.0, 1 - V0_ECAL_SHARE, 0.0], 1.0)


def _pass_calorimeter(
    calorimeter: calo.Calorimeter, share: str, particles: Columns, tracks: Columns, rng: np.random.Generator
) -> tuple[Columns, Columns]:
    """Neutral objects of one calorimeter (event, pt, eta, phi, mass 0), and the tracks with rescaled ``pt``."""
    deposits = {
        "event": particles["event"],
        "cell": calorimeter.cell_of(particles["calorimeter_eta"], particles["calorimeter_phi"]),
        "energy": particles["energy"] * particles[share],
    }
    pointing = {
        "event": tracks["event"],
        "cell": calorimeter.cell_of(tracks["calorimeter_eta"], tracks["calorimeter_phi"]),
        "energy": np.hypot(tracks["pt"] * np.cosh(tracks["eta"]), tracks["mass"]),
        "fraction": tracks[share],
        "resolution": tracks["resolution"],
    }
    neutrals, scale = calo.energy_flow(calorimeter, deposits, pointing, rng)
    neutrals["pt"] = neutrals.pop("energy") / np.cosh(neutrals["eta"])
    neutrals["mass"] = np.zeros(len(neutrals["pt"]))
    return neutrals, {**tracks, "pt": tracks["pt"] * scale}


def _kinematics(objects: Columns) -> Columns:
    return {name: objects[name] for name in ("event", "pt", "eta", "phi", "mass")}


def _identify(
    tracks: Columns, kind: int, efficiency: tuple[tuple[float, float], ...], rng: np.random.Generator
) -> Columns:
    """Tracks identified as a lepton; ``efficiency`` holds pairs of an |η| limit and the efficiency up to it."""
    candidates = take(tracks, (tracks["kind"] == kind) & (tracks["pt"] > LEPTON_PT_MIN))
    distance = np.abs(candidates["eta"])
    probability = np.select([distance <= limit for limit, _ in efficiency], [value for _, value in efficiency], 0.0)
    return take(candidates, rng.random(len(distance)) < probability)


def _by_pt(objects: Columns) -> Columns:
    return take(objects, np.argsort(-objects["pt"], kind="stable"))


def missing_momentum(flow: Columns, n_events: int) -> Columns:
    """Missing transverse momentum of each event: minus the vector sum of the energy flow."""
    x = -np.bincount(flow["event"], flow["pt"] * np.cos(flow["phi"]), n_events)
    y = -np.bincount(flow["event"], flow["pt"] * np.sin(flow["phi"]), n_events)
    return {"event": np.arange(n_events), "met": np.hypot(x, y), "phi": np.arctan2(y, x)}


_COLUMN_OF_LEAF = {
    "PT": "pt",
    "ET": "pt",
    "Eta": "eta",
    "Phi": "phi",
    "Charge": "charge",
    "X": "x",
    "Y": "y",
    "Z": "z",
    "BTag": "btag",
    "MET": "met",
}


def to_jagged(collection: str, table: Columns, n_events: int) -> Jagged:
    """A table as a collection of the schema: its leaves, in its types, event by event."""
    order = np.argsort(table["event"], kind="stable")
    counts = np.bincount(table["event"], minlength=n_events)
    leaves = {
        leaf: table[_COLUMN_OF_LEAF[leaf]][order].astype(dtype)
        for leaf, dtype in schema.DELPHES_LEAVES[collection].items()
    }
    return Jagged(np.concatenate([[0], np.cumsum(counts)]), leaves)
