from __future__ import annotations

import numpy as np
import pytest

from support.events import from_events, jet, lepton, make_event, random_events, to_events, track
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.event_keys import event_keys
from toposieve.physics.events import Events, Jagged
from toposieve.physics.selection import SelectedEvents, select_events
from toposieve.physics.variations import vary

N = 60
FILE = "ttbar/day/a.root"
EVENTS = to_events(random_events(seed=5, n=N, particles=40))
KEYS = event_keys(FILE, np.arange(N))
ALL = {"jet_scale": 1.25, "met_scale": 0.5, "track_loss": 0.3, "btag_flips": 0.4}
MASK = 1


def varied(events: Events = EVENTS, mask: int = MASK, **variations: float) -> Events:
    return vary(events, KEYS, SelectionConfig(**variations), btag_mask=mask)


def select(events: Events) -> SelectedEvents:
    return select_events(events, SelectionConfig(), btag_mask=MASK)


def leaves(events: Events, collection: str) -> dict[str, bytes]:
    return {leaf: values.tobytes() for leaf, values in events[collection].leaves.items()}


def assert_same(one: Events, other: Events) -> None:
    for collection, jagged in one.items():
        np.testing.assert_array_equal(jagged.offsets, other[collection].offsets)
        assert leaves(one, collection) == leaves(other, collection)


def turn(events: Events) -> Events:
    """The same events, turned around the beam."""
    return {
        name: Jagged(
            jagged.offsets,
            {leaf: values + np.float32(0.5) if leaf == "Phi" else values for leaf, values in jagged.leaves.items()},
        )
        for name, jagged in events.items()
    }


def test_what_changes_nothing_changes_no_byte() -> None:
    assert_same(varied(jet_scale=1.0, met_scale=1.0, track_loss=0.0, btag_flips=0.0), EVENTS)


@pytest.mark.parametrize("variation", ALL)
def test_each_variation_changes_its_own_objects_alone(variation: str) -> None:
    collection, leaf = {
        "jet_scale": ("Jet", "PT"),
        "met_scale": ("MissingET", "MET"),
        "track_loss": ("EFlowTrack", None),
        "btag_flips": ("Jet", "BTag"),
    }[variation]
    found = varied(**{variation: ALL[variation]})
    for name in schema.DELPHES_LEAVES:
        before, after = leaves(EVENTS, name), leaves(found, name)
        changed = {each for each in before if before[each] != after[each]}
        expected = set() if name != collection else set(before) if leaf is None else {leaf}
        assert changed == expected
        for each, values in found[name].leaves.items():
            assert values.dtype == EVENTS[name].leaves[each].dtype


def test_features_follow_from_varied_objects_by_hand() -> None:
    event = make_event(
        muons=[lepton(40, 0, 0, -1)], jets=[jet(50, 1, 1, 1), jet(28, -1, 2, 0)], met=45, met_phi=np.pi / 3
    )
    events = vary(
        to_events([event]), KEYS[:1], SelectionConfig(jet_scale=1.25, met_scale=2, btag_flips=1), btag_mask=MASK
    )
    found = dict(zip(schema.HIGH_LEVEL_FEATURES, select(events).high_level[0].tolist(), strict=True))
    # The second jet comes above 30 GeV; tagged is now what was not.
    assert (found["HT"], found["nJets"], found["nBjets"], found["MET"]) == (62.5 + 35, 2, 1, 90)
    assert found["MT"] == pytest.approx(np.sqrt(2 * 90 * 40 * 0.5))


@pytest.mark.parametrize(("bits", "flipped"), [(0, 6), (1, 7), (2, 0), (5, 1), (6, 0), (9, 15)])
def test_flipping_touches_the_bits_of_the_mask_alone(bits: int, flipped: int) -> None:
    events = to_events([make_event(muons=[lepton(40, 0, 0)], jets=[jet(50, 1, 1, bits)])])
    found = vary(events, KEYS[:1], SelectionConfig(btag_flips=1), btag_mask=6)["Jet"].leaves["BTag"]
    assert found.tolist() == [flipped]


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_about_the_share_is_lost_and_of_a_smaller_one_some_of_the_same(share: float) -> None:
    tracks = EVENTS["EFlowTrack"]
    numbered = {
        **EVENTS,
        "EFlowTrack": Jagged(tracks.offsets, {**tracks.leaves, "X": np.arange(len(tracks.leaves["X"]))}),
    }
    kept, more = (varied(numbered, track_loss=each)["EFlowTrack"] for each in (share, share / 2))
    total = len(tracks.leaves["PT"])
    assert len(kept.leaves["PT"]) / total == pytest.approx(1 - share, abs=4 * np.sqrt(share * (1 - share) / total))
    assert set(kept.leaves["X"]) < set(more.leaves["X"])
    owner = np.searchsorted(tracks.offsets, kept.leaves["X"], side="right") - 1
    np.testing.assert_array_equal(np.bincount(owner, minlength=N), kept.counts())


def test_the_same_objects_are_varied_whatever_the_file_is_cut_into() -> None:
    config = SelectionConfig(**ALL)
    whole = vary(EVENTS, KEYS, config, btag_mask=MASK)
    part = {name: Jagged(jagged.offsets[20:41], jagged.leaves) for name, jagged in EVENTS.items()}
    found = vary(part, KEYS[20:40], config, btag_mask=MASK)
    for place in range(20):
        assert from_events(found, place) == from_events(whole, 20 + place)
    none = vary(
        {name: Jagged(each.offsets[:1], each.leaves) for name, each in EVENTS.items()}, KEYS[:0], config, btag_mask=1
    )
    assert {len(each) for each in none.values()} == {0}


def test_turning_the_events_turns_the_varied_ones() -> None:
    config = SelectionConfig(**ALL)
    assert_same(vary(turn(EVENTS), KEYS, config, btag_mask=MASK), turn(vary(EVENTS, KEYS, config, btag_mask=MASK)))


def test_lost_tracks_of_the_lepton_leave_it_without_a_vertex() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], tracks=[track(40, 0, 0, 1, 0.5, 0.25, 3.0)])
    events = vary(to_events([event]), KEYS[:1], SelectionConfig(track_loss=0.999_999), btag_mask=MASK)
    assert select(events).particles["vtxX"].tolist() == [0.0]


def test_what_is_not_varied_is_known_as_before() -> None:
    assert SelectionConfig().hash == SelectionConfig(jet_scale=1.0, track_loss=0.0).hash
    assert "jet_scale" not in SelectionConfig().model_dump()
    config = SelectionConfig(jet_scale=1.03)
    assert config.hash != SelectionConfig().hash
    assert SelectionConfig(**config.model_dump()) == config
