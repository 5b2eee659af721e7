"""Sums of weights against exact fractions, and what follows from them by hand."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toposieve.weights import WeightSums, signed_factor

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**24), 2**24).map(float)


def exact(values: list[float]) -> float:
    """Their sum, rounded once."""
    return float(sum(map(Fraction, values)))


@example([2.0**60, 1.0, -(2.0**60)], Random(1))
@given(st.lists(FLOAT32), st.randoms())
def test_sums_are_exact_whatever_signs_and_order(weights: list[float], random: Random) -> None:
    sums = WeightSums.of(weights)
    assert sums.total == exact(weights)
    assert sums.negative == exact([w for w in weights if w < 0])
    assert sums.squares == exact([w * w for w in weights])
    random.shuffle(weights)
    assert WeightSums.of(weights) == sums


@example([[2.0**60], [1.0], [-(2.0**60)]], Random(1))
@given(st.lists(st.lists(WHOLE)), st.randoms())
def test_parts_add_up_to_the_whole_whatever_the_partition(parts: list[list[float]], random: Random) -> None:
    whole = WeightSums.of([weight for part in parts for weight in part])
    random.shuffle(parts)
    assert WeightSums.merge(map(WeightSums.of, parts)) == whole


@given(st.lists(st.lists(FLOAT32)))
def test_parts_of_any_weights_add_up_but_for_their_own_rounding(parts: list[list[float]]) -> None:
    whole = WeightSums.of([weight for part in parts for weight in part])
    merged = WeightSums.merge(map(WeightSums.of, parts))
    assert merged.total == pytest.approx(whole.total, rel=0, abs=2**-52 * whole.absolute)
    assert merged.squares == pytest.approx(whole.squares, rel=2**-52)


def test_forty_per_cent_of_negative_weights_by_hand() -> None:
    sums = WeightSums.of([2.0] * 6 + [-2.0] * 4)
    assert (sums.total, sums.absolute, sums.negative_share) == (4.0, 20.0, 0.4)
    assert sums.effective_events == pytest.approx(0.4)  # 4² / 40: as many as ten unit events times (1 - .8)²
    assert signed_factor(sums.negative_share) == pytest.approx(5)


@pytest.mark.parametrize(
    ("weights", "effective"),
    [([0.3] * 8, 8), ([1.0, 0.0, 0.0], 1), ([1.0, 3.0], 1.6), ([1e-9] * 99 + [1.0], 1), ([], 0)],
)
def test_effective_events_by_hand(weights: list[float], effective: float) -> None:
    assert WeightSums.of(weights).effective_events == pytest.approx(effective, rel=1e-6)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0]])
def test_without_weight_there_is_no_negative_share(weights: list[float]) -> None:
    assert WeightSums.of(weights).negative_share == 0


def test_the_share_of_positive_weights_is_zero_without_a_sign() -> None:
    assert f"{WeightSums.of([1.0, 2.0]).negative_share:.1%}" == "0.0%"


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_weights_that_cancel_have_no_signed_factor(share: float) -> None:
    assert signed_factor(share) == 0
