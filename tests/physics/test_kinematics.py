from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import reference
from toposieve.physics.kinematics import delta_phi, delta_r, massless_four_vector, squared_edge

azimuths = st.floats(-math.pi, math.pi)
etas = st.floats(-5, 5)


@pytest.mark.parametrize(
    ("phi1", "phi2", "expected"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 0.25, 0.75),
        (3.0, -3.0, 6.0 - 2 * math.pi),
        (-3.0, 3.0, 2 * math.pi - 6.0),
        (7.0, 0.0, 7.0 - 2 * math.pi),
        (0.0, 20.0, 6 * math.pi - 20.0),
    ],
)
def test_delta_phi_by_hand(phi1: float, phi2: float, expected: float) -> None:
    assert delta_phi(phi1, phi2) == pytest.approx(expected, abs=1e-12)


@given(azimuths, azimuths, st.integers(-3, 3))
def test_delta_phi_is_wrapped_antisymmetric_and_periodic(phi1: float, phi2: float, turns: int) -> None:
    difference = delta_phi(phi1, phi2)
    assert abs(difference) <= math.pi + 1e-15
    assert delta_phi(phi2, phi1) == -difference
    assert math.cos(difference) == pytest.approx(math.cos(phi1 - phi2), abs=1e-12)
    shifted = delta_phi(phi1 + turns * 2 * math.pi, phi2)
    assert math.remainder(shifted - difference, 2 * math.pi) == pytest.approx(0, abs=1e-12)


def test_delta_r_by_hand() -> None:
    assert delta_r(0.0, 0.0, 3.0, 0.0) == 3.0
    assert delta_r(1.0, 0.5, 4.0, -3.5) == pytest.approx(math.hypot(3, 2 * math.pi - 4))
    assert delta_r(1.0, 0.5, 4.0, 0.9) == pytest.approx(math.hypot(3, 0.4))


@given(etas, azimuths, etas, azimuths)
def test_delta_r_equals_the_reference(eta1: float, phi1: float, eta2: float, phi2: float) -> None:
    expected = reference.delta_r(eta1, phi1, eta2, phi2)
    assert delta_r(eta1, phi1, eta2, phi2) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.floats(1e-6, 10))
def test_squared_edge_is_exact(radius: float) -> None:
    edge = squared_edge(radius)
    assert math.sqrt(edge) >= radius
    assert math.sqrt(math.nextafter(edge, 0)) < radius


def test_massless_four_vector_by_hand() -> None:
    pt, eta, phi = np.array([2.0, 3.0]), np.array([0.0, math.log(2)]), np.array([0.0, math.pi / 2])
    energy, px, py, pz = massless_four_vector(pt, eta, phi)
    # cosh(ln 2) = 5/4, sinh(ln 2) = 3/4
    assert energy == pytest.approx([2.0, 3.75])
    assert px == pytest.approx([2.0, 0.0])
    assert py == pytest.approx([0.0, 3.0])
    assert pz == pytest.approx([0.0, 2.25])


@given(st.floats(0.5, 1000), etas, azimuths, st.floats(0.1, 10))
def test_four_vectors_are_massless_and_scale_with_the_unit(pt: float, eta: float, phi: float, unit: float) -> None:
    vector = np.array(massless_four_vector(*(np.array([value]) for value in (pt, eta, phi))))
    assert math.hypot(*vector[1:, 0]) == pytest.approx(vector[0, 0])
    scaled = massless_four_vector(*(np.array([value]) for value in (pt * unit, eta, phi)))
    assert np.array(scaled) == pytest.approx(vector * unit)
