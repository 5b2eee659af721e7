import math

import fastjet
import numpy as np
import pytest

from toposieve.simulation.jets import cluster, energy_scale, jet_flavour, reconstruct_jets, tag_probability


def flow(*rows):
    """Rows of event, pt, eta, phi."""
    event, pt, eta, phi = np.array(rows, dtype=float).reshape(-1, 4).T
    return {"event": event.astype(int), "pt": pt, "eta": eta, "phi": phi, "mass": np.zeros(len(pt))}


def quarks(*rows):
    event, eta, phi, flavour = np.array(rows, dtype=float).reshape(-1, 4).T
    return {"event": event.astype(int), "eta": eta, "phi": phi, "flavour": flavour.astype(int)}


def test_near_objects_make_one_jet_and_far_ones_two():
    jets = cluster(flow((0, 30, 0.0, 0.0), (0, 20, 0.0, 0.3), (1, 30, 0.0, 0.0), (1, 20, 0.0, 0.5)), 2)
    assert jets["event"].tolist() == [0, 1, 1]
    assert jets["pt"][0] == pytest.approx(math.hypot(30 + 20 * math.cos(0.3), 20 * math.sin(0.3)))
    assert sorted(jets["pt"][1:]) == pytest.approx([20.0, 30.0])


def test_jets_form_across_the_wrap():
    (phi,) = cluster(flow((0, 30, 1.0, 3.1), (0, 30, 1.0, -3.1)), 1)["phi"]
    assert abs(phi) == pytest.approx(math.pi)


def test_soft_jets_and_empty_events_are_left_out():
    jets = cluster(flow((0, 14.9, 0, 0), (2, 15.1, 0, 0)), 4)
    assert jets["event"].tolist() == [2]


def test_clustering_agrees_with_plain_fastjet():
    rng = np.random.default_rng(2)
    rows = [
        (0, pt, eta, phi)
        for pt, eta, phi in zip(rng.exponential(4, 200), rng.normal(0, 2, 200), rng.uniform(-3, 3, 200), strict=True)
    ]
    inputs = [
        fastjet.PseudoJet(pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta), pt * math.cosh(eta))
        for _, pt, eta, phi in rows
    ]
    sequence = fastjet._swig.ClusterSequence(inputs, fastjet.JetDefinition(fastjet.antikt_algorithm, 0.4))
    expected = sorted(jet.pt() for jet in sequence.inclusive_jets(15.0))
    assert len(expected) > 2
    assert sorted(cluster(flow(*rows), 1)["pt"]) == pytest.approx(expected)


def test_energy_scale():
    scale = energy_scale(np.array([25.0, 100.0]), np.array([0.0, -2.0]))
    assert scale == pytest.approx([math.sqrt(2.5**2 / 25 + 1), math.sqrt(2.2**2 / 100 + 1)])


def test_flavour_is_that_of_the_heaviest_near_quark():
    jets = flow((0, 50, 0, 0), (0, 50, 2, 0), (1, 50, 0, 0), (1, 50, 0, 3.1))
    near = quarks((0, 0.3, 0.3, 4), (0, 0.0, 0.49, 5), (0, 2.0, 0.51, 5), (1, 0.0, -3.1, 4))
    assert jet_flavour(jets, near, 3).tolist() == [5, 0, 0, 4]


@pytest.mark.parametrize(
    ("flavour", "pt", "expected"),
    [
        (5, 50.0, 0.85 * math.tanh(0.125) * 25 / (1 + 3.15)),
        (4, 50.0, 0.25 * math.tanh(0.9) / 1.065),
        (0, 50.0, 0.0119),
    ],
)
def test_tag_probability(flavour, pt, expected):
    probability = tag_probability(np.full(2, flavour), np.full(2, pt), np.array([2.49, 2.51]))
    assert probability == pytest.approx([expected, 0.0])


def test_tags_are_drawn_with_the_probability():
    n = 4000
    jets = reconstruct_jets(
        flow(*[(i, 100.0, 0, 0) for i in range(n)]),
        quarks(*[(i, 0, 0, 5) for i in range(n)]),
        n,
        np.random.default_rng(1),
    )
    scaled = 100 * math.sqrt(2.5**2 / 100 + 1)
    assert jets["pt"] == pytest.approx(np.full(n, scaled))
    expected = tag_probability(np.array([5]), np.array([scaled]), np.zeros(1))[0]
    assert jets["btag"].mean() == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / n))
    assert jets["btag"].dtype == np.uint32
