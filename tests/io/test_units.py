from __future__ import annotations

from pathlib import Path

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Unit
from toposieve.io.names import RECORDS
from toposieve.io.store import Key, root_key
from toposieve.io.units import adopt_or_make, find_unit

NAME = "a-0123456789ab.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path))


class Maker:
    """Writes a unit, and counts how often."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, path: Path) -> Unit:
        self.made += 1
        path.write_text("content", encoding="utf-8")
        return Unit(source="a", source_checksum="00", entry_start=0, entry_stop=3, counts={}, outputs=())


def test_a_unit_is_made_once(folder: Key) -> None:
    maker = Maker()
    made = adopt_or_make(folder, NAME, maker)
    found = adopt_or_make(folder, NAME, maker)
    assert (made.adopted, found.adopted, maker.made) == (False, True, 1)
    assert found.unit == made.unit
    assert [(file.path, file.bytes) for file in made.unit.outputs] == [(NAME, 7)]


def test_a_unit_is_made_again_when_asked_for(folder: Key) -> None:
    maker = Maker()
    adopt_or_make(folder, NAME, maker)
    assert not adopt_or_make(folder, NAME, maker, adopt=False).adopted
    assert maker.made == 2


@pytest.mark.parametrize("content", [None, "conten"])
def test_a_record_whose_file_is_gone_or_cut_short_is_not_trusted(folder: Key, content: str | None) -> None:
    maker = Maker()
    adopt_or_make(folder, NAME, maker)
    (folder / NAME).delete()
    if content:
        (folder / NAME).write_text(content)
    assert find_unit(folder, NAME) is None
    adopt_or_make(folder, NAME, maker)
    assert maker.made == 2
    assert (folder / NAME).read_text() == "content"


@pytest.mark.parametrize("content", ["", "{}", "[1]"])
def test_what_is_no_record_is_not_trusted(folder: Key, content: str, caplog: pytest.LogCaptureFixture) -> None:
    maker = Maker()
    adopt_or_make(folder, NAME, maker)
    (folder / RECORDS / f"{NAME}.json").write_text(content)
    adopt_or_make(folder, NAME, maker)
    assert maker.made == 2
    assert "is no record; doing it again" in caplog.text


def test_a_file_without_a_record_is_made_again(folder: Key) -> None:
    maker = Maker()
    (folder / NAME).write_text("content")
    adopt_or_make(folder, NAME, maker)
    assert maker.made == 1


def test_a_bad_input_leaves_nothing(folder: Key) -> None:
    def fail(path: Path) -> Unit:
        path.write_text("half", encoding="utf-8")
        raise InvalidInputError("bad")

    with pytest.raises(InvalidInputError, match="bad"):
        adopt_or_make(folder, NAME, fail)
    assert folder.list() == {}
