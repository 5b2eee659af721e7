"""What every kind of store promises, tried on real servers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key, kinds, root_key
from toposieve.io.store.file import TEMPORARY_PREFIX

TESTS = Path(__file__).parents[2]
ODD = ["sp ace", "a+b", "per%cent", "per%20cent", "ünï", "e=1,f", "#h", "q?x", "~t", "(1)", "'q'"]
RACERS = 5


def test_a_folder_that_is_not_there_is_empty(root: Key) -> None:
    assert root.list() == {}
    assert (root / "nothing" / "here").list() == {}


def test_lists_all_below_a_folder_and_nothing_beside_it(root: Key) -> None:
    for name in ("a/x", "a/b/c/y", "ab/z", "w"):
        (root / name).write_bytes(name.encode())
    assert {name: stat.size for name, stat in (root / "a").list().items()} == {"x": 3, "b/c/y": 7}
    assert set(root.list()) == {"a/x", "a/b/c/y", "ab/z", "w"}
    assert list((root / "w").list()) == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("m", {"m-1", "m-10", "m-2", "m/x/y", "mm"}),
        ("m-1", {"m-1", "m-10"}),
        ("m/", {"m/x/y"}),
        ("m/x/", {"m/x/y"}),
        ("m/x/y", {"m/x/y"}),
        ("n", set()),
    ],
)
def test_lists_what_starts_with_a_prefix(root: Key, prefix: str, expected: set[str]) -> None:
    folder = root / "folder"
    for name in ("a", "m-1", "m-10", "m-2", "m/x/y", "mm", "z/m-1"):
        (folder / name).write_bytes(b"")
    assert set(folder.list(prefix)) == expected


def test_lists_many(s3_root: Key) -> None:
    names = {f"part-{number:04}" for number in range(1100)}  # more than a page of S3
    for name in names:
        (s3_root / name).write_bytes(b"")
    assert set(s3_root.list()) == names
    assert set(s3_root.list("part-10")) == {name for name in names if name.startswith("part-10")}


def test_an_object_is_known_by_size_and_version(root: Key) -> None:
    key = root / "a"
    assert key.stat() is None
    key.write_bytes(b"12345")
    first = key.stat()
    assert first is not None
    assert first.size == 5
    assert abs(first.modified - time.time()) < 60
    assert root.list() == {"a": first}
    time.sleep(0.01)  # times of modification are milliseconds
    key.write_bytes(b"54321")
    second = key.stat()
    assert second is not None
    assert second.version != first.version


def test_a_folder_is_no_object(root: Key) -> None:
    (root / "folder" / "a").write_bytes(b"1")
    assert (root / "folder").stat() is None
    with pytest.raises(FileNotFoundError):
        (root / "nothing").read_bytes()
    with pytest.raises(FileNotFoundError):
        (root / "nothing").read_ranges([(0, 1)])


def test_replaces(root: Key) -> None:
    key = root / "a"
    for content in (b"long content", b"short", b""):
        key.write_bytes(content)
        assert key.read_bytes() == content


def test_nothing_is_seen_of_an_object_before_it_is_whole(root: Key) -> None:
    key = root / "a.parquet"
    with key.create() as path:
        assert path.suffix == ".parquet"
        path.write_bytes(b"half")
        assert key.stat() is None
        assert [name for name in root.list() if not name.startswith(TEMPORARY_PREFIX)] == []
    assert key.read_bytes() == b"half"
    assert not path.exists()


def test_two_who_write_at_once_do_not_mix(root: Key) -> None:
    """Attempts of a task may overlap: the first to end must leave the other's file alone."""
    key = root / "folder" / "unit.bin"
    with key.create() as slow:
        slow.write_bytes(b"slow")
        with key.create() as quick:
            quick.write_bytes(b"quick")
        assert key.read_bytes() == b"quick"
        assert slow.read_bytes() == b"slow"
    assert key.read_bytes() == b"slow"
    assert list((root / "folder").list()) == ["unit.bin"]


def test_a_failed_write_leaves_nothing(root: Key) -> None:
    def fail() -> None:
        with (root / "a").create() as path:
            path.write_bytes(b"half")
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        fail()
    assert root.list() == {}


def test_the_second_creation_is_refused(root: Key) -> None:
    key = root / "folder" / "manifest-000001.json"
    assert key.create_if_absent(b"first")
    assert not key.create_if_absent(b"second")
    assert not key.create_if_absent(b"first")
    assert key.read_bytes() == b"first"
    assert list(root.list()) == ["folder/manifest-000001.json"]


def test_one_of_many_processes_creates(root: Key) -> None:
    start = time.time() + 6
    command = [sys.executable, "-m", "support.store_contract", root.root, "number", str(start)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "jobs")])}
    racers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=TESTS) for _ in range(RACERS)
    ]
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    winners = [line.removeprefix("True ") for line in said if line.startswith("True ")]
    assert [line for line in said if line.startswith("False ")] == [line for line in said if "True" not in line]
    assert len(said) == RACERS
    assert winners == [(root / "number").read_text()]
    assert list(root.list()) == ["number"]


def test_deleting_twice_is_well(root: Key) -> None:
    for name in ("a", "b", "c", "keep"):
        (root / name).write_bytes(b"1")
    (root / "a").delete()
    (root / "a").delete()
    root.delete_below("a", "b", "c")
    assert list(root.list()) == ["keep"]


def test_reads_parts_in_the_order_asked_for(root: Key) -> None:
    key = root / "a"
    content = bytes(range(256)) * 4096
    key.write_bytes(content)
    ranges = [(1000, 10), (0, 3), (900_000, 2000), (5, 0), (1005, 10), (len(content) - 4, 4)]
    assert list(key.read_ranges(ranges)) == [content[offset : offset + length] for offset, length in ranges]
    assert list(key.read_ranges([])) == []


def test_reads_as_much_as_there_is(root: Key) -> None:
    key = root / "a"
    key.write_bytes(b"12345")
    assert list(key.read_ranges([(3, 10)])) == [b"45"]
    assert list(key.read_ranges([(0, 2), (10, 3), (5, 1)])) == [b"12", b"", b""]


def test_a_big_object_comes_back_as_it_was(root: Key, tmp_path: Path) -> None:
    content = os.urandom(20 << 20)
    key = root / "big.parquet"
    key.write_bytes(content)
    with key.fetch() as path:
        assert path.suffix == ".parquet"
        assert path.read_bytes() == content
    assert path.exists() == ("://" not in root.root)
    stat = key.stat()
    assert stat is not None
    assert stat.size == len(content)


def test_names_may_have_odd_characters(root: Key) -> None:
    for name in ODD:
        (root / "odd" / name / "x").write_bytes(name.encode())
    assert set((root / "odd").list()) == {f"{name}/x" for name in ODD}
    for name in ODD:
        key = root / "odd" / name / "x"
        assert key.read_bytes() == name.encode()
        assert list((root / "odd" / name).list()) == ["x"]
        key.delete()
        assert key.stat() is None


def test_modules_that_help_are_no_kinds() -> None:
    assert kinds() == {"file", "hdfs", "root", "s3"}
    with pytest.raises(InvalidInputError, match=r"--base ftp://x: unknown scheme ftp://; known are file://, hdfs://"):
        root_key("--base", "ftp://x")
    with pytest.raises(InvalidInputError, match="unknown scheme _remote://"):
        root_key("--base", "_remote://x")


def test_a_base_that_is_a_file_is_refused(root: Key) -> None:
    if root.root.startswith("s3://"):
        pytest.skip("in S3 a key may lie below another")
    root.write_bytes(b"1")
    assert root.list() == {}
    with pytest.raises(InvalidInputError, match="choose another --base"):
        (root / "a").write_bytes(b"1")
    with pytest.raises(InvalidInputError, match="choose another --base"):
        (root / "a").create_if_absent(b"1")
