"""Counts, statistics and scaling against plain Python."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from toposieve import schema
from toposieve.config import PreparationConfig
from toposieve.errors import InvalidInputError
from toposieve.physics.moments import Moments
from toposieve.preprocessing import (
    SCALED_FEATURES,
    Scaling,
    class_sizes,
    shard_stops,
    split_sizes,
    split_stops,
    weight_factors,
)

EQUAL_WEIGHTS = dict.fromkeys(schema.SAMPLES, 1.0)
LOW = {name: i for i, name in enumerate(schema.LOW_LEVEL_FEATURES)}
HIGH = {name: i for i, name in enumerate(schema.HIGH_LEVEL_FEATURES)}


class Events:
    """Random events of one class."""

    def __init__(self, count: int, seed: int, shift: float = 0.0) -> None:
        random = np.random.default_rng(seed)
        self.lengths: NDArray[np.int64] = random.integers(1, 6, count)
        self.high_level = random.normal(shift, 2, (count, len(HIGH))).astype(np.float32)
        self.particles = random.normal(shift, 3, (int(self.lengths.sum()), len(LOW))).astype(np.float32)
        self.weights = random.gamma(2, 1, count).astype(np.float32)

    def moments(self, chosen: slice) -> Moments:
        of_event = np.repeat(np.arange(len(self.lengths)), self.lengths)
        particles = np.isin(of_event, np.arange(len(self.lengths))[chosen])
        return Moments.of(self.particles[particles], self.weights[of_event][particles], len(SCALED_FEATURES))

    def fit(self, *parts: slice, factors: dict[str, float] | None = None) -> Scaling:
        """Scaling that is fitted to some of the events, in parts; to all by default."""
        parts = parts or (slice(None),)
        high_level = np.concatenate([self.high_level[part] for part in parts])
        moments = [("qcd", self.moments(part)) for part in parts]
        return Scaling.fit(high_level.min(axis=0), high_level.max(axis=0), moments, factors or EQUAL_WEIGHTS)


# --- counts ------------------------------------------------------------------------------------------------------


def test_balance_takes_the_smallest_class() -> None:
    assert set(class_sizes({"qcd": 50, "ttbar": 90, "wjets": 70}, PreparationConfig()).values()) == {50}


def test_without_balance_every_event_stays() -> None:
    available = {"qcd": 50, "ttbar": 90, "wjets": 70}
    assert class_sizes(available, PreparationConfig(balance=False)) == available


@pytest.mark.parametrize(("balance", "expected"), [(True, [40, 40, 40]), (False, [40, 60, 60])])
def test_at_most_max_events_per_class(balance: bool, expected: list[int]) -> None:
    config = PreparationConfig(balance=balance, max_events_per_class=60)
    assert list(class_sizes({"qcd": 40, "ttbar": 90, "wjets": 70}, config).values()) == expected


@pytest.mark.parametrize("available", [{"qcd": 5, "wjets": 5}, {"qcd": 5, "ttbar": 0, "wjets": 5}])
def test_a_missing_class_is_refused(available: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="no selected events of ttbar"):
        class_sizes(available, PreparationConfig())


@given(st.integers(0, 10**9))
def test_split_fractions_are_exact_to_half_an_event(events: int) -> None:
    train, validation, test = split_stops(events, PreparationConfig())
    assert abs(train - 0.64 * events) <= 0.5
    assert abs(validation - 0.80 * events) <= 0.5
    assert test == events


def test_split_sizes_of_each_class() -> None:
    sizes = split_sizes({"qcd": 100, "ttbar": 200, "wjets": 50}, PreparationConfig(balance=False))
    assert sizes == {
        "train": {"qcd": 64, "ttbar": 128, "wjets": 32},
        "validation": {"qcd": 16, "ttbar": 32, "wjets": 8},
        "test": {"qcd": 20, "ttbar": 40, "wjets": 10},
    }


def test_the_test_set_is_not_the_validation_set() -> None:
    """Published: .8 / .2, the test set doubles as validation. Here: three splits, .64 / .16 / .20."""
    published = {"train": 80, "validation": 20, "test": 20}
    ours = {
        split: counts["qcd"]
        for split, counts in split_sizes(dict.fromkeys(schema.SAMPLES, 100), PreparationConfig()).items()
    }
    assert ours == {"train": 64, "validation": 16, "test": 20}
    assert sum(ours.values()) == 100
    assert sum(published.values()) == 120  # events used twice


def test_a_split_without_a_class_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nothing would be left for test/qcd"):
        split_sizes({"qcd": 2, "ttbar": 100, "wjets": 100}, PreparationConfig(balance=False))


@settings(deadline=None)
@given(st.integers(1, 10**4), st.integers(1, 10**4))
def test_shards_are_few_and_equal(events: int, events_per_shard: int) -> None:
    stops = shard_stops(events, PreparationConfig(events_per_shard=events_per_shard))
    sizes = np.diff([0, *stops])
    assert stops[-1] == events
    assert sizes.min() >= 1
    assert sizes.max() <= min(events_per_shard, sizes.min() + 1)
    assert (len(stops) - 1) * events_per_shard < events  # one shard less would not do


# --- scaling -----------------------------------------------------------------------------------------------------


def test_scaled_particles_have_mean_zero_and_deviation_one() -> None:
    events = Events(300, seed=4, shift=5)
    scaled = events.fit().apply_particles(events.particles)
    weights = np.repeat(events.weights, events.lengths)
    for name in SCALED_FEATURES:
        mean = np.average(scaled[:, LOW[name]], weights=weights)
        assert mean == pytest.approx(0, abs=1e-5), name
        assert np.average((scaled[:, LOW[name]] - mean) ** 2, weights=weights) == pytest.approx(1, rel=1e-5), name


def test_flags_and_charge_are_left_alone() -> None:
    events = Events(30, seed=5, shift=5)
    scaled = events.fit().apply_particles(events.particles)
    unscaled = [LOW[name] for name in schema.UNSCALED_FEATURES]
    np.testing.assert_array_equal(scaled[:, unscaled], events.particles[:, unscaled])


def test_scaled_high_level_features_fill_zero_to_one() -> None:
    events = Events(100, seed=6, shift=-3)
    scaled = events.fit().apply_high_level(events.high_level)
    np.testing.assert_allclose(scaled.min(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.max(axis=0), 1, atol=1e-6)


def test_a_feature_without_spread_keeps_scale_one() -> None:
    events = Events(100, seed=7)
    events.high_level[:, HIGH["nJets"]] = 4
    events.particles[:, LOW["vtxX"]] = 0.1  # its float64 mean is not exactly 0.1
    scaling = events.fit(slice(0, 60), slice(60, None))
    assert scaling.high_level_scale[HIGH["nJets"]] == 1
    assert scaling.particle_scale[LOW["vtxX"]] == 1
    assert np.all(scaling.apply_high_level(events.high_level)[:, HIGH["nJets"]] == 0)
    np.testing.assert_allclose(scaling.apply_particles(events.particles)[:, LOW["vtxX"]], 0, atol=1e-7)


def test_classes_enter_with_normalised_weights() -> None:
    heavy, light = Events(50, seed=8, shift=10), Events(50, seed=9)
    heavy.weights *= 1000
    totals = {"qcd": (50, float(heavy.weights.sum())), "ttbar": (50, float(light.weights.sum())), "wjets": (1, 1.0)}
    parts = [("qcd", heavy.moments(slice(None))), ("ttbar", light.moments(slice(None)))]
    low, high = heavy.high_level.min(axis=0), heavy.high_level.max(axis=0)
    normalised = Scaling.fit(low, high, parts, weight_factors(totals)).particle_offset[LOW["Pt"]]
    raw = Scaling.fit(low, high, parts, EQUAL_WEIGHTS).particle_offset[LOW["Pt"]]
    assert normalised == pytest.approx(5, abs=1)
    assert raw == pytest.approx(10, abs=1)


def test_weights_have_mean_one_in_each_class() -> None:
    events = Events(500, seed=10)
    factors = weight_factors({**dict.fromkeys(schema.SAMPLES, (1, 1.0)), "qcd": (500, float(events.weights.sum()))})
    scaling = events.fit(factors=factors)
    samples = ["qcd", "ttbar"] * (len(events.weights) // 2)
    applied = scaling.apply_weights(samples, events.weights)
    np.testing.assert_array_equal(applied[1::2], events.weights[1::2])
    np.testing.assert_allclose(applied[::2], events.weights[::2] * factors["qcd"], rtol=1e-6)
    assert scaling.apply_weights(["qcd"] * len(samples), events.weights).mean() == pytest.approx(1)


def test_a_class_without_weight_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="every event weight of qcd is 0 in the training split: write weights"):
        weight_factors({"ttbar": (5, 1.0), "qcd": (5, 0.0)})


def test_rescaled_features_are_as_if_scaled_by_this_alone() -> None:
    events, others = Events(50, seed=3, shift=1), Events(50, seed=4, shift=2)
    one, other = events.fit(), others.fit()
    scaled = one.rescale_high_level(other.apply_high_level(events.high_level), other)
    np.testing.assert_allclose(scaled, one.apply_high_level(events.high_level), atol=1e-4)
    padded = np.zeros((1, len(events.particles) + 3, len(schema.LOW_LEVEL_FEATURES)), np.float32)
    padded[0, :-3] = other.apply_particles(events.particles)
    rescaled = one.rescale_particles(padded, other)
    np.testing.assert_allclose(rescaled[0, :-3], one.apply_particles(events.particles), rtol=1e-3, atol=1e-3)
    assert not rescaled[0, -3:].any()
    assert rescaled.dtype == scaled.dtype == np.float32


def test_scaling_survives_json() -> None:
    scaling = Events(20, seed=11).fit(factors={"qcd": 0.3, "ttbar": 1 / 3, "wjets": 2.0})
    restored = Scaling.from_json(scaling.to_json())
    assert restored.to_json() == scaling.to_json()
    np.testing.assert_array_equal(restored.particle_scale, scaling.particle_scale)


def test_scaling_json_names_every_feature_and_its_unit() -> None:
    content = json.loads(Events(20, seed=12).fit().to_json())
    assert [row["name"] for row in content["high_level"]] == list(schema.HIGH_LEVEL_FEATURES)
    assert {row["name"]: row["unit"] for row in content["particles"]}.items() >= {
        "Pt": "GeV",
        "vtxX": "mm",
        "Phi": "rad",
    }.items()


@pytest.mark.parametrize("text", ["{}", "no json", '{"high_level": [{"name": "HT"}], "particles": []}'])
def test_another_scaling_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not a scaling"):
        Scaling.from_json(text)


# --- where the published notebooks deviate -------------------------------------------------------------------------


def test_scaling_does_not_see_the_test_split() -> None:
    """Published: scalers fitted before the split, on test data too. Here: the test split changes nothing."""
    events = Events(100, seed=13)
    training, everything = slice(0, 64), slice(None)
    before = events.fit(training)
    published_before = events.fit(everything)
    events.high_level[99] = 1e6
    events.particles[-1] = 1e6
    assert events.fit(training).to_json() == before.to_json()
    assert events.fit(everything).to_json() != published_before.to_json()
