"""Kernels of the scorer against numpy's own, on every kind of float that there is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.physics.scoring import accepted_of, particles_are_right

ODD_BUT_FINITE = np.finfo(np.float32).max, -np.finfo(np.float32).max, np.float32(1e-45), np.float32(-0.0)
LAST_KIND = len(schema.PARTICLE_KINDS) - 1


def make_particles(count: int = 7) -> np.ndarray:
    rng, particles = np.random.default_rng(count), np.zeros(count, PARTICLE_RECORD)
    for name in schema.STORED_PARTICLE_FEATURES:
        particles[name] = rng.normal(0, 1e3, count)
    particles["kind"], particles["Charge"] = rng.integers(0, LAST_KIND + 1, count), rng.integers(-1, 2, count)
    return particles


def are_right(particles: np.ndarray) -> bool:
    return particles_are_right(particles.view(np.uint8).reshape(len(particles), -1))


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("name", schema.STORED_PARTICLE_FEATURES)
def test_a_float_that_is_not_finite_is_seen_wherever_it_is(name: str, place: int) -> None:
    particles = make_particles()
    for value in ODD_BUT_FINITE:
        particles[name][place] = value
        assert are_right(particles)
    for value in (np.nan, np.inf, -np.inf, np.frombuffer(b"\x01\x00\x80\xff", np.float32)[0]):
        particles[name][place] = value
        assert not are_right(particles)


@pytest.mark.parametrize("charge", [-1, 0, 1])
def test_kinds_are_told_from_charges(charge: int) -> None:
    particles = make_particles()
    particles["Charge"] = charge
    for kind in range(-3, LAST_KIND + 4):
        particles["kind"][2] = kind
        assert are_right(particles) == (0 <= kind <= LAST_KIND)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_accepted_is_where_the_softmax_reaches_the_threshold(classes: int) -> None:
    rng = np.random.default_rng(classes)
    logits = rng.normal(0, 4, (5000, classes)).astype(np.float32)
    logits[:3] = [[1e38] * classes, [-1e38] * classes, [1e38, *[-1e38] * (classes - 1)]]
    thresholds = np.array([0.1, np.inf, 0.7, 0.0])[:classes]
    expected = softmax(logits.astype(np.float64), axis=1) >= thresholds
    found = accepted_of(logits, thresholds)
    np.testing.assert_array_equal(found, expected)
    assert 0 < expected[:, 0].sum() < 5000
    assert not expected[:, 1].any()
    for event in range(40):
        np.testing.assert_array_equal(accepted_of(logits[event : event + 1], thresholds)[0], found[event])
    np.testing.assert_array_equal(accepted_of(logits[:, ::-1].copy(), thresholds[::-1].copy()), found[:, ::-1])


def test_nothing_is_accepted_by_logits_that_are_not_finite() -> None:
    logits = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [np.inf, np.inf, -np.inf]], np.float32)
    assert not accepted_of(logits, np.full(3, 1e-9)).any()
