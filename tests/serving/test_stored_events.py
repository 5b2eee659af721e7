"""Events of a dataset, put back into the numbers that they were scaled from."""

import numpy as np
import pytest

from toposieve.preprocessing import Scaling
from toposieve.serving import stored_events

EVENTS = 20_000


@pytest.fixture(scope="module")
def features():
    """Of every kind: with a tail, angles, counts, small ones."""
    random = np.random.default_rng(2)
    columns = [random.exponential(100, (EVENTS, 4)), random.uniform(-np.pi, np.pi, (EVENTS, 4))]
    columns += [random.integers(0, 12, (EVENTS, 3)), random.normal(0, 1e-3, (EVENTS, 3))]
    return np.concatenate(columns, axis=1).astype(np.float32)


def test_features_are_the_same_bits_once_they_are_scaled_again(features):
    low, high = features[: EVENTS // 2].min(axis=0), features[: EVENTS // 2].max(axis=0)
    scaling = Scaling(low, high - low, np.zeros(19, np.float32), np.ones(19, np.float32), {})
    scaled = scaling.apply_high_level(features)
    rounded = scaling.physical_high_level(scaled)
    assert (scaling.apply_high_level(rounded) != scaled).any()
    found = stored_events._exactly_physical(scaled, scaling)
    np.testing.assert_array_equal(scaling.apply_high_level(found), scaled)
    np.testing.assert_allclose(found, features, rtol=1e-5, atol=1e-4)


def test_what_no_feature_is_scaled_to_comes_close():
    scaling = Scaling(*(np.full(14, each, np.float32) for each in (1e3, 1e-3)), np.zeros(19), np.ones(19), {})
    found = stored_events._exactly_physical(np.full((2, 14), 0.3, np.float32), scaling)
    np.testing.assert_allclose(found, 1e3, rtol=1e-6)
