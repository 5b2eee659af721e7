from __future__ import annotations

from pathlib import Path

from toposieve.io.duplicates import Content, find_duplicates
from toposieve.io.store import Key


def contents(folder: Path, **texts: str) -> list[Content]:
    """Contents whose sizes are known, and nothing else."""
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [Content(name, len(text), Key(str(folder)) / name) for name, text in texts.items()]


def test_the_same_bytes_are_found_whatever_their_names(tmp_path: Path) -> None:
    found = find_duplicates(contents(tmp_path, a="one", b="two", c="one", d="three", e="two", f="one"))
    assert found == [["a", "c", "f"], ["b", "e"]]


def test_the_same_checksum_is_no_proof(tmp_path: Path) -> None:
    assert find_duplicates(contents(tmp_path, a="one", b="two", c="six")) == []


def test_what_differs_by_its_checksum_is_not_read(tmp_path: Path) -> None:
    assert find_duplicates([Content(name, name, Key(str(tmp_path)) / "not there") for name in "abc"]) == []


def test_what_is_gone_is_for_its_reader_to_say(tmp_path: Path) -> None:
    assert find_duplicates([Content(name, 0, Key(str(tmp_path)) / "not there") for name in "ab"]) == []
