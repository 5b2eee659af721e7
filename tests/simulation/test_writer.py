import numpy as np
import uproot

from support.events import random_events, to_events
from toposieve import schema
from toposieve.simulation.writer import BASKET_EVENTS, DelphesWriter, event_collection


def write(path, chunks):
    written = 0
    with DelphesWriter(path) as writer:
        for events in chunks:
            n = len(events["MissingET"])
            writer.add({"Event": event_collection(written, np.ones(n)), **events})
            written += n
    return written


def test_file_has_the_layout_of_delphes(tmp_path):
    events = to_events(random_events(1, 30))
    write(tmp_path / "a.root", [events])
    with uproot.open(tmp_path / "a.root") as file:
        tree = file[schema.TREE_NAME]
        for collection, leaves in schema.DELPHES_LEAVES.items():
            assert tree[f"{collection}_size"].array().to_list() == events[collection].counts().tolist()
            for leaf, dtype in leaves.items():
                values = tree[f"{collection}.{leaf}"].array()
                assert str(values.type.content.content) == dtype
                np.testing.assert_array_equal(np.asarray(values.layout.content.data), events[collection].leaves[leaf])
        assert tree["Event.Number"].array()[:, 0].to_list() == list(range(30))
        assert str(tree["Event.Weight"].array().type.content.content) == "float32"


def test_baskets_are_large_however_small_the_chunks(tmp_path):
    chunk = to_events(random_events(1, 50))
    written = write(tmp_path / "a.root", [chunk] * 25)
    with uproot.open(tmp_path / "a.root") as file:
        tree = file[schema.TREE_NAME]
        assert tree.num_entries == written
        starts = tree["Jet.PT"].entry_offsets
        assert min(np.diff(starts)) >= BASKET_EVENTS


def test_a_file_without_events_is_a_whole_file(tmp_path):
    write(tmp_path / "a.root", [])
    with uproot.open(tmp_path / "a.root") as file:
        assert file[schema.TREE_NAME].num_entries == 0
