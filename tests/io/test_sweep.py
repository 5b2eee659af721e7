from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from toposieve.io import sweep as module
from toposieve.io.heartbeats import Heartbeat
from toposieve.io.history import history
from toposieve.io.manifests import Manifest, OutputFile, Unit, manifest_name, read_newest, read_stub
from toposieve.io.store import Key, root_key
from toposieve.io.sweep import leftovers, sweep

OLD, NEW = "a-0123456789ab.parquet", "b-0123456789ab.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path))


def publish(folder: Key, number: int, *names: str, hours_ago: float = 0.0) -> Manifest:
    units = []
    for name in names:
        put(folder, name, hours_ago)
        files = (OutputFile(path=name, bytes=7, checksum="0bcb02fc"),)
        units.append(
            Unit(source=name, source_checksum="00", entry_start=0, entry_stop=3, counts={"events": 3}, outputs=files)
        )
    about = {"what": "long enough " * 50}
    manifest = Manifest(stage="test", config_hash="1f", config=about, code=1, units=tuple(units), code_version="v1")
    put(folder, manifest_name(number), hours_ago, manifest.to_bytes())
    return manifest


def put(folder: Key, name: str, hours_ago: float, content: bytes = b"content") -> None:
    (folder / name).write_bytes(content)
    then = time.time() - hours_ago * 3600
    os.utime(Path(str(folder / name)), (then, then))


def test_takes_what_nobody_lists_and_nothing_else(folder: Key) -> None:
    publish(folder, 1, OLD, hours_ago=30)
    for name in ("left-0123456789ab.parquet", "_records/left.json", ".tmp-77.parquet", "_heartbeats/dead.json"):
        put(folder, name, 30)
    put(folder, "young-0123456789ab.parquet", 1)
    for name in ("mine.root", "cutflow.json", "_versions.json"):
        put(folder, name, 1000)
    sweep(folder)
    kept = {OLD, "young-0123456789ab.parquet", "mine.root", "cutflow.json", "_versions.json"}
    assert {name for name in folder.list() if not name.startswith("manifest")} == kept


def test_what_was_replaced_stays_as_long_as_somebody_may_read_it(folder: Key) -> None:
    publish(folder, 1, OLD, hours_ago=100)
    publish(folder, 2, NEW, hours_ago=23)
    sweep(folder)
    assert (folder / OLD).stat()
    publish(folder, 2, NEW, hours_ago=25)
    sweep(folder)
    assert not (folder / OLD).stat()
    assert (folder / NEW).stat()
    stub = read_stub((folder / manifest_name(1)).read_bytes())
    assert stub
    assert "1 units" in stub.was
    assert "(swept)" in history(folder)[0]


@pytest.mark.parametrize("kind", ["", "sweep-"])
def test_gives_way_to_whoever_is_at_work(folder: Key, kind: str) -> None:
    publish(folder, 1, OLD)
    put(folder, NEW, 30)
    Heartbeat(folder, kind).show()
    sweep(folder, kept_hours=0)
    assert (folder / NEW).stat()


def test_what_a_stale_listing_does_not_show_as_published_stays(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, 1, OLD, hours_ago=30)
    put(folder, NEW, 30)
    stale = folder.list()
    publish(folder, 2, NEW)
    put(folder, NEW, 30)
    monkeypatch.setattr(Key, "list", lambda key, prefix="": stale if key == folder else {})
    sweep(folder)
    assert (folder / NEW).stat()


def test_a_manifest_that_a_crash_left_empty_is_no_successor(folder: Key) -> None:
    publish(folder, 1, OLD, hours_ago=100)
    put(folder, manifest_name(2), 90, b"")
    sweep(folder)
    assert (folder / OLD).stat()
    newest = read_newest(folder)
    assert newest
    assert newest.number == 1


def test_a_manifest_that_is_being_written_is_a_sign_of_life(folder: Key) -> None:
    publish(folder, 1, OLD, hours_ago=100)
    put(folder, NEW, 30)
    put(folder, manifest_name(2), 0, b"")
    sweep(folder)
    assert (folder / NEW).stat()


def test_whoever_may_be_frozen_finds_his_number_taken(folder: Key) -> None:
    publish(folder, 1, OLD, hours_ago=100)
    put(folder, "_heartbeats/frozen.json", 1)
    sweep(folder)
    assert read_stub((folder / manifest_name(2)).read_bytes())
    newest = read_newest(folder)
    assert newest
    assert newest.number == 1


def test_a_sweep_that_takes_too_long_stops(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, 1, OLD)
    put(folder, NEW, 30)
    times = iter([0.0, 31.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times, 100.0))
    sweep(folder)
    assert (folder / NEW).stat()


def test_leftovers_are_known_from_a_listing(folder: Key) -> None:
    newest = publish(folder, 1, OLD, hours_ago=100)
    now = time.time()
    assert not leftovers(folder.list(), newest, now, 24)
    put(folder, NEW, 25)
    assert leftovers(folder.list(), newest, now, 24)
    assert not leftovers(folder.list(), newest, now, 26)
