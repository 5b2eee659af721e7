import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.copying_store import CopyingStore, copying_store
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.store import Key
from toposieve.training.cache import FETCHERS, Cache

SIZE = 10
NAMES = [f"shard-{number}" for number in range(8)]
Remote = tuple[Key, CopyingStore]


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A store that is not of this machine, with some files of ten bytes."""
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(bytes([number]) * SIZE)
    return copying_store(tmp_path, monkeypatch)


def sizes_of(root: Key, names: list[str] = NAMES) -> dict[Key, int]:
    return {root / name: SIZE for name in names}


def test_files_of_this_machine_are_read_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(b"records")
    key = Key(str(tmp_path)) / "shard"
    with Cache({key: 7}) as cache:
        assert cache.path(key) == tmp_path / "shard"
    assert (tmp_path / "shard").exists()


def test_others_are_fetched_once_whoever_asks_and_gone_in_the_end(remote: Remote) -> None:
    root, store = remote
    with Cache(sizes_of(root)) as cache:
        for _ in range(2):
            for number, name in enumerate(NAMES):
                assert cache.path(root / name, f"reader {number}").read_bytes() == bytes([number]) * SIZE
        assert len(store.copies) == len(NAMES)
    assert sorted(store.fetched) == NAMES
    assert not store.copies


def test_what_fits_is_fetched_before_anybody_asks(remote: Remote) -> None:
    root, store = remote
    with Cache(sizes_of(root), limit_bytes=3 * SIZE + 1) as cache:
        while not all(root / name in cache for name in NAMES[:3]):
            threading.Event().wait(0.001)
    assert sorted(store.fetched) == NAMES[:3]


def test_a_reader_does_not_wait_for_what_others_will_want(remote: Remote) -> None:
    root, store = remote
    store.gate = threading.Event()
    with Cache(sizes_of(root)) as cache, ThreadPoolExecutor(1) as readers:
        wanted = readers.submit(cache.path, root / NAMES[-1])
        while NAMES[-1] not in store.fetched:
            threading.Event().wait(0.001)
        assert len(store.fetched) <= FETCHERS + 1
        store.gate.set()
        assert wanted.result().read_bytes() == bytes([7]) * SIZE
    assert store.fetched.count(NAMES[-1]) == 1


def test_copies_stay_within_their_room_and_come_back(remote: Remote) -> None:
    root, store = remote
    with Cache(sizes_of(root), limit_bytes=3 * SIZE) as cache:
        for _ in range(2):
            for number, name in enumerate(NAMES):
                assert cache.path(root / name).read_bytes() == bytes([number]) * SIZE
                assert len(store.copies) <= 3
    assert not store.copies


def test_what_is_being_read_stays_whatever_the_room(remote: Remote) -> None:
    root, _ = remote
    with Cache(sizes_of(root), limit_bytes=1) as cache:
        paths = {reader: cache.path(root / name, reader) for reader, name in zip("abc", NAMES, strict=False)}
        next_ones = [cache.path(root / NAMES[number], "d") for number in (5, 6)]
        assert all(path.exists() for path in (*paths.values(), *next_ones))
        cache.path(root / NAMES[7], "d")
        assert [path.exists() for path in next_ones] == [False, True]


def test_what_was_read_goes_before_what_was_fetched_ahead(remote: Remote) -> None:
    root, _ = remote
    with Cache(sizes_of(root), limit_bytes=4 * SIZE) as cache:
        for name in NAMES[:2]:
            cache.path(root / name, "a")
        while not all(root / name in cache for name in NAMES[:4]):
            threading.Event().wait(0.001)
        cache.path(root / NAMES[6], "a")
        assert [root / name in cache for name in NAMES[:4]] == [False, True, True, True]


def test_a_part_is_read(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"0123456789")
    root, _ = remote
    with Cache(sizes_of(root)) as cache:
        assert cache.read_range(root / NAMES[0], 3, 4) == b"3456"


def test_many_readers_at_once_see_whole_files(remote: Remote) -> None:
    root, _ = remote

    def read(reader: int) -> list[bytes]:
        return [cache.path(root / NAMES[(reader + turn) % 8], str(reader)).read_bytes() for turn in range(24)]

    with Cache(sizes_of(root), limit_bytes=2 * SIZE) as cache, ThreadPoolExecutor(8) as readers:
        for reader, contents in enumerate(readers.map(read, range(8))):
            assert contents == [bytes([(reader + turn) % 8]) * SIZE for turn in range(24)]


def test_a_missing_shard_is_named(remote: Remote, tmp_path: Path) -> None:
    root, _ = remote
    (tmp_path / NAMES[1]).unlink()
    with Cache(sizes_of(root)) as cache:
        with pytest.raises(InvalidInputError, match="shard-1 is missing: prepare the dataset again"):
            cache.path(root / NAMES[1])
        assert isinstance(cache.failure, InvalidInputError)
        assert root / NAMES[1] not in cache


def test_a_store_that_is_away_is_told_as_such(remote: Remote) -> None:
    root, store = remote
    store.failure = UnavailableError("host:1 does not answer")
    with Cache(sizes_of(root)) as cache:
        with pytest.raises(UnavailableError, match="host:1"):
            cache.path(root / NAMES[0])
        assert cache.failure is store.failure


def test_whoever_comes_too_late_is_refused(remote: Remote) -> None:
    root, store = remote
    with Cache(sizes_of(root), limit_bytes=1) as cache:
        pass
    with pytest.raises(RuntimeError, match="too late"):
        cache.path(root / NAMES[0])
    assert not store.copies
