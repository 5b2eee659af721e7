from itertools import pairwise

import numpy as np
import pytest

from toposieve.evaluation import slices
from toposieve.evaluation.intervals import clopper_pearson

EDGES = (20.0, 30.0, 50.0)


def sample(events=400):
    random = np.random.default_rng(0)
    values = random.uniform(10, 60, events)
    return (
        values,
        random.uniform(size=events) < values / 60,
        random.integers(0, 2, events),
        random.uniform(1, 2, events),
    )


def test_shares_agree_with_plain_python():
    values, passes, labels, weights = sample()
    measured = slices.passing_in_slices(values, EDGES, passes, labels, weights, 2)
    for process in range(2):
        for number, (low, high) in enumerate(pairwise(EDGES)):
            own = [k for k in range(len(values)) if labels[k] == process and low <= values[k] < high]
            total = sum(weights[k] for k in own)
            events = total**2 / sum(weights[k] ** 2 for k in own)
            share = sum(weights[k] for k in own if passes[k]) / total
            assert measured.events[process, number] == pytest.approx(events)
            assert measured.share[process, number] == pytest.approx(share)
            ends = clopper_pearson(events * share, events)
            np.testing.assert_allclose([measured.low[process, number], measured.high[process, number]], ends)


def test_an_edge_belongs_to_the_slice_above_and_what_is_unknown_to_none():
    values = np.array([30.0] * 20 + [np.nan] * 20 + [50.0] * 20)
    measured = slices.passing_in_slices(values, EDGES, values > 0, np.zeros(60, np.int64), np.ones(60), 1)
    np.testing.assert_allclose(measured.events, [[0, 20]])
    np.testing.assert_allclose(measured.share, [[np.nan, 1]])


def test_too_few_events_and_weights_that_cancel_have_no_share():
    values = np.array([25.0] * 9 + [35.0] * 30)
    weights = np.array([1.0] * 9 + [1.0, -1.0] * 15)
    measured = slices.passing_in_slices(values, EDGES, values > 0, np.zeros(39, np.int64), weights, 1)
    np.testing.assert_allclose(measured.events, [[9, 0]])
    for column in (measured.share, measured.low, measured.high):
        assert np.isnan(column).all()
