from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from toposieve.firmware.acceptance import Findings, areas, differing_logits, objections

CLASSES = ("qcd", "ttbar", "wjets")
TOLERANCE = 0.003
NETWORK = {"qcd": 0.969, "ttbar": 0.9879, "wjets": 0.9606}
GOOD = Findings(
    differing={"test": 0, "random": 0},
    differing_from_hls4ml={"test": 0, "random": 0},
    compared={"test": 1845, "random": 45_000},
    fault_differing=1845,
    auc={"qcd": 0.966, "ttbar": 0.9909, "wjets": 0.9606},  # two as far off as they may be
    network_auc=NETWORK,
)


def test_what_agrees_is_accepted():
    assert objections(GOOD, TOLERANCE) == []


@pytest.mark.parametrize(
    ("mutation", "said"),
    [
        ({"differing": {"test": 1, "random": 0}}, "1 of 1,845 logits of test events differ"),
        (
            {"differing": {"test": 0, "random": 1}},
            "1 of 45,000 logits of random events differ",
        ),
        (
            {"differing_from_hls4ml": {"test": 1, "random": 0}},
            "1 of 1,845 logits of test events differ between Verilog and hls",
        ),
        ({"compared": {"test": 1845, "random": 0}}, "nothing was compared"),
        ({"fault_differing": 0}, "does not notice an adder that subtracts"),
        ({"auc": NETWORK | {"qcd": 0.969 - 0.0031}}, "the AUC of qcd is 0.9659, the network's 0.9690"),
        ({"auc": NETWORK | {"wjets": 0.9606 + 0.0031}}, "the AUC of wjets is 0.9637, the network's 0.9606"),
        ({"auc": NETWORK | {"ttbar": float("nan")}}, "the AUC of ttbar is nan"),
    ],
)
def test_each_thing_that_is_wrong_is_an_objection(mutation, said):
    [objection] = objections(replace(GOOD, **mutation), TOLERANCE)
    assert said in objection


def test_one_logit_in_its_last_bit_is_noticed():
    logits = np.arange(12.0).reshape(4, 3)
    other = logits.copy()
    other[2, 1] = np.nextafter(other[2, 1], np.inf)
    assert differing_logits(logits, logits.copy()) == 0
    assert differing_logits(logits, other) == 1
    other[0, 0] = np.nan
    assert differing_logits(other, other) == 1


def test_fewer_events_are_not_compared():
    with pytest.raises(ValueError, match=r"\(3, 3\) logits cannot be compared with \(4, 3\)"):
        differing_logits(np.zeros((4, 3)), np.zeros((3, 3)))


def test_areas_are_those_of_the_probabilities():
    random = np.random.default_rng(0)
    labels, weights = random.integers(0, 3, 500), random.uniform(0.5, 2, 500)
    logits = random.normal(size=(500, 3)) + 2 * np.eye(3)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = {
        name: roc_auc_score(labels == label, shares[:, label], sample_weight=weights)
        for label, name in enumerate(CLASSES)
    }
    assert areas(labels, weights, logits, CLASSES) == pytest.approx(expected, abs=1e-6)
