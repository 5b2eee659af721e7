import math

import numpy as np
import pytest

from toposieve.simulation.tracking import (
    ELECTRON,
    HADRON,
    MUON,
    efficiency,
    kind_of,
    reconstruct_tracks,
    relative_resolution,
)


def test_kinds_by_pdg_code():
    assert kind_of(np.array([11, -11, 13, -13, 211, -2212, 22])).tolist() == [1, 1, 2, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "pt", "eta", "expected"),
    [
        (HADRON, 0.1, 0.0, 0.0),  # both edges of the PT bin: 0.1 < pT <= 1
        (HADRON, 0.101, 0.0, 0.70),
        (HADRON, 1.0, 1.5, 0.70),
        (HADRON, 1.001, 1.5, 0.95),
        (HADRON, 1.0, -1.501, 0.60),
        (HADRON, 500.0, 2.5, 0.85),
        (HADRON, 500.0, 2.501, 0.0),
        (ELECTRON, 0.5, 0.3, 0.73),
        (ELECTRON, 100.0, 0.3, 0.95),
        (ELECTRON, 100.1, 0.3, 0.99),
        (ELECTRON, 0.5, 2.0, 0.50),
        (ELECTRON, 50.0, -2.0, 0.83),
        (ELECTRON, 150.0, 2.0, 0.90),
        (MUON, 0.5, 0.3, 0.75),
        (MUON, 50.0, 0.3, 0.99),
        (MUON, 0.5, 2.0, 0.70),
        (MUON, 50.0, 2.0, 0.98),
    ],
)
def test_efficiency_table(kind, pt, eta, expected):
    assert efficiency(np.array([kind]), np.array([pt]), np.array([eta]))[0] == expected


@pytest.mark.parametrize(
    ("kind", "pt", "eta", "expected"),
    [
        (HADRON, 10.0, 0.5, math.hypot(0.06, 0.013)),
        (HADRON, 10.0, 0.51, math.hypot(0.10, 0.017)),
        (HADRON, 10.0, -1.6, math.hypot(0.25, 0.031)),
        (ELECTRON, 100.0, 0.0, math.hypot(0.03, 0.13)),
        (ELECTRON, 20.0, 2.0, math.hypot(0.15, 0.062)),
        (MUON, 100.0, 0.0, math.hypot(0.01, 0.01)),
        (MUON, 100.0, 1.5, math.hypot(0.015, 0.015)),
        (MUON, 100.0, 2.4, math.hypot(0.025, 0.035)),
    ],
)
def test_resolution_formula(kind, pt, eta, expected):
    assert relative_resolution(np.array([kind]), np.array([pt]), np.array([eta]))[0] == pytest.approx(expected)


def particles(n, pdg=211, charge=1.0, pt=20.0, eta=0.2):
    return {
        "event": np.zeros(n, dtype=int),
        "pdg": np.full(n, pdg),
        "charge": np.full(n, charge),
        "pt": np.full(n, pt),
        "eta": np.full(n, eta),
        "number": np.arange(n),
    }


def test_neutral_particles_leave_no_track():
    assert len(reconstruct_tracks(particles(50, pdg=22, charge=0.0), np.random.default_rng(1))["pt"]) == 0


def test_found_share_and_smearing_of_hadrons():
    n = 100_000
    tracks = reconstruct_tracks(particles(n), np.random.default_rng(1))
    found = len(tracks["pt"])
    assert found / n == pytest.approx(0.95, abs=0.004)
    sigma = 20.0 * math.hypot(0.06, 20 * 1.3e-3)
    assert tracks["pt"].mean() == pytest.approx(20.0, abs=5 * sigma / math.sqrt(n))
    assert tracks["pt"].std() == pytest.approx(sigma, rel=0.02)
    assert tracks["resolution"] == pytest.approx(np.full(found, sigma / 20))


def test_tracks_keep_their_particles_columns():
    tracks = reconstruct_tracks(particles(100, pdg=-13, charge=1.0), np.random.default_rng(1))
    assert np.all(np.diff(tracks["number"]) > 0)
    assert set(tracks["kind"]) == {MUON}
    assert set(tracks["eta"]) == {0.2}
