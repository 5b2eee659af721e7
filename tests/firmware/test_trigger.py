"""What passes, counted by hand."""

import numpy as np
import pytest

from toposieve.firmware import trigger
from toposieve.firmware.trigger import LUMINOSITY, Judged, working_points

CLASSES = ("qcd", "ttbar")
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0])
WEIGHTS = np.array([1.0, 1, 1, 1, 1, 1, 1, 3])
ALONE = np.array([9.0, 8, 7, 6, 5, 4, 3, 2])
"""Each ttbar above each qcd."""
MIXED = np.array([9.0, 8, 7, 1, 6, 5, 4, 0])
"""One ttbar, the last, below three qcd."""


def judged(**of_ttbar: np.ndarray) -> Judged:
    logits = {name: np.stack([np.zeros(8), each], axis=1) for name, each in of_ttbar.items()}
    return Judged(LABELS, WEIGHTS, logits)


def test_each_is_cut_at_its_own_threshold_and_what_passes_is_counted_by_weight(monkeypatch):
    monkeypatch.setattr(trigger, "TARGETS", (0.75, 1.0))
    events = judged(network=ALONE, firmware=MIXED)
    found = working_points(events, events, CLASSES, {"qcd": (300.0, 1.0), "ttbar": (50.0, 1.0)})
    loose, tight = found["ttbar"][1], found["ttbar"][0]
    assert (tight["target"], loose["target"]) == (0.75, 1.0)
    pb = 1e-36 * LUMINOSITY
    assert tight["network"] == tight["firmware"]
    assert tight["firmware"] == pytest.approx(
        {"true_positive_rate": 0.75, "false_positive_rate": 0.0, "hertz": 0.75 * 50 * pb}
    )
    assert loose["network"] == pytest.approx({"true_positive_rate": 1, "false_positive_rate": 0, "hertz": 50 * pb})
    assert loose["firmware"] == pytest.approx(
        {"true_positive_rate": 1.0, "false_positive_rate": 0.5, "hertz": (50 + 300 / 2) * pb}
    )


def test_thresholds_are_those_of_validation(monkeypatch):
    monkeypatch.setattr(trigger, "TARGETS", (1.0,))
    known = {"qcd": (1.0, 0.0), "ttbar": (1.0, 0.0)}
    found = working_points(judged(firmware=ALONE), judged(firmware=MIXED), CLASSES, known)
    [point] = found["ttbar"]
    assert point["firmware"]["true_positive_rate"] == 0.75
    assert point["firmware"]["false_positive_rate"] == pytest.approx(1 / 6)


def test_without_a_cross_section_there_is_no_rate():
    events = judged(network=ALONE)
    found = working_points(events, events, CLASSES, {"qcd": None, "ttbar": (50.0, 1.0)})
    assert all(point["network"]["hertz"] is None for points in found.values() for point in points)
    assert found["ttbar"][0]["network"]["true_positive_rate"] == 1.0
