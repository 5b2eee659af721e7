from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import uproot

from toposieve.io.root_files import open_root
from toposieve.io.store import Key, root_key
from toposieve.io.store.root import RootStore

LATENCY = 0.05
BRANCHES = [f"b{number}" for number in range(20)]
EVENTS = 60_000


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Verbs that the store was asked; each answer takes as long as from the next country."""
    asked: list[str] = []

    def slow(verb: str) -> None:
        original = getattr(RootStore, verb)

        def slowed(self: RootStore, *arguments: object) -> object:
            asked.append(verb)
            time.sleep(LATENCY)
            return original(self, *arguments)

        monkeypatch.setattr(RootStore, verb, slowed)

    for verb in ("list", "stat", "checksum", "read_ranges", "fetch"):
        slow(verb)
    return asked


@pytest.fixture
def serve(xrootd_server) -> Callable[[Path], Key]:
    """Puts a file on the XRootD server."""

    def put(path: Path) -> Key:
        (xrootd_server.data / path.name).write_bytes(path.read_bytes())
        return root_key("--raw", xrootd_server.url) / path.name

    return put


@pytest.fixture(scope="module")
def big_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than what is read at its opening: 20 branches in baskets of 10,000 events, 10 MB."""
    path = tmp_path_factory.mktemp("root") / "big.root"
    values = np.random.default_rng(1).random((len(BRANCHES), EVENTS))
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", dict.fromkeys(BRANCHES, "float64"))
        for start in range(0, EVENTS, 10_000):
            tree.extend({name: row[start : start + 10_000] for name, row in zip(BRANCHES, values, strict=True)})
    return path


def test_a_true_file_opens_with_two_requests(
    delphes_file: Path, serve: Callable[[Path], Key], requests: list[str]
) -> None:
    with open_root(serve(delphes_file)) as root:
        assert len(root["Delphes"].keys()) > 1000
    assert requests == ["stat", "read_ranges"]


def test_a_true_file_reads_as_from_the_disk(delphes_file: Path, serve: Callable[[Path], Key]) -> None:
    leaves = ["Electron.PT", "MissingET.MET", "EFlowTrack.PT", "Event.Weight"]
    with open_root(serve(delphes_file)) as remote, uproot.open(delphes_file) as local:
        for leaf in leaves:
            name = next(name for name in local["Delphes"].keys(full_paths=False) if name == leaf)
            assert remote["Delphes"][name].array().tolist() == local["Delphes"][name].array().tolist()


def test_all_baskets_of_a_range_come_in_one_request(
    big_file: Path, serve: Callable[[Path], Key], requests: list[str]
) -> None:
    with open_root(serve(big_file)) as root:
        tree = root["Events"]
        requests.clear()
        start = time.monotonic()
        arrays = tree.arrays(BRANCHES, entry_start=5_000, entry_stop=35_000, library="np")
        assert requests == ["read_ranges"]
        assert time.monotonic() - start < 20 * LATENCY  # 80 baskets, one by one, would take four times as long
    with uproot.open(big_file) as local:
        expected = local["Events"].arrays(BRANCHES, entry_start=5_000, entry_stop=35_000, library="np")
    assert all(np.array_equal(arrays[name], expected[name]) for name in BRANCHES)


def test_a_local_file_is_read_by_its_path(big_file: Path) -> None:
    with open_root(root_key("--raw", str(big_file.parent)) / big_file.name) as root:
        assert root.file_path == str(big_file)
        assert root["Events"].num_entries == EVENTS


def test_a_truncated_file_fails(big_file: Path, serve: Callable[[Path], Key], tmp_path: Path) -> None:
    cut = tmp_path / "cut.root"
    cut.write_bytes(big_file.read_bytes()[: big_file.stat().st_size // 2])
    key = serve(cut)

    def read() -> None:
        with open_root(key) as root:
            root["Events"].arrays(BRANCHES)

    with pytest.raises((OSError, ValueError, uproot.DeserializationError)):
        read()


def test_a_missing_file_is_named(big_file: Path, serve: Callable[[Path], Key]) -> None:
    missing = serve(big_file).parent / "missing.root"
    with pytest.raises(FileNotFoundError, match=r"missing\.root"), open_root(missing):
        pass
