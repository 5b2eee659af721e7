"""Whole events through the detector."""

import math

import numpy as np
import pytest

from toposieve import schema
from toposieve.physics.events import count_events
from toposieve.simulation.calorimeter import ecal_resolution
from toposieve.simulation.detector import calorimeter_shares, describe, missing_momentum, simulate, to_jagged

MASS = {11: 0.000511, 13: 0.10566, 22: 0.0, 211: 0.13957, 130: 0.49761, 14: 0.0}
NO_QUARKS = {"event": np.zeros(0, int), "eta": np.zeros(0), "phi": np.zeros(0), "flavour": np.zeros(0, int)}


def particles(*rows):
    """Rows of event, pdg, charge, pt, eta, phi."""
    event, pdg, charge, pt, eta, phi = np.array(rows, dtype=float).reshape(-1, 6).T
    mass = np.array([MASS[int(abs(code))] for code in pdg])
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    momenta = {"px": px, "py": py, "pz": pz, "energy": np.hypot(pt * np.cosh(eta), mass)}
    vertex = {"x": np.full(len(pt), 0.1), "y": np.zeros(len(pt)), "z": np.full(len(pt), 20.0)}
    return {"event": event.astype(int), "pdg": pdg.astype(int), "charge": charge, **momenta, **vertex}


def run(n_events, *rows, quarks=NO_QUARKS):
    return simulate(particles(*rows), quarks, n_events, np.random.default_rng(7))


def leaves(events, collection):
    return events[collection].leaves


def test_all_collections_have_the_schemas_leaves_and_types():
    events = run(3, (1, 211, 1, 20.0, 0.5, 0.0))
    assert count_events(events) == 3
    for collection, expected in schema.DELPHES_LEAVES.items():
        assert {leaf: str(values.dtype) for leaf, values in leaves(events, collection).items()} == expected


def test_events_without_particles_are_kept_and_empty():
    events = run(2)
    assert events["EFlowTrack"].counts().tolist() == [0, 0]
    assert leaves(events, "MissingET")["MET"].tolist() == [0.0, 0.0]


def test_photons_are_measured_with_the_ecals_resolution():
    n = 4000
    photons = run(n, *[(i, 22, 0, 50.0, 0.3, 1.0) for i in range(n)])["EFlowPhoton"]
    assert photons.counts().tolist() == [1] * n
    sigma = ecal_resolution(np.array([0.3]), np.array([50 * math.cosh(0.3)]))[0] / math.cosh(0.3)
    # The direction is a random point of the cell: Δη of .0174 smears ET by tanh(η) · .005.
    assert photons.leaves["ET"].mean() == pytest.approx(50.0, abs=0.4)
    assert photons.leaves["ET"].std() == pytest.approx(sigma, rel=0.15)
    assert np.abs(photons.leaves["Phi"] - 1.0).max() < math.radians(1.0)


def test_neutral_hadrons_are_seen_in_the_hcal_alone():
    events = run(200, *[(i, 130, 0, 60.0, -0.7, 2.0) for i in range(200)])
    assert events["EFlowNeutralHadron"].counts().tolist() == [1] * 200
    assert len(leaves(events, "EFlowPhoton")["ET"]) == 0
    assert leaves(events, "EFlowNeutralHadron")["ET"].mean() == pytest.approx(60.0, rel=0.05)


def test_muons_leave_no_energy_and_are_muons():
    n = 1000
    events = run(n, *[(i, 13, -1, 40.0, 1.0, 0.5) for i in range(n)])
    assert len(leaves(events, "EFlowPhoton")["ET"]) == 0
    assert len(leaves(events, "EFlowNeutralHadron")["ET"]) == 0
    assert events["EFlowTrack"].counts().mean() == pytest.approx(0.99, abs=0.01)
    muons = leaves(events, schema.MUON)
    assert len(muons["PT"]) / n == pytest.approx(0.99 * 0.95, abs=0.025)
    assert set(muons["Charge"]) == {-1}
    assert len(leaves(events, "Electron")["PT"]) == 0


def test_a_lepton_is_its_own_track_to_the_last_bit():
    n = 300
    events = run(n, *[(i, -11, 1, 40.0, -1.0, 0.5) for i in range(n)])
    electrons, tracks = leaves(events, "Electron"), leaves(events, "EFlowTrack")
    assert len(electrons["PT"]) / n == pytest.approx(0.95 * 0.95, abs=0.05)
    for leaf in ("PT", "Eta", "Phi"):
        assert set(electrons[leaf]) <= set(tracks[leaf])
    assert tracks["X"].tolist() == pytest.approx([0.1] * len(tracks["X"]))
    assert tracks["Z"].tolist() == pytest.approx([20.0] * len(tracks["Z"]))


@pytest.mark.parametrize(
    ("pdg", "pt", "eta", "share"),
    [
        (11, 9.0, 0.5, 0.0),
        (13, 9.0, 0.5, 0.0),
        (13, 40.0, 2.45, 0.0),
        (11, 40.0, 2.0, 0.83 * 0.85),
        (13, 40.0, 2.0, 0.98 * 0.95),
    ],
)
def test_lepton_identification(pdg, pt, eta, share):
    n = 1000
    events = run(n, *[(i, pdg, -1, pt, eta, 0.5) for i in range(n)])
    collection = "Electron" if pdg == 11 else schema.MUON
    found = np.count_nonzero(leaves(events, collection)["PT"] > 10)
    if share == 0.0 and pt < 10:
        # Only those smeared above the cut: none of them by much.
        assert found / n < 0.3
        assert leaves(events, collection)["PT"].max(initial=0.0) < 15
    else:
        assert found / n == pytest.approx(share, abs=0.045)


def test_neutrinos_are_what_is_missing():
    events = run(1, (0, 14, 0, 40.0, 0.0, 2.0), (0, 13, -1, 40.0, 0.0, 2.0 - math.pi))
    missing = leaves(events, "MissingET")
    assert leaves(events, "EFlowTrack")["PT"][0] == pytest.approx(missing["MET"][0], rel=1e-6)
    assert missing["Phi"][0] == pytest.approx(2.0, abs=1e-6)


def test_missing_momentum_balances_the_flow():
    flow = {
        "event": np.array([0, 0, 2]),
        "pt": np.array([3.0, 4.0, 5.0]),
        "phi": np.array([0.0, math.pi / 2, math.pi]),
    }
    missing = missing_momentum(flow, 3)
    assert missing["met"] == pytest.approx([5.0, 0.0, 5.0])
    assert missing["phi"][0] == pytest.approx(math.atan2(-4, -3))
    assert missing["phi"][2] == pytest.approx(0.0)


def test_energy_of_a_jet_of_hadrons_is_found():
    rng = np.random.default_rng(3)
    rows = [
        (i, *kind, pt, 0.5 + deta, dphi)
        for i in range(200)
        for kind, pt, deta, dphi in zip(
            [(211, 1), (211, -1), (22, 0), (130, 0)],
            (30.0, 20.0, 25.0, 25.0),
            rng.uniform(-0.1, 0.1, 4),
            rng.uniform(-0.1, 0.1, 4),
            strict=True,
        )
    ]
    jets = run(200, *rows)["Jet"]
    first = jets.leaves["PT"][jets.offsets[:-1][jets.counts() > 0]]
    assert len(first) > 195
    # 100 GeV of true momentum, bent a little apart by the field, and scaled by √(2.425²/100 + 1) = 1.03.
    assert first.mean() == pytest.approx(103, rel=0.06)


def test_jets_and_leptons_are_in_order_of_pt():
    rows = [
        (i % 5, 13, 1, pt, eta, phi)
        for i, (pt, eta, phi) in enumerate(np.random.default_rng(1).uniform((15, -2, -3), (90, 2, 3), (60, 3)))
    ]
    events = run(5, *rows)
    for collection in (schema.MUON, "Jet"):
        jagged = events[collection]
        for start, stop in zip(jagged.offsets[:-1], jagged.offsets[1:], strict=True):
            assert np.all(np.diff(jagged.leaves["PT"][start:stop]) <= 0)
            assert stop - start > 3


def test_shares_of_energy():
    ecal, hcal = calorimeter_shares(np.array([11, -11, 22, 13, 310, 3122, 211, 2112]))
    assert ecal.tolist() == [1, 1, 1, 0, 0.3, 0.3, 0, 0]
    assert hcal.tolist() == pytest.approx([0, 0, 0, 0, 0.7, 0.7, 1, 1])


def test_description_of_a_particle():
    described = describe(particles((0, 211, 0, 3.0, 1.2, 0.4)))
    assert described["pt"][0] == pytest.approx(3.0)
    assert described["eta"][0] == pytest.approx(1.2)
    assert described["phi"][0] == pytest.approx(0.4)
    assert described["mass"][0] == pytest.approx(0.13957, abs=1e-6)


def test_jagged_collections_are_event_by_event():
    table = {"event": np.array([2, 0, 2]), "met": np.array([1.0, 2.0, 3.0]), "phi": np.zeros(3)}
    jagged = to_jagged("MissingET", table, 4)
    assert jagged.offsets.tolist() == [0, 1, 1, 3, 3]
    assert jagged.leaves["MET"].tolist() == [2.0, 1.0, 3.0]


def test_same_random_numbers_same_event():
    rows = [(0, 211, 1, 20.0, 0.1 * i, 0.3 * i) for i in range(20)]
    first, second = run(1, *rows), run(1, *rows)
    for collection in schema.DELPHES_LEAVES:
        for leaf, values in leaves(first, collection).items():
            assert values.tolist() == leaves(second, collection)[leaf].tolist()
