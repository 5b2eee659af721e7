from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import manifests
from toposieve.io.manifests import (
    BadFile,
    Manifest,
    Unit,
    adler32,
    all_numbers,
    check_listed,
    describe_file,
    fingerprint,
    gather_notes,
    manifest_name,
    merge,
    read_manifest,
    read_manifest_if_any,
    read_newest,
)
from toposieve.io.store import Key, root_key


@pytest.fixture
def folder(tmp_path: Path) -> Key:
    return root_key("--base", str(tmp_path))


def unit(source: str, *, checksum: str = "00", notes: tuple[str, ...] = ()) -> Unit:
    return Unit(
        source=source,
        source_bytes=7,
        source_checksum=checksum,
        entry_start=0,
        entry_stop=3,
        counts={"events": 3},
        outputs=(),
        notes=notes,
    )


def manifest_of(*units: Unit, **others: object) -> Manifest:
    fields = {"stage": "test", "config_hash": "1f", "config": {}, "code_version": "v1", **others}
    return Manifest.model_validate({**fields, "units": units})


def put(folder: Key, number: int, *sources: str) -> None:
    (folder / manifest_name(number)).write_bytes(manifest_of(*map(unit, sources)).to_bytes())


def put_stub(folder: Key, number: int) -> None:
    stub = manifests.Stub(swept="2026-01-01", was="test")
    (folder / manifest_name(number)).write_text(stub.model_dump_json())


def newest_sources(folder: Key) -> list[str]:
    return [unit.source for unit in read_manifest(folder).units]


def test_the_highest_number_is_the_truth(folder: Key) -> None:
    for number in (9, 10, 1_000_000):
        put(folder, number, str(number))
    assert newest_sources(folder) == ["1000000"]


def test_the_manifest_of_old_versions_is_number_zero(folder: Key) -> None:
    (folder / "manifest.json").write_bytes(manifest_of(unit("old")).to_bytes())
    newest = read_newest(folder)
    assert newest
    assert newest.number == 0
    put(folder, 1, "new")
    assert newest_sources(folder) == ["new"]


def test_what_a_stale_listing_lacks_is_found_by_asking(folder: Key) -> None:
    put(folder, 1, "a")
    entries = folder.list()
    put(folder, 2, "b")
    put(folder, 3, "c")
    newest = read_newest(folder, entries)
    assert newest
    assert (newest.number, newest.manifest.units[0].source) == (3, "c")
    assert all_numbers(folder, {}) == [0, 1, 2, 3]


def test_stubs_and_what_a_crash_left_empty_are_passed_over(folder: Key) -> None:
    put_stub(folder, 1)
    put(folder, 2, "a")
    put_stub(folder, 3)
    (folder / manifest_name(4)).write_bytes(b"")
    assert newest_sources(folder) == ["a"]


def test_what_is_larger_than_a_stub_is_not_tried_as_one(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why it is none would be told with all that it holds: 800 MB of memory for 40,000 units."""
    put(folder, 1, "a" * manifests.STUB_BYTES)
    monkeypatch.setattr(manifests.Stub, "model_validate_json", lambda _: pytest.fail("tried"))
    assert newest_sources(folder) == ["a" * manifests.STUB_BYTES]


def test_a_manifest_that_is_swept_while_it_is_looked_for_has_a_successor(
    folder: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, 1, "a")
    real, calls = manifests.read_number, []

    def read_number(where: Key, number: int) -> Manifest | None:
        if not calls:  # we were frozen for a day
            put(folder, 2, "b")
            put_stub(folder, 1)
        calls.append(number)
        return real(where, number)

    monkeypatch.setattr(manifests, "read_number", read_number)
    assert newest_sources(folder) == ["b"]


def test_missing_manifest_names_the_remedy(folder: Key) -> None:
    assert read_manifest_if_any(folder) is None
    with pytest.raises(InvalidInputError, match=r"has no manifest: run the stage"):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["not json", "[]", '{"stage": "test"}', '{"unknown": 1}'])
@pytest.mark.parametrize("number", [0, 3])
def test_what_is_no_manifest_is_refused(folder: Key, content: str, number: int) -> None:
    (folder / manifest_name(number)).write_text(content)
    with pytest.raises(InvalidInputError, match=rf"{manifest_name(number)} is not a manifest .*delete it and run"):
        read_manifest(folder)


def test_a_manifest_is_not_read_before_it_is_finished(folder: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    key, content = folder / manifest_name(1), manifest_of(unit("a")).to_bytes()
    key.write_bytes(content[: content.rindex(b"}", 0, -3) + 1])
    monkeypatch.setattr("time.sleep", lambda _: key.write_bytes(content))  # as where there are no hard links
    assert read_manifest(folder) == manifest_of(unit("a"))


def test_a_listed_file_is_there_in_the_right_size(folder: Key, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    file = describe_file(tmp_path / "a", "a")
    assert (file.bytes, file.checksum) == (7, "0bcb02fc")
    assert check_listed(folder, file) == folder / "a"
    (tmp_path / "a").write_text("conten")
    with pytest.raises(InvalidInputError, match=r"6 bytes long instead of 7: run the stage"):
        check_listed(folder, file)
    (tmp_path / "a").unlink()
    with pytest.raises(InvalidInputError, match=r"a is missing: run the stage"):
        check_listed(folder, file)


def test_adler_of_more_than_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_CHUNK_BYTES", 4)
    (tmp_path / "wikipedia").write_text("Wikipedia")
    assert adler32(tmp_path / "wikipedia") == "11e60398"


def test_a_fingerprint_changes_with_all_but_the_version_of_the_code() -> None:
    known = fingerprint(manifest_of(unit("a")))
    assert len(known) == 32
    assert fingerprint(manifest_of(unit("a"), code_version="v2")) == known
    for other in (
        manifest_of(unit("b")),
        manifest_of(unit("a"), config_hash="2e"),
        manifest_of(unit("a"), code=2),
        manifest_of(unit("a"), inputs={"events/d": "ab"}),
    ):
        assert fingerprint(other) != known


def test_fields_that_are_empty_leave_fingerprints_of_old_manifests_as_they_were() -> None:
    """What was published before there were sums of negative and squared weights is not new input for later stages."""
    old = Unit(
        source="qcd/d/a.root",
        source_bytes=7,
        source_checksum="0badcafe",
        entry_start=0,
        entry_stop=3,
        counts={"events": 3},
        weights={"events": 2.5},
        outputs=(manifests.OutputFile(path="a.parquet", bytes=5, checksum="00000001"),),
    )
    manifest = Manifest(stage="select", config_hash="0" * 16, config={}, code=1, units=(old,), code_version="any")
    assert fingerprint(manifest) == "ae4a346dab50b7a6ce71925e303cadbc"
    with_squares = old.model_copy(update={"squared_weights": {"events": 2.25}})
    assert fingerprint(manifest.model_copy(update={"units": (with_squares,)})) != fingerprint(manifest)


@pytest.mark.parametrize(("stage", "matters"), [("ingest", False), ("select", True)])
def test_whether_events_are_stored_is_in_no_fingerprint(stage: str, matters: bool) -> None:
    file = manifests.OutputFile(path="a.parquet", bytes=5, checksum="00000001")
    with_file = manifest_of(unit("a").model_copy(update={"outputs": (file,)}), stage=stage)
    without = manifest_of(unit("a"), stage=stage)
    assert (fingerprint(with_file) != fingerprint(without)) is matters


def test_two_disjoint_runs_merge_into_what_one_would_have_made() -> None:
    mine, winner = (
        manifest_of(unit("b"), unit("c"), notes=("b: x",)),
        manifest_of(unit("a"), unit("b"), notes=("a: y",)),
    )
    both = manifest_of(unit("a"), unit("b"), unit("c"), notes=("a: y", "b: x"))
    assert merge(mine, winner, "out") == both
    assert merge(winner, mine, "out") == both


def test_what_one_of_two_runs_took_out_stays_out() -> None:
    bad, note = BadFile(source="x", reason="bad"), "a: x"
    before = manifest_of(unit("a"), unit("b"), quarantined=(bad,), notes=(note,))
    drops = manifest_of(unit("b"))
    adds = manifest_of(unit("a"), unit("b"), unit("c"), quarantined=(bad,), notes=(note,))
    for mine, winner in ((drops, adds), (adds, drops)):
        assert merge(mine, winner, "out", before) == manifest_of(unit("b"), unit("c"))


@pytest.mark.parametrize("changed", [{"config_hash": "2e"}, {"code": 2}])
def test_two_runs_that_replace_what_was_there_keep_what_both_made(changed: dict[str, Any]) -> None:
    before = manifest_of(unit("a"), unit("b"))
    mine, winner = manifest_of(unit("a"), **changed), manifest_of(unit("b"), **changed)
    assert merge(mine, winner, "out", before) == manifest_of(unit("a"), unit("b"), **changed)


def test_what_both_quarantined_is_listed_once() -> None:
    bad, worse = BadFile(source="x", reason="bad"), BadFile(source="y", reason="worse")
    merged = merge(manifest_of(quarantined=(worse, bad)), manifest_of(quarantined=(bad,)), "out")
    assert merged.quarantined == (bad, worse)


@pytest.mark.parametrize(
    ("winner", "what"),
    [
        (manifest_of(unit("a"), config_hash="2e"), "configuration or inputs"),
        (manifest_of(unit("a"), code=2), "configuration or inputs"),
        (manifest_of(unit("a"), inputs={"events/d": "ab"}), "configuration or inputs"),
        (manifest_of(unit("a", checksum="01")), "a"),
        (manifest_of(quarantined=(BadFile(source="a", reason="bad"),)), "a"),
    ],
)
def test_contradicting_manifests_do_not_merge(winner: Manifest, what: str) -> None:
    mine = manifest_of(unit("a"))
    for one, other in ((mine, winner), (winner, mine)):
        with pytest.raises(ConflictError, match=rf"published to out meanwhile, with other {what}; run again"):
            merge(one, other, "out")


def test_notes_name_each_input_once() -> None:
    assert gather_notes([unit("b", notes=("x",)), unit("a", notes=("x", "y")), unit("b", notes=("x",))]) == (
        "a: x",
        "a: y",
        "b: x",
    )
