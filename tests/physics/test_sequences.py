"""Expanding, scaling and ordering in one pass against doing one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from support.selected_files import random_unit
from toposieve import schema
from toposieve.io.selected import PARTICLE_RECORD
from toposieve.physics.features import low_level_features
from toposieve.physics.sequences import scaled_features

UNIT = random_unit("qcd/d/a.root", 50, seed=1)
PARTICLES = len(UNIT.particles["Pt"])
WIDTH = len(schema.LOW_LEVEL_FEATURES)
NO_OFFSET, NO_SCALE = np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)


def records(**changed: float) -> np.ndarray:
    found = np.empty(PARTICLES, PARTICLE_RECORD)
    for name, values in UNIT.particles.items():
        found[name] = values
        found[name][0] = changed.get(name, values[0])
    return found


def expected(particles: np.ndarray) -> np.ndarray:
    return low_level_features({name: np.ascontiguousarray(particles[name]) for name in particles.dtype.names or ()})


def test_unscaled_features_are_the_same_to_a_neighbouring_number() -> None:
    found = scaled_features(records(), np.arange(PARTICLES), NO_OFFSET, NO_SCALE)
    np.testing.assert_array_max_ulp(found, expected(records()), maxulp=1)


@pytest.mark.parametrize("eta", [0.0, 1e-12, -1e-7, -3.0, 5.0, 40.0])
def test_rapidities_of_any_size(eta: float) -> None:
    found = scaled_features(records(Eta=eta), np.arange(1), NO_OFFSET, NO_SCALE)
    np.testing.assert_array_max_ulp(found, expected(records(Eta=eta))[:1], maxulp=1)


def test_order_and_scale_are_applied() -> None:
    random = np.random.default_rng(2)
    scaled = np.array([name not in schema.UNSCALED_FEATURES for name in schema.LOW_LEVEL_FEATURES])
    offset = np.where(scaled, random.normal(size=WIDTH), 0).astype(np.float32)
    scale = np.where(scaled, random.uniform(1, 2, WIDTH), 1).astype(np.float32)
    order = random.permutation(PARTICLES)
    found = scaled_features(records(), order, offset, scale)
    wanted = (expected(records()) - offset) / scale
    np.testing.assert_allclose(found, wanted[order], rtol=1e-6, atol=1e-6)
    assert np.array_equal(found[:, ~scaled], wanted[order][:, ~scaled])


def test_no_particles() -> None:
    assert scaled_features(records(), np.arange(0), NO_OFFSET, NO_SCALE).shape == (0, WIDTH)
