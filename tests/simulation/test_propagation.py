import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toposieve.simulation.propagation import FIELD, HALF_LENGTH, RADIUS, helix_end, in_tracker, propagate, straight_end


def particle(charge=0.0, px=0.0, py=0.0, pz=0.0, x=0.0, y=0.0, z=0.0):
    values = {"charge": charge, "px": px, "py": py, "pz": pz, "x": x, "y": y, "z": z}
    return {name: np.array([value], dtype=float) for name, value in values.items()}


def test_a_neutral_particle_flies_straight_to_the_barrel():
    assert straight_end(particle(px=3.0, py=4.0, pz=5.0))[:, 0] == pytest.approx([774.0, 1032.0, 1290.0])


def test_a_forward_neutral_particle_ends_on_the_endcap():
    x, y, z = straight_end(particle(px=1.0, pz=-10.0))[:, 0]
    assert (x, y, z) == pytest.approx((300.0, 0.0, -HALF_LENGTH))


def test_a_displaced_neutral_particle_is_seen_from_the_centre():
    # From (0, 645) along +x it meets the circle of 1290 at 30°.
    eta, phi = propagate(particle(px=1.0, y=RADIUS / 2))
    assert phi[0] == pytest.approx(math.pi / 6)
    assert eta[0] == pytest.approx(0.0, abs=1e-12)


def test_a_charged_particle_is_bent_by_the_known_angle():
    # A chord R from the centre of a circle of radius r turns the direction by asin(R / 2r), clockwise for +.
    pt = 10.0
    radius = pt / (0.299792458e-3 * FIELD)
    bend = math.asin(RADIUS / (2 * radius))
    for charge in (1, -1):
        _, phi = propagate(particle(charge=charge, px=pt))
        assert phi[0] == pytest.approx(-charge * bend)


def test_the_field_is_that_of_cms():
    # 3.8 T; a particle of 10 GeV has a radius of 10 / (0.2998 * 3.8) m = 8.778 m, and R = 1.29 m.
    _, phi = propagate(particle(charge=1, px=10.0))
    assert phi[0] == pytest.approx(-math.asin(1.29 / (2 * 8.778)), rel=1e-4)


def test_a_stiff_track_is_almost_straight():
    slow, fast = (propagate(particle(charge=1, px=pt))[1][0] for pt in (10.0, 1000.0))
    assert slow < -0.05
    assert fast == pytest.approx(slow / 100, rel=0.01)


def test_a_curler_never_reaches_the_barrel():
    # 0.5 GeV bends with r = 439 mm: it stays within 878 mm of the beam, and leaves by the endcap.
    x, y, z = helix_end(particle(charge=-1, px=0.5, pz=0.2))[:, 0]
    radius = 0.5 / (0.299792458e-3 * FIELD)
    assert z == pytest.approx(HALF_LENGTH)
    assert math.hypot(x, y) <= 2 * radius
    turn = HALF_LENGTH / 0.4 / radius  # path over radius
    assert (x, y) == pytest.approx((radius * math.sin(turn), radius * (1 - math.cos(turn))))


momenta = st.floats(-50, 50).filter(lambda p: abs(p) > 0.05)
starts = st.floats(-200, 200)


@given(st.sampled_from([-1, 0, 1]), momenta, momenta, st.floats(-300, 300), starts, starts, starts)
def test_every_particle_ends_on_the_cylinder(charge, px, py, pz, x, y, z):
    one = particle(charge, px, py, pz, x, y, z)
    end = (helix_end if charge else straight_end)(one)[:, 0]
    radius = math.hypot(end[0], end[1])
    on_barrel = radius == pytest.approx(RADIUS, rel=1e-6) and abs(end[2]) <= HALF_LENGTH * (1 + 1e-9)
    on_endcap = abs(end[2]) == pytest.approx(HALF_LENGTH) and radius <= RADIUS * (1 + 1e-6)
    assert on_barrel or on_endcap


@given(st.sampled_from([-1, 1]), momenta, momenta, st.floats(-5, 5), st.floats(-3, 3))
def test_rotating_a_particle_rotates_its_end(charge, px, py, pz, angle):
    c, s = math.cos(angle), math.sin(angle)
    eta, phi = propagate(particle(charge, px, py, pz))
    eta_turned, phi_turned = propagate(particle(charge, c * px - s * py, s * px + c * py, pz))
    assert eta_turned[0] == pytest.approx(eta[0], abs=1e-6)
    assert math.cos(phi_turned[0] - phi[0] - angle) == pytest.approx(1, abs=1e-9)


def test_what_starts_outside_or_stays_in_the_beam_pipe_is_not_tracked():
    particles = {
        "px": np.array([1.0, 1.0, 1.0, 1e-4]),
        "py": np.zeros(4),
        "x": np.array([0.0, 1300.0, 0.0, 0.0]),
        "y": np.zeros(4),
        "z": np.array([0.0, 0.0, -3001.0, 0.0]),
    }
    assert in_tracker(particles).tolist() == [True, False, False, False]
