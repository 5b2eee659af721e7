import math

import numpy as np
import pytest

from toposieve.simulation.kinematics import delta_phi, eta_of, smear_lognormal


def test_eta_of_known_directions():
    # tan(θ/2) = e^-η: θ = 90° is η = 0, θ = 45° is η = -ln tan 22.5° = 0.8814.
    eta = eta_of(np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 2.0]), np.array([0.0, 1.0, -2.0]))
    assert eta == pytest.approx([0.0, 0.881374, -0.881374], abs=1e-6)


def test_eta_along_the_beam_is_finite():
    zero = np.zeros(3)
    assert eta_of(zero, zero, np.array([5.0, -5.0, 0.0])).tolist() == [20.0, -20.0, 0.0]


def test_delta_phi_is_wrapped_at_pi():
    assert delta_phi(np.array([3.1, -3.1, 0.5]), np.array([-3.1, 3.1, 0.2])) == pytest.approx(
        [6.2 - 2 * math.pi, 2 * math.pi - 6.2, 0.3]
    )


def test_smearing_keeps_the_mean_and_has_the_width():
    n = 200_000
    smeared = smear_lognormal(np.full(n, 40.0), np.full(n, 8.0), np.random.default_rng(1))
    assert smeared.mean() == pytest.approx(40.0, abs=5 * 8 / math.sqrt(n))
    assert smeared.std() == pytest.approx(8.0, rel=0.02)
    assert smeared.min() > 0


def test_smearing_leaves_zero_at_zero_and_no_width_alone():
    smeared = smear_lognormal(np.array([0.0, 7.0]), np.array([3.0, 0.0]), np.random.default_rng(1))
    assert smeared == pytest.approx([0.0, 7.0])
