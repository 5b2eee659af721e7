"""Functions of whole arrays against the C library's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toposieve.physics.elementary import LARGEST_ANGLE, circular, hyperbolic

RANDOM = np.random.default_rng(3)


def both(function: object, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = np.empty(len(x)), np.empty(len(x))
    function(x, *found)  # type: ignore[operator]
    return found


@pytest.mark.parametrize(
    ("largest", "error"), [(1e-9, 1e-15), (1.0, 1e-14), (5.0, 1e-14), (40.0, 1e-13), (175.0, 1e-8)]
)
def test_hyperbolic_functions(largest: float, error: float) -> None:
    x = np.concatenate([[0.0, largest, -largest], RANDOM.uniform(-largest, largest, 1000)])
    cosh, sinh = both(hyperbolic, x)
    np.testing.assert_allclose(cosh, [math.cosh(each) for each in x], rtol=error)
    np.testing.assert_allclose(sinh, [math.sinh(each) for each in x], rtol=error)
    assert np.array_equal(sinh, -both(hyperbolic, -x)[1])


@pytest.mark.parametrize("largest", [1e-9, 1.0, math.pi, 100.0, LARGEST_ANGLE, 1e9])
def test_circular_functions(largest: float) -> None:
    quarters = np.arange(-8, 9) * math.pi / 4  # where one polynomial takes over from the other
    angles = np.concatenate([[0.0, largest, -largest], quarters, RANDOM.uniform(-largest, largest, 1000)])
    cos, sin = both(circular, angles)
    np.testing.assert_allclose(cos, [math.cos(each) for each in angles], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(sin, [math.sin(each) for each in angles], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(cos**2 + sin**2, 1.0, rtol=1e-10)


def test_what_is_no_number_gives_none() -> None:
    for function in (circular, hyperbolic):
        assert all(np.isnan(each).all() for each in both(function, np.array([np.nan])))


def test_no_numbers() -> None:
    for function in (circular, hyperbolic):
        assert [len(each) for each in both(function, np.empty(0))] == [0, 0]
