from __future__ import annotations

import gc
import zlib
from pathlib import Path

import numpy as np
import pytest
import uproot
from isal import isal_zlib

from toposieve.io import root_files
from toposieve.io.root_arrays import entry_bytes, read_arrays
from toposieve.io.root_files import open_root, parse
from toposieve.io.store import Key

BASKETS = [range(100), range(100, 250), range(250, 310)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with uproot.recreate(tmp_path / "a.root", compression=uproot.ZLIB(1)) as file:
        file.mktree("t", {"x": "int32", "y": "float64"})
        for numbers in BASKETS:
            file["t"].extend({"x": np.array(numbers, np.int32), "y": np.array(numbers) / 2})
    return tmp_path / "a.root"


@pytest.mark.parametrize("step", [7, 40, 100, 120, 1000])
def test_steps_give_every_value_once_whatever_the_baskets(path: Path, step: int) -> None:
    with open_root(Key(str(path))) as root:
        tree = root["t"]
        steps = list(read_arrays(tree, [tree["x"], tree["y"]], 30, 290, step))
        keys = [tree[name].cache_key for name in "xy"]
    assert [len(arrays[keys[0]]) for arrays in steps] == [min(step, 290 - first) for first in range(30, 290, step)]
    assert np.concatenate([arrays[keys[0]] for arrays in steps]).tolist() == list(range(30, 290))
    assert np.concatenate([arrays[keys[1]] for arrays in steps]).tolist() == [number / 2 for number in range(30, 290)]


def test_each_basket_is_decompressed_once_by_the_fast_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def count(data: bytes, bufsize: int) -> bytes:
        calls.append(bufsize)
        return zlib.decompress(data)

    monkeypatch.setattr(isal_zlib, "decompress", count)
    with open_root(Key(str(path))) as root:
        tree = root["t"]
        del calls[:]
        list(read_arrays(tree, [tree["x"], tree["y"]], 0, 310, 20))
    assert len(calls) == 2 * len(BASKETS)


def test_an_entry_takes_what_its_branches_take(path: Path) -> None:
    with open_root(Key(str(path))) as root:
        tree = root["t"]
        assert entry_bytes([tree["y"]], 310) == pytest.approx(8, rel=0.2)
        assert entry_bytes([tree["x"], tree["y"]], 310) > entry_bytes([tree["y"]], 310)
    assert entry_bytes([], 0) == 1


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_looked_for_while_a_tree_is_parsed(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Root:
        def __getitem__(self, name: str) -> bool:
            if name != "t":
                raise KeyError(name)
            return gc.isenabled()

    was = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        assert parse(Root(), "t") is False
        with pytest.raises(KeyError):
            parse(Root(), "none")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was else gc.disable)()


def test_files_that_say_the_same_of_their_classes_share_them(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resets = []
    monkeypatch.setattr(uproot.model, "reset_classes", lambda: resets.append(1))
    monkeypatch.setattr(root_files, "_classes", b"")
    for _ in range(3):
        with open_root(Key(str(path))) as root:
            assert parse(root, "t").num_entries == 310
    assert len(resets) == 1
