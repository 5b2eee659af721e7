from math import comb

import numpy as np
import pytest

from toposieve.evaluation import intervals
from toposieve.weights import WeightSums

RESAMPLED = np.linspace(0.1, 0.3, 201)


def chance_of_at_most(passed, events, rate):
    """Cumulative binomial distribution, in plain Python."""
    return sum(comb(events, k) * rate**k * (1 - rate) ** (events - k) for k in range(passed + 1))


@pytest.mark.parametrize(("passed", "events"), [(1, 10), (3, 40), (9, 10)])
def test_the_ends_are_where_as_much_or_more_extreme_a_count_has_16_per_cent(passed, events):
    low, high = intervals.clopper_pearson(passed, events)
    assert 1 - chance_of_at_most(passed - 1, events, low) == pytest.approx(0.16)
    assert chance_of_at_most(passed, events, high) == pytest.approx(0.16)


def test_none_and_all_passing_end_at_0_and_1():
    low, high = intervals.clopper_pearson([0, 10], [10, 10])
    assert low[0] == 0
    assert high[1] == 1
    np.testing.assert_allclose([high[0], low[1]], [1 - 0.16**0.1, 0.16**0.1])


def test_few_events_take_their_effective_counts_and_many_the_resamplings():
    few, many = WeightSums.of([0.5, 1.5] * 50), WeightSums.of([1.0] * 1000)
    events = 100**2 / 125
    assert intervals.rate_interval(0.2, RESAMPLED, few) == pytest.approx(
        [float(end) for end in intervals.clopper_pearson(0.2 * events, events)]
    )
    assert intervals.rate_interval(0.2, RESAMPLED, many) == pytest.approx((0.132, 0.268))
    assert intervals.rate_interval(0.99, RESAMPLED, many) != pytest.approx((0.132, 0.268))  # ten that do not pass


def test_negative_weights_take_the_resamplings_and_have_no_limit_at_nothing():
    signed = WeightSums.of([1.0] * 20 + [-1.0] * 5)
    assert intervals.rate_interval(0.2, RESAMPLED, signed) == pytest.approx((0.132, 0.268))
    for rate in (0.0, -0.1, np.nan):
        assert intervals.rate_interval(rate, RESAMPLED, signed) is None
    assert intervals.upper_limit(0.0, signed) is None


def test_resamplings_without_events_are_left_out():
    many = WeightSums.of([1.0] * 1000)
    with_lost = np.append(RESAMPLED, np.nan)
    assert intervals.rate_interval(0.2, with_lost, many) == intervals.rate_interval(0.2, RESAMPLED, many)


def test_an_upper_limit_is_given_where_nothing_passes():
    sums = WeightSums.of([2.0] * 30)
    assert intervals.upper_limit(0.0, sums) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert intervals.upper_limit(0.01, sums) is None
    assert intervals.upper_limit(0.0, WeightSums()) is None
