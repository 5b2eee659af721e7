"""Weighted moments against plain Python."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toposieve.physics.moments import Moments

RANDOM = np.random.default_rng(1)
VALUES = RANDOM.normal(1, 3, (60, 5)).astype(np.float32)
WEIGHTS = RANDOM.gamma(2, 1, 60).astype(np.float32)
COLUMNS = 3


def check_same(found: Moments, expected: Moments) -> None:
    for name, value in vars(expected).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name


def merged(bounds: list[int], weights: NDArray[np.float32] = WEIGHTS) -> Moments:
    parts = Moments.empty(COLUMNS)
    for start, stop in pairwise(bounds):
        parts = parts.merge(Moments.of(VALUES[start:stop], weights[start:stop], COLUMNS))
    return parts


@pytest.mark.parametrize("column", range(COLUMNS))
def test_mean_and_squares_are_weighted(column: int) -> None:
    found = Moments.of(VALUES, WEIGHTS, COLUMNS)
    pairs = list(zip(WEIGHTS.tolist(), VALUES[:, column].tolist(), strict=True))
    total = math.fsum(w for w, _ in pairs)
    mean = math.fsum(w * x for w, x in pairs) / total
    assert found.weight == pytest.approx(total)
    assert found.mean[column] == pytest.approx(mean)
    assert found.squares[column] == pytest.approx(math.fsum(w * (x - mean) ** 2 for w, x in pairs))
    assert len(found.mean) == COLUMNS


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), max_size=5))
def test_merged_parts_equal_the_whole(cuts: list[int]) -> None:
    check_same(merged([0, *sorted(cuts), 60]), Moments.of(VALUES, WEIGHTS, COLUMNS))


def test_negative_weights_count_by_their_size() -> None:
    """Of the first part, whose weights add up to 0, only the signs are left out."""
    weights = np.where(np.arange(60) == 0, WEIGHTS[1], WEIGHTS)
    signed = np.where(np.arange(60) % 5 % 2 == 1, -weights, weights)
    assert signed[0] + signed[1] == 0
    check_same(merged([0, 2, 60], signed), Moments.of(VALUES, weights, COLUMNS))


def test_merging_is_stable_far_from_zero() -> None:
    """Sums of squares lose a spread of 1 at a mean of 1e8; merged deviations do not."""
    parts = [np.array([[1e8 + x] for x in pair]) for pair in ((0.0, 2.0), (4.0, 6.0))]
    first, second = (Moments.of(part, np.ones(2), 1) for part in parts)
    whole = first.merge(second)
    assert whole.squares[0] / whole.weight == pytest.approx(statistics.pvariance([0, 2, 4, 6]))


def test_reweighted_values_have_the_same_mean() -> None:
    check_same(Moments.of(VALUES, WEIGHTS, COLUMNS).reweighted(4.0), Moments.of(VALUES, 4 * WEIGHTS, COLUMNS))


def test_no_weight_is_no_error() -> None:
    nothing = Moments.of(VALUES, 0 * WEIGHTS, COLUMNS)
    check_same(nothing.merge(Moments.of(VALUES, WEIGHTS, COLUMNS)), Moments.of(VALUES, WEIGHTS, COLUMNS))
