"""Exact cuts against plain sorting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from toposieve import assignment, schema
from toposieve.assignment import NOT_KEPT, TRAIN, Cuts, find_cuts, places, shuffle_keys
from toposieve.config import PreparationConfig
from toposieve.event_keys import event_keys
from toposieve.preprocessing import shard_stops, split_sizes

AVAILABLE = {"qcd": 500, "ttbar": 900, "wjets": 700}
KEYS = {schema.SAMPLES.index(sample): event_keys(f"{sample}/a.root", np.arange(n)) for sample, n in AVAILABLE.items()}
CONFIG = PreparationConfig(seed=3, events_per_shard=80)


def cuts_of(size: int = 500, config: PreparationConfig = CONFIG) -> tuple[Cuts, dict[str, dict[str, int]]]:
    splits = split_sizes(dict.fromkeys(AVAILABLE, size), config)
    stops = [shard_stops(sum(counts.values()), config) for counts in splits.values()]
    return find_cuts(KEYS, {label: size for label in KEYS}, stops, config), splits


def test_every_class_and_split_gets_exactly_its_events() -> None:
    cuts, splits = cuts_of()
    for label, sample in enumerate(schema.SAMPLES):
        found = Counter(cuts.slots(label, KEYS[label]).tolist())
        assert [found[slot] for slot in range(NOT_KEPT)] == [splits[split][sample] for split in schema.SPLITS]
        assert found[NOT_KEPT] == AVAILABLE[sample] - 500


def test_shards_are_equal_and_in_the_order_of_the_shuffle() -> None:
    cuts, _ = cuts_of()
    rows = []
    for label, keys in KEYS.items():
        slots, shuffle = cuts.slots(label, keys), shuffle_keys(keys, CONFIG.seed)
        rows += zip(slots.tolist(), shuffle.tolist(), cuts.shard_numbers(slots, shuffle).tolist(), strict=True)
    shards = [shard for slot, _, shard in sorted(rows) if slot < NOT_KEPT]
    assert shards == sorted(shards)
    counts = Counter(shards)
    assert set(counts) == set(range(sum(len(each) + 1 for each in cuts.shards)))
    assert [counts[i] for i in range(len(cuts.shards[TRAIN]) + 1)] == [80] * 12
    assert {shard for slot, _, shard in rows if slot == NOT_KEPT} == {-1}


def test_what_is_kept_lies_together_in_a_file() -> None:
    cuts, _ = cuts_of(100)
    for label, keys in KEYS.items():
        kept = cuts.slots(label, np.sort(keys)) < NOT_KEPT
        edges = np.flatnonzero(np.diff(np.concatenate([[0], kept.astype(int), [0]])))
        assert kept.sum() == 100
        assert len(edges) <= 4, "two runs at most"


def test_the_kept_share_follows_from_the_cut() -> None:
    cuts, _ = cuts_of(100)
    shares = [cuts.kept_share(label) for label in KEYS]
    assert shares == pytest.approx([100 / 500, 100 / 900, 100 / 700], abs=0.05)
    assert cuts_of()[0].kept_share(0) == 1.0  # no event of qcd is left out


def test_scaling_is_fitted_to_the_first_training_events_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "FITTED_EVENTS", 60)
    cuts, _ = cuts_of()
    for label, keys in KEYS.items():
        slots = cuts.slots(label, keys)
        fitted = cuts.is_fitted(label, keys, slots)
        training = np.sort(places(keys[slots == TRAIN], CONFIG.seed))
        assert sorted(places(keys[fitted], CONFIG.seed)) == training[:60].tolist()
    monkeypatch.setattr(assignment, "FITTED_EVENTS", 10_000)
    every = cuts_of()[0]
    assert np.array_equal(every.is_fitted(0, KEYS[0], cuts.slots(0, KEYS[0])), cuts.slots(0, KEYS[0]) == TRAIN)


def test_another_seed_keeps_other_events() -> None:
    kept = [cuts_of(100, CONFIG.model_copy(update={"seed": seed}))[0].slots(1, KEYS[1]) < NOT_KEPT for seed in (3, 4)]
    assert [mask.sum() for mask in kept] == [100, 100]
    assert not np.array_equal(*kept)


def test_the_three_orders_have_no_likeness() -> None:
    keys = event_keys("qcd/a.root", np.arange(20_000))
    orders = [places(keys, 1), shuffle_keys(keys, 1), assignment._split_keys(keys, 1), shuffle_keys(keys, 2)]
    ranks = np.array([order.argsort().argsort() for order in orders])
    likeness = np.corrcoef(ranks) - np.eye(len(orders))
    assert np.abs(likeness).max() < 5 / np.sqrt(len(keys))
    quarters = np.quantile(orders[1].astype(float), [0.25, 0.5, 0.75]) / 2**64
    assert quarters == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
