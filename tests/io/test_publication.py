from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import sweep
from toposieve.io.manifests import Manifest, Unit, fingerprint, in_order, manifest_name, read_manifest
from toposieve.io.names import HEARTBEATS, RECORDS, unit_name
from toposieve.io.publication import Publication, check_same_config, is_up_to_date
from toposieve.io.store import Key, Stat, root_key
from toposieve.io.store import file as file_store
from toposieve.io.units import adopt_or_make


@pytest.fixture
def folder(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path / "out"))


def unit(source: str) -> Unit:
    return Unit(source=source, source_checksum="00", entry_start=0, entry_stop=3, counts={"events": 3}, outputs=())


def make(source: str) -> Callable[[Path], Unit]:
    def write(path: Path) -> Unit:
        path.write_text(source, encoding="utf-8")
        return unit(source)

    return write


def manifest_of(*units: Unit, config_hash: str = "1f", code_version: str = "v1") -> Manifest:
    return Manifest(
        stage="test", config_hash=config_hash, config={}, code=1, units=in_order(units), code_version=code_version
    )


def publish(folder: Key, *sources: str, kept_hours: float = 24.0) -> Manifest:
    with Publication(folder, kept_hours=kept_hours) as run:
        kept = {unit.source: unit for unit in run.reusable("1f", 1)}
        made = [adopt_or_make(folder, unit_name(s), make(s)).unit for s in sources if s not in kept]
        return run.publish(manifest_of(*kept.values(), *made))


def test_publishes_files_and_manifest_and_leaves_nothing_else(folder: Key) -> None:
    written = publish(folder, "a", "b")
    assert set(folder.list()) == {unit_name("a"), unit_name("b"), manifest_name(1)}
    assert read_manifest(folder) == written
    assert written.total("events") == 6


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one, two = (root_key("--base", str(tmp_path / name)) for name in ("one", "two"))
    publish(one, "a")
    publish(two, "a")
    assert (one / manifest_name(1)).read_bytes() == (two / manifest_name(1)).read_bytes()


def test_the_loser_goes_on_from_the_winner(folder: Key) -> None:
    with Publication(folder) as loser:
        mine = adopt_or_make(folder, unit_name("b"), make("b")).unit
        publish(folder, "a")
        both = loser.publish(manifest_of(mine))
    assert [each.source for each in both.units] == ["a", "b"]
    assert fingerprint(read_manifest(folder)) == fingerprint(both)
    assert (folder / manifest_name(2)).stat()


def test_a_loser_that_has_nothing_to_add_takes_no_number(folder: Key) -> None:
    with Publication(folder) as loser:
        publish(folder, "a", "b")
        mine = adopt_or_make(folder, unit_name("b"), make("b")).unit
        assert len(loser.publish(manifest_of(mine)).units) == 2
    assert not (folder / manifest_name(2)).stat()


def test_contradicting_configuration_is_a_conflict(folder: Key) -> None:
    with Publication(folder) as loser:
        publish(folder, "a")
        with pytest.raises(ConflictError, match="run again"):
            loser.publish(manifest_of(config_hash="2e"))


def test_a_number_left_empty_is_passed_over_without_its_predecessor(
    folder: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposieve.io.manifests._UNFINISHED_SECONDS", 1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    publish(folder, "a")
    (folder / manifest_name(2)).write_bytes(b"")
    with Publication(folder) as run:
        run.publish(manifest_of(config_hash="2e"))
    assert read_manifest(folder).config_hash == "2e"
    assert (folder / manifest_name(3)).stat()


def test_what_is_listed_must_be_there(folder: Key) -> None:
    with Publication(folder) as run:
        mine = adopt_or_make(folder, unit_name("a"), make("a")).unit
        (folder / unit_name("a")).delete()
        with pytest.raises(ConflictError, match=r"is gone .*run again"):
            run.publish(manifest_of(mine))
    assert not (folder / manifest_name(1)).stat()


def test_records_stay_while_another_run_may_look_for_them(folder: Key) -> None:
    with Publication(folder):
        publish(folder, "a")
        assert (folder / RECORDS).list()
        adopt_or_make(folder, unit_name("a"), lambda path: pytest.fail("made again"))


def test_a_failed_run_leaves_the_old_output_and_what_it_made(folder: Key) -> None:
    publish(folder, "a")
    with suppress(ZeroDivisionError), Publication(folder):
        adopt_or_make(folder, unit_name("b"), make("b"))
        _ = 1 / 0
    assert [each.source for each in read_manifest(folder).units] == ["a"]
    assert (folder / unit_name("b")).stat()
    assert not (folder / HEARTBEATS).list()


@pytest.mark.parametrize("broken", ["link", "fsync"])
def test_a_full_disk_while_the_manifest_is_written_leaves_the_old_one(
    folder: Key, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    publish(folder, "a")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_store.os, broken, no_space)
    with pytest.raises(OSError, match="No space left"):
        publish(folder, "b")
    assert [each.source for each in read_manifest(folder).units] == ["a"]


def test_a_rename_that_fails_halfway_leaves_no_unit(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    with Publication(folder):
        with monkeypatch.context() as patch:
            patch.setattr(file_store.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
            with pytest.raises(OSError, match="broken"):
                adopt_or_make(folder, unit_name("a"), make("a"))
        assert unit_name("a") not in folder.list()
        assert adopt_or_make(folder, unit_name("a"), make("a")).unit.source == "a"


def test_reusable_units_are_those_with_whole_files_and_the_same_identity(
    folder: Key, caplog: pytest.LogCaptureFixture
) -> None:
    written = publish(folder, "a", "b")
    (folder / unit_name("a")).write_text("cut short")
    with Publication(folder) as run:
        assert run.reusable("other", 1) == []
        assert run.reusable("1f", 2) == []
        assert run.reusable("1f", 1) == [written.units[1]]
    assert f"{unit_name('a')} is missing or cut short: to be done again\n" in caplog.text


def test_files_that_no_listing_shows_are_asked_for_at_once_and_told_of_once(
    folder: Key, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    written = publish(folder, *"abcd")
    gone = sorted(map(unit_name, "abc"))
    for name in gone:
        (folder / name).delete()
    together, stat = threading.Barrier(len(gone)), Key.stat

    def stat_with_others(key: Key) -> Stat | None:
        if key.name in gone:
            together.wait(10)
        return stat(key)

    monkeypatch.setattr(Key, "stat", stat_with_others)
    run = Publication(folder).look()
    assert run.reusable("1f", 1) == [each for each in written.units if each.source == "d"]
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{folder / gone[0]} is missing or cut short: to be done again (3 such files)"]


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = root_key("--base", str(tmp_path / "file")) / "out"
    with pytest.raises(InvalidInputError, match="cannot be made"), Publication(folder):
        pass


def test_output_of_another_configuration_needs_replace(folder: Key) -> None:
    check_same_config(folder, None, "2e", replace=False)
    check_same_config(folder, manifest_of(), "1f", replace=False)
    check_same_config(folder, manifest_of(), "2e", replace=True)
    with pytest.raises(InvalidInputError, match=r"another configuration \(1f, now 2e\): pass --replace"):
        check_same_config(folder, manifest_of(), "2e", replace=False)


def test_only_the_version_of_the_code_does_not_make_output_stale() -> None:
    old = manifest_of(unit("a"))
    assert is_up_to_date(old, manifest_of(unit("a"), code_version="v2"))
    assert not is_up_to_date(old, manifest_of(unit("b")))
    assert not is_up_to_date(None, old)


def test_leftovers_are_swept_at_the_end(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(folder, "a")
    (folder / unit_name("left")).write_text("x")
    publish(folder, "a")
    assert (folder / unit_name("left")).stat()
    publish(folder, "a", kept_hours=0)
    assert not (folder / unit_name("left")).stat()
    assert (folder / unit_name("a")).stat()
    assert sweep.KEPT_HOURS == 24


RACERS, ROUNDS = 4, 12


def _race(base: str, racer: int, start: multiprocessing.synchronize.Barrier, overwriting: bool) -> None:
    if overwriting:
        Key.create_if_absent = lambda key, content: key.write_bytes(content) is None  # type: ignore[method-assign]
    for turn in range(ROUNDS):
        start.wait()
        publish(root_key("--base", base), f"{racer}-{turn}", f"all-{turn}")


def race(base: Path, *, overwriting: bool = False) -> set[str]:
    """Sources that are missing in the end, after several processes have published at the same time, again and again."""
    context = multiprocessing.get_context("fork")
    start = context.Barrier(RACERS)
    racers = [context.Process(target=_race, args=(str(base), n, start, overwriting)) for n in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0 or overwriting
    listed = {each.source for each in read_manifest(root_key("--base", str(base))).units}
    every = {f"{n}-{turn}" for n in [*map(str, range(RACERS)), "all"] for turn in range(ROUNDS)}
    return every - listed


def test_processes_that_race_lose_nothing(tmp_path: Path) -> None:
    assert race(tmp_path) == set()
    manifests = sorted(path.name for path in tmp_path.glob("manifest*"))
    assert manifests == [manifest_name(n + 1) for n in range(len(manifests))]
    assert not list(tmp_path.glob("**/.tmp-*"))


def test_the_race_shows_a_publication_that_overwrites(tmp_path: Path) -> None:
    assert race(tmp_path, overwriting=True) != set()
