import errno
import os
from pathlib import Path

import pytest

from support.copying_store import CopyingStore, copying_store
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.store import Key
from toposieve.training.cache import Cache

CONTENT = bytes(range(100))
RANGES = [(0, 10), (50, 5), (10, 10)]
PARTS = [CONTENT[offset : offset + length] for offset, length in RANGES]


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Key, CopyingStore]:
    """A file that is not of this machine, and its store."""
    (tmp_path / "shard").write_bytes(CONTENT)
    root, store = copying_store(tmp_path, monkeypatch)
    return root / "shard", store


def test_files_of_this_machine_are_read_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(CONTENT)
    with Cache() as cache:
        assert cache.read(Key(str(tmp_path)) / "shard", RANGES) == PARTS
        (tmp_path / "shard").write_bytes(bytes(100))
        assert cache.read(Key(str(tmp_path)) / "shard", RANGES) == [bytes(10), bytes(5), bytes(10)]


def test_what_lies_elsewhere_is_fetched_once(remote: tuple[Key, CopyingStore]) -> None:
    key, store = remote
    with Cache() as cache:
        assert cache.read(key, RANGES[:2]) == PARTS[:2]
        assert cache.read(key, RANGES[:2]) == PARTS[:2]
        assert len(store.fetched) == 1
        assert cache.read(key, RANGES) == PARTS
        assert cache.read(key, RANGES[::-1]) == PARTS[::-1]
        assert len(store.fetched) == 2


def test_what_does_not_fit_is_fetched_each_time(remote: tuple[Key, CopyingStore]) -> None:
    key, store = remote
    with Cache(limit_bytes=16) as cache:
        assert cache.read(key, RANGES) == PARTS  # the last does not fit
        assert cache.read(key, RANGES[:2]) == PARTS[:2]
        assert len(store.fetched) == 1
        for number in (2, 3):
            assert cache.read(key, RANGES[2:]) == PARTS[2:]
            assert len(store.fetched) == number


def test_workers_of_a_machine_share_the_room(remote: tuple[Key, CopyingStore]) -> None:
    key, store = remote
    with Cache(limit_bytes=16, sharers=2) as cache:
        for number in (1, 2):
            assert cache.read(key, RANGES[:1]) == PARTS[:1]
            assert len(store.fetched) == number


def test_what_a_full_disk_does_not_take_is_fetched_each_time(
    remote: tuple[Key, CopyingStore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key, store = remote
    write, room = os.pwrite, [10, 3]

    def write_to_full_disk(file: int, part: bytes, place: int) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, part[: room.pop(0)], place)

    monkeypatch.setattr(os, "pwrite", write_to_full_disk)
    with Cache() as cache:
        for number in (1, 2, 3):
            assert cache.read(key, RANGES) == PARTS
            assert cache.read(key, RANGES[:1]) == PARTS[:1]
            assert len(store.fetched) == number
    assert caplog.text.count("No space left on device") == 1


def test_scratch_holds_nothing_that_a_killed_process_leaves(
    remote: tuple[Key, CopyingStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with Cache() as cache:
        assert cache.read(remote[0], RANGES) == PARTS
        assert list(scratch.iterdir()) == []


def test_a_file_that_is_gone_is_named(remote: tuple[Key, CopyingStore], tmp_path: Path) -> None:
    (tmp_path / "shard").unlink()
    for key in (remote[0], Key(str(tmp_path)) / "shard"):
        with Cache() as cache, pytest.raises(InvalidInputError, match="shard is missing: prepare the dataset again"):
            cache.read(key, RANGES)


def test_a_store_that_cannot_be_reached_is_said(remote: tuple[Key, CopyingStore]) -> None:
    key, store = remote
    store.failure = UnavailableError("host does not answer")
    with Cache() as cache, pytest.raises(UnavailableError, match="host does not answer"):
        cache.read(key, RANGES)
