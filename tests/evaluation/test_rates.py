import numpy as np
import pytest

from toposieve.evaluation import rates

LABELS = np.array([1, 0, 1, 2, 0, 2])
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.1])
HERTZ = np.array([100.0, 2.0, 10.0])


def plain_rate(threshold, weights):
    """Hz at or above a threshold, in plain Python."""
    total = 0.0
    for process, hertz in enumerate(HERTZ):
        own = [(score, w) for score, w, label in zip(SCORES, weights, LABELS, strict=True) if label == process]
        total += hertz * sum(w for score, w in own if score >= threshold) / sum(w for _, w in own)
    return total


def test_a_picobarn_at_the_design_luminosity_twice_over_is_a_fiftieth_of_a_hertz():
    np.testing.assert_allclose(rates.process_rates(np.array([1.0, 50_000.0]), 2e34), [0.02, 1000.0])


def test_processes_count_by_their_own_rate_and_not_by_their_mean():
    passing = np.array([[0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(rates.total_rate(passing, HERTZ), [52.0, 10.0])
    assert np.isnan(rates.total_rate(passing, np.array([np.nan, 2.0, 10.0]))).all()


# By score: 1, 51, 52, 57, 107 and 112 Hz.
@pytest.mark.parametrize(("budget", "threshold"), [(1, 0.9), (51.5, 0.8), (60, 0.6), (112, 0.1), (1000, 0.1)])
def test_the_loosest_threshold_within_a_budget_by_hand(budget, threshold):
    assert rates.budget_threshold(LABELS, np.ones(6), SCORES, HERTZ, budget) == threshold


def test_a_threshold_within_a_budget_goes_by_weights():
    weights = np.array([1.0, 1.0, 3.0, 0.5, 4.0, 1.5])
    chosen = rates.budget_threshold(LABELS, weights, SCORES, HERTZ, 25.0)
    assert plain_rate(chosen, weights) <= 25
    assert plain_rate(SCORES[chosen > SCORES].max(), weights) > 25


def test_a_budget_that_no_threshold_meets_and_an_unknown_rate_give_none():
    assert np.isnan(rates.budget_threshold(LABELS, np.ones(6), SCORES, HERTZ, 0.9))
    assert np.isnan(rates.budget_threshold(LABELS, np.ones(6), SCORES, np.array([np.nan, 2.0, 10.0]), 60))
    assert np.isnan(rates.budget_threshold(LABELS[:0], np.ones(0), SCORES[:0], HERTZ, 60))


def test_events_of_equal_score_pass_together():
    tied = np.array([0.9, 0.7, 0.7, 0.6, 0.4, 0.1])
    assert rates.budget_threshold(LABELS, np.ones(6), tied, HERTZ, 51.5) == 0.9
