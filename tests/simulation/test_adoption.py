import pytest

from toposieve.io.manifests import Unit
from toposieve.io.store import Key
from toposieve.simulation.adoption import finish

UNIT = Unit(source="file 000000", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=())


def make(path):
    path.write_text("content")
    return UNIT


def test_a_file_is_made_once_and_then_adopted(tmp_path):
    folder = Key(str(tmp_path))
    made, found = (finish(folder, "a-0123456789ab.root", make, adopt=True) for _ in range(2))
    assert (made.adopted, found.adopted) == (False, True)
    assert found.unit == made.unit
    assert made.unit.outputs[0].path == "a-0123456789ab.root"


@pytest.mark.parametrize("lost", ["a-0123456789ab.root", "_records/a-0123456789ab.root.json"])
def test_a_file_that_is_lost_or_not_on_record_is_made_again(tmp_path, lost):
    folder = Key(str(tmp_path))
    finish(folder, "a-0123456789ab.root", make, adopt=True)
    (folder / lost).delete()
    assert not finish(folder, "a-0123456789ab.root", make, adopt=True).adopted


def test_a_file_is_made_anew_where_asked_for(tmp_path):
    folder = Key(str(tmp_path))
    finish(folder, "a-0123456789ab.root", make, adopt=True)
    assert not finish(folder, "a-0123456789ab.root", make, adopt=False).adopted
