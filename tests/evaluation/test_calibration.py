import math

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from toposieve.evaluation import calibration


def sample(events=4000, sharpness=1.0, seed=0):
    """Labels that follow the probabilities, and the logits of those, sharpened."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(events, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (random.uniform(size=(events, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    return sharpness * logits, labels, random.uniform(0.5, 1.5, events)


def plain(logits, labels, weights):
    """Expected calibration error, Brier score and cross-entropy, event by event."""
    bins = {}
    brier = loss = 0.0
    for row, label, weight in zip(logits, labels, weights, strict=True):
        exponents = [math.exp(value) for value in row]
        probabilities = [value / sum(exponents) for value in exponents]
        highest = max(probabilities)
        place = bins.setdefault(min(int(highest * 15), 14), [0.0, 0.0, 0.0])
        for key, value in enumerate((1.0, highest, float(probabilities.index(highest) == label))):
            place[key] += weight * value
        brier += weight * sum((p - (k == label)) ** 2 for k, p in enumerate(probabilities))
        loss -= weight * math.log(probabilities[label])
    total = sum(weights)
    return sum(abs(right - sure) for _, sure, right in bins.values()) / total, brier / total, loss / total


def test_errors_and_scores_agree_with_plain_python():
    events = sample(300, sharpness=2.0)
    measured = calibration.calibrate(*events)
    assert (measured.expected_error, measured.brier, measured.loss) == pytest.approx(plain(*events))
    assert measured.share.sum() == pytest.approx(1)
    highest = np.exp(log_softmax(events[0], axis=1)).max(axis=1)
    last = events[2][highest >= 14 / 15]
    assert measured.events[-1] == pytest.approx(last.sum() ** 2 / (last**2).sum())


def test_cross_entropy_agrees_with_sklearn():
    logits, labels, weights = sample(500)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = log_loss(labels, probabilities, sample_weight=weights)
    assert calibration.calibrate(logits, labels, weights).loss == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_sharpening(temperature):
    fitted = calibration.fit_temperature(*sample(sharpness=temperature))
    assert fitted == pytest.approx(temperature, rel=0.06)


def test_a_fitted_temperature_mends_other_events():
    temperature = calibration.fit_temperature(*sample(sharpness=3.0))
    logits, labels, weights = sample(sharpness=3.0, seed=1)
    before = calibration.calibrate(logits, labels, weights)
    after = calibration.calibrate(logits / temperature, labels, weights)
    assert after.expected_error < before.expected_error / 3
    assert after.brier < before.brier
    assert after.loss < before.loss


def test_without_weight_nothing_is_defined():
    logits, labels, _ = sample(4)
    for weights in (np.zeros(4), -np.ones(4)):
        measured = calibration.calibrate(logits, labels, weights)
        assert np.isnan([measured.expected_error, measured.brier, measured.loss]).all()
        assert np.isnan(calibration.fit_temperature(logits, labels, weights))


def test_a_summary_has_the_figures_before_and_after():
    logits, labels, weights = sample(500, sharpness=3.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    summary = calibration.summarise(probabilities, labels, weights, 3.0)
    assert summary["temperature"] == 3
    before, after = (calibration.calibrate(values, labels, weights) for values in (logits, logits / 3))
    assert summary["as_trained"]["brier"] == pytest.approx(before.brier, rel=1e-3)  # logits have a floor
    assert summary["with_temperature"]["brier"] == pytest.approx(after.brier, rel=1e-3)
    assert None in summary["as_trained"]["accuracy"]  # none is below a third


def test_without_a_temperature_nothing_is_said_with_it():
    logits, labels, weights = sample(50)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    summary = calibration.summarise(probabilities, labels, weights, float("nan"))
    assert summary["temperature"] is None
    assert summary["as_trained"]["brier"] > 0
    after = summary["with_temperature"]
    assert [after[name] for name in ("expected_error", "brier", "loss")] == [None] * 3
    assert set(after["accuracy"]) == {None}
    assert summary["as_trained"].keys() == after.keys()
