from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
import pytest
import uproot

from support.events import random_events, to_events
from toposieve import schema
from toposieve.simulation.writer import BASKET_EVENTS, delphes_file, event_collection

UUID_GIVEN = UUID("12345678-1234-5678-1234-567812345678")
DATE = datetime(2026, 1, 2)


def write(path, chunks):
    written = 0
    with delphes_file(path, UUID_GIVEN, DATE) as writer:
        for events in chunks:
            n = len(events["MissingET"])
            writer.add({"Event": event_collection(written, np.ones(n), written + np.arange(n)), **events})
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
        assert tree["Event.PileUp"].array()[:, 0].to_list() == list(range(30))
        assert str(tree["Event.PileUp"].array().type.content.content) == "int32"


@pytest.mark.parametrize(("chunk", "chunks"), [(50, 25), (2600, 1)])
def test_baskets_are_of_one_size_whatever_the_chunks(tmp_path, chunk, chunks):
    events = to_events(random_events(1, chunk, particles=2))
    written = write(tmp_path / "a.root", [events] * chunks)
    with uproot.open(tmp_path / "a.root") as file:
        tree = file[schema.TREE_NAME]
        assert tree.num_entries == written
        starts = tree["Jet.PT"].entry_offsets
        assert min(np.diff(starts)) >= BASKET_EVENTS
        assert max(np.diff(starts)) < 2 * BASKET_EVENTS


def test_a_file_without_events_is_a_whole_file(tmp_path):
    write(tmp_path / "a.root", [])
    with uproot.open(tmp_path / "a.root") as file:
        assert file[schema.TREE_NAME].num_entries == 0


def test_the_same_events_give_the_same_bytes_in_a_file_of_any_name(tmp_path):
    events = to_events(random_events(1, 30))
    write(tmp_path / "a.root", [events])
    write(tmp_path / "other.root", [events])
    assert (tmp_path / "other.root").read_bytes() == (tmp_path / "a.root").read_bytes()


def test_a_file_has_the_uuid_and_date_given_and_no_other_date(tmp_path):
    path = tmp_path / "a.root"
    begun = datetime.now()
    write(path, [to_events(random_events(1, 30))])
    seconds = (datetime.now() - begun).seconds + 2
    content = path.read_bytes()
    with uproot.open(path) as file:
        assert file.file.uuid == UUID_GIVEN
        assert (file.created_on, file.modified_on) == (DATE, DATE)
    for second in range(seconds):
        code = uproot._util.datetime_to_code(begun + timedelta(seconds=second))
        assert code.to_bytes(4, "big") not in content


def test_other_files_are_dated_as_ever_afterwards(tmp_path):
    with pytest.raises(ZeroDivisionError), delphes_file(tmp_path / "a.root", UUID_GIVEN, DATE):
        raise ZeroDivisionError
    with uproot.recreate(tmp_path / "b.root") as file:
        file["tree"] = {"x": np.zeros(1)}
    with uproot.open(tmp_path / "b.root") as file:
        assert file.created_on.year == datetime.now().year
