from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.events import PI, above, below, f32, make_event, random_events, to_events, tower, track
from support.reference import delta_r
from toposieve.physics.events import objects
from toposieve.physics.isolation import (
    NONE_OWN,
    SPECIES,
    Kept,
    cone_sums,
    isolation_sums,
    keep_objects,
    lepton_cone_sum,
)
from toposieve.physics.kinematics import squared_edge

EDGE = squared_edge(0.3)


def kept(*rows: tuple[float, float, float]) -> Kept:
    pt, eta, phi = (np.array([row[i] for row in rows], np.float64) for i in range(3))
    return Kept(pt, eta, phi, np.arange(len(rows)))


def sums_by_pairs(particles: Kept, others: Kept, cone: float, *, same: bool) -> list[float]:
    """The same by the definition: every pair once."""
    return [
        sum(
            others.pt[j]
            for j in range(len(others.pt))
            if not (same and i == j)
            and delta_r(others.eta[j], others.phi[j], particles.eta[i], particles.phi[i]) < cone
        )
        for i in range(len(particles.pt))
    ]


def test_cone_sums_by_hand() -> None:
    pts = (np.array([1.0, 0, 0, 8.0]), np.array([0, 2.0, 0, 0]), np.array([0, 0, 4.0, 0]))
    etas = np.array([0.0, 0.25, 0.25, -0.1])
    phis = np.array([3.1, 3.1, 2.9, -3.1])
    # ΔR from (0, 3.1): 0, .25, √(.0625 + .04) = .32, √(.01 + .083²) = .13
    assert cone_sums(0.0, 3.1, pts, etas, phis, EDGE) == (9.0, 2.0, 0.0)


def test_cone_is_strict_to_the_last_bit() -> None:
    pts, phis = (np.ones(1), np.zeros(1), np.ones(1)), np.zeros(1)
    assert cone_sums(0.0, 0.0, pts, np.array([0.3]), phis, EDGE) == (0.0, 0.0, 0.0)
    assert cone_sums(0.0, 0.0, pts, np.array([math.nextafter(0.3, 0)]), phis, EDGE) == (1.0, 0.0, 1.0)
    assert cone_sums(0.0, 0.0, pts, np.array([0.5]), phis, 0.25) == (0.0, 0.0, 0.0)


@given(st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_cone_sums_are_the_same_in_any_order(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second, third = (0.5 + rng.exponential(20, (3, n))).astype(np.float32).astype(np.float64)
    etas, phis = rng.uniform(-0.4, 0.4, n), rng.uniform(-0.4, 0.4, n)
    order = rng.permutation(n)
    total = cone_sums(0.0, 0.0, (first, second, third), etas, phis, EDGE)
    permuted = (first[order], second[order], third[order])
    assert cone_sums(0.0, 0.0, permuted, etas[order], phis[order], EDGE) == total


def test_lepton_cone_sum_leaves_out_own_and_low_pt_tracks() -> None:
    event = make_event(
        tracks=[
            track(1, 0, 0),  # own
            track(2, f32(1e-4), 0),  # own, at the edge
            track(4, above(f32(1e-4)), 0),
            track(0.5, 0.1, 0),  # not kept
            track(8, 0.1, 0.1),
            track(16, f32(0.3), 0),  # f32(0.3) > 0.3
            track(32, below(f32(0.3)), 0),
        ]
    )
    tracks = objects(to_events([make_event(tracks=[track(64, 0.1, 0)]), event]), "EFlowTrack")
    assert lepton_cone_sum(1, 0.0, 0.0, tracks, 0.5, 0.3, 1e-4) == 4 + 8 + 32
    assert lepton_cone_sum(1, 0.0, 0.0, tracks, 0.5, 0.3, NONE_OWN) == 1 + 2 + 4 + 8 + 32


def test_lepton_cone_edges() -> None:
    tracks = [track(1, 0.25, 0), track(2, above(0.25), 0), track(4, below(0.5), 0), track(8, 0.5, 0)]
    arrays = objects(to_events([make_event(tracks=tracks)]), "EFlowTrack")
    assert lepton_cone_sum(0, 0.0, 0.0, arrays, 0.5, 0.5, 0.25) == 2 + 4


def test_lepton_cone_is_measured_in_double_precision() -> None:
    eta, phi = f32(0.180000022), f32(0.23999998)
    arrays = objects(to_events([make_event(tracks=[track(1, eta, phi)])]), "EFlowTrack")
    single = np.sqrt(np.float32(eta) ** 2 + np.float32(phi) ** 2)
    assert math.hypot(eta, phi) < 0.3 < float(single)
    assert lepton_cone_sum(0, 0.0, 0.0, arrays, 0.5, 0.3, NONE_OWN) == 1


def test_keep_objects_is_strict_and_in_file_order() -> None:
    event = make_event(photons=[tower(9, 1, 2), tower(1, 2, 3), tower(above(1), -1, PI), tower(3, 0, -PI)])
    kept = keep_objects(1, objects(to_events([event, event]), "EFlowPhoton"), 1.0)
    assert kept.origin.tolist() == [4, 6, 7]
    assert kept.pt.tolist() == [9, above(1), 3]
    assert kept.eta.tolist() == [1, -1, 0]
    assert np.abs(kept.phi).max() <= math.pi


def test_keep_objects_brings_any_azimuth_into_range() -> None:
    event = make_event(photons=[tower(9, 1, 6.0), tower(9, 1, -8.0)])
    kept = keep_objects(0, objects(to_events([event]), "EFlowPhoton"), 1.0)
    assert kept.phi.tolist() == pytest.approx([6 - 2 * math.pi, -8 + 2 * math.pi])


def test_isolation_sums_by_hand() -> None:
    tracks = kept((1, 0, 3.1), (2, 0, -3.1), (4, 1, 0))
    photons = kept((8, 0.1, 3.1), (16, 1.2, 0.1))
    sums = isolation_sums((tracks, photons, kept()), 0.3, EDGE)
    assert sums[0].tolist() == [[2, 1, 0], [8, 8, 16], [0, 0, 0]]
    assert sums[1].tolist() == [[3, 4], [0, 0], [0, 0]]
    assert sums[2].shape == (3, 0)


def test_a_particle_counts_its_twin_but_not_itself() -> None:
    twins = kept((3, 0.5, 1), (3, 0.5, 1))
    assert isolation_sums((twins, twins, kept()), 0.3, EDGE)[0].tolist() == [[3, 3], [6, 6], [0, 0]]


@pytest.mark.parametrize("cone", [0.01, 0.3, 0.75, 4.0])
def test_isolation_sums_equal_the_sums_over_all_pairs(cone: float) -> None:
    # A cone of 4 makes strips so wide that the outermost hold nothing; one of .01 leaves them as wide as they are.
    events = to_events(random_events(seed=11, n=3, particles=150))
    for event in range(3):
        species = tuple(keep_objects(event, objects(events, name), 0.5) for name in SPECIES)
        sums = isolation_sums(species, cone, squared_edge(cone))
        for i, particles in enumerate(species):
            for j, others in enumerate(species):
                assert sums[i][j].tolist() == sums_by_pairs(particles, others, cone, same=i == j)


@pytest.mark.parametrize("cone", [0.3, 0.75])
def test_neighbours_at_the_cones_edge_lie_in_neighbouring_strips(cone: float) -> None:
    # Strips a little narrower than the cone would begin at 0 and .999 cones: two strips away from each other.
    pair = kept((1, -1e-5, 0), (2, 0.9995 * cone, 0))
    assert isolation_sums((pair, kept(), kept()), cone, squared_edge(cone))[0][0].tolist() == [2, 1]


def test_isolation_beyond_the_calorimeters() -> None:
    far = kept((1, 7.0, 0), (2, 7.2, 0), (4, 999.9, 0), (8, 999.9, 0.1), (16, -1e30, 0))
    assert isolation_sums((far, kept(), kept()), 0.3, EDGE)[0][0].tolist() == [2, 1, 8, 4, 0]


def test_a_bad_direction_stays_a_bad_number() -> None:
    bad = kept((1, math.nan, 0), (2, math.inf, 0), (4, 0, 0))
    assert isolation_sums((bad, kept(), kept()), 0.3, EDGE)[0][0].tolist() == [0, 0, 0]
