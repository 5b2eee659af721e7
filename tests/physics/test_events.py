from __future__ import annotations

import numpy as np
import pytest

from support.events import ELECTRON, from_events, make_event, random_events, to_events, track
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.physics.events import Jagged, count_events, objects


def test_jagged_counts_objects_of_each_event() -> None:
    jagged = Jagged(np.array([3, 5, 5, 6]), {"PT": np.arange(6.0)})
    assert len(jagged) == 3
    assert jagged.counts().tolist() == [2, 0, 1]


def test_dictionaries_survive_the_way_through_flat_arrays() -> None:
    events = random_events(seed=3, n=5)
    assert [from_events(to_events(events), i) for i in range(5)] == events


def test_leaves_have_the_types_of_the_schema() -> None:
    events = to_events(random_events(seed=4, n=2))
    for collection, leaves in schema.DELPHES_LEAVES.items():
        assert {leaf: str(values.dtype) for leaf, values in events[collection].leaves.items()} == leaves


def test_kernels_see_one_layout_whatever_the_caller_has() -> None:
    events = dict(to_events([make_event(tracks=[track(1, 2, 3), track(4, 5, 6)])]))
    stored = events["EFlowTrack"]
    strided = {leaf: np.repeat(values.astype(np.float64), 2)[::2] for leaf, values in stored.leaves.items()}
    events["EFlowTrack"] = Jagged(stored.offsets.astype(np.int32), strided)
    tracks = objects(events, "EFlowTrack")
    assert [array.dtype for array in tracks] == [np.int64, np.float32, np.float32, np.float32]
    assert all(array.flags.c_contiguous and not array.flags.writeable for array in tracks)
    assert tracks.pt.tolist() == [1, 4]


def test_pt_is_et_for_towers() -> None:
    events = to_events(random_events(seed=5, n=3))
    assert objects(events, "EFlowPhoton").pt.tolist() == events["EFlowPhoton"].leaves["ET"].tolist()


def test_count_events() -> None:
    assert count_events(to_events(random_events(seed=6, n=4))) == 4
    assert count_events(to_events([])) == 0


def test_missing_leaf_is_named() -> None:
    events = dict(to_events([make_event()]))
    del events["Jet"]
    with pytest.raises(InvalidInputError, match=r"no Jet\.PT"):
        count_events(events)
    events = dict(to_events([make_event()]))
    events["Jet"] = Jagged(events["Jet"].offsets, {k: v for k, v in events["Jet"].leaves.items() if k != "BTag"})
    with pytest.raises(InvalidInputError, match=r"no Jet\.BTag"):
        count_events(events)


def test_collections_of_different_length_are_refused() -> None:
    events = {**to_events([make_event(), make_event()]), "Electron": to_events([make_event()])["Electron"]}
    with pytest.raises(InvalidInputError, match="different numbers of events"):
        count_events(events)


@pytest.mark.parametrize("values", [[], [10.0, 20.0]])
def test_missing_et_must_have_length_one(values: list[float]) -> None:
    bad = make_event(electrons=[ELECTRON])
    bad["MissingET"] = {"MET": values, "Phi": values}
    with pytest.raises(InvalidInputError, match=f"MissingET has length {len(values)} in event 1"):
        count_events(to_events([make_event(), bad]))
