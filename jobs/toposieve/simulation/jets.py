"""Jets: anti-kT clustering, energy scale, flavour and b-tagging. GeV and radians."""

from __future__ import annotations

import awkward as ak
import fastjet
import numpy as np
from numpy.typing import NDArray

from toposieve.simulation.columns import Columns, pairs
from toposieve.simulation.kinematics import Array, delta_phi, eta_of

RADIUS = 0.4
PT_MIN = 15.0
"""Jets are kept above this PT, before their energy is scaled."""
FLAVOUR_DR = 0.5
"""A jet has the flavour of the heaviest c or b quark within this ΔR."""
TAGGER_ETA_MAX = 2.5
"""Nothing is tagged where there are no tracks."""


def reconstruct_jets(objects: Columns, quarks: Columns, n_events: int, rng: np.random.Generator) -> Columns:
    """Jets of the energy flow: event, pt, eta, phi, btag (0 or 1).

    Args:
        objects: Energy flow: event, pt, eta, phi, mass.
        quarks: Flavour of jets: event, eta, phi, flavour.
        n_events: Number of events.
        rng: Decides on the tags.
    """
    jets = cluster(objects, n_events)
    jets["pt"] = jets["pt"] * energy_scale(jets["pt"], jets["eta"])
    flavour = jet_flavour(jets, quarks, n_events)
    tagged = rng.random(len(flavour)) < tag_probability(flavour, jets["pt"], jets["eta"])
    return {**jets, "btag": tagged.astype(np.uint32)}


def cluster(objects: Columns, n_events: int) -> Columns:
    """Anti-kT jets above :data:`PT_MIN`, by event: event, pt, eta, phi."""
    order = np.argsort(objects["event"], kind="stable")
    pt, eta, phi, mass = (objects[name][order] for name in ("pt", "eta", "phi", "mass"))
    momenta = {
        "px": pt * np.cos(phi),
        "py": pt * np.sin(phi),
        "pz": pt * np.sinh(eta),
        "E": np.hypot(pt * np.cosh(eta), mass),
    }
    counts = np.bincount(objects["event"], minlength=n_events)
    inputs = ak.zip({name: ak.unflatten(values, counts) for name, values in momenta.items()}, with_name="Momentum4D")
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    jets = fastjet.ClusterSequence(inputs, definition).inclusive_jets(min_pt=PT_MIN)
    px, py, pz = (ak.to_numpy(ak.flatten(jets[axis])) for axis in ("px", "py", "pz"))
    event = np.repeat(np.arange(n_events), ak.to_numpy(ak.num(jets)))
    return {"event": event, "pt": np.hypot(px, py), "eta": eta_of(px, py, pz), "phi": np.arctan2(py, px)}


def energy_scale(pt: Array, eta: Array) -> Array:
    """Correction √((2.5 - 0.15|η|)²/PT + 1) of a jet's measured energy."""
    return np.sqrt((2.5 - 0.15 * np.abs(eta)) ** 2 / pt + 1)


def jet_flavour(jets: Columns, quarks: Columns, n_events: int) -> NDArray[np.int64]:
    """5, 4 or 0 for each jet: the heaviest quark within :data:`FLAVOUR_DR`."""
    flavour = np.zeros(len(jets["event"]), dtype=np.int64)
    jet, quark = pairs(jets["event"], quarks["event"], n_events)
    eta = jets["eta"][jet] - quarks["eta"][quark]
    near = np.hypot(eta, delta_phi(jets["phi"][jet], quarks["phi"][quark])) < FLAVOUR_DR
    np.maximum.at(flavour, jet[near], quarks["flavour"][quark[near]])
    return flavour


def tag_probability(flavour: NDArray[np.int64], pt: Array, eta: Array) -> Array:
    """Probability that a jet is b-tagged."""
    bottom = 0.85 * np.tanh(0.0025 * pt) * 25.0 / (1 + 0.063 * pt)
    charm = 0.25 * np.tanh(0.018 * pt) / (1 + 0.0013 * pt)
    light = 0.01 + 3.8e-5 * pt
    return np.where(np.abs(eta) < TAGGER_ETA_MAX, np.select([flavour == 5, flavour == 4], [bottom, charm], light), 0.0)
