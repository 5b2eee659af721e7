from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ingest
from support.delphes_files import collections, read_naively, with_leaf, write_collections, write_events
from support.events import edge_cases, from_events, random_events
from support.on_spark import run_here
from support.spark_tasks import FailsAfter
from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.cross_sections import CrossSection
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io.manifests import (
    Manifest,
    OutputFile,
    Unit,
    adler32,
    fingerprint,
    manifest_name,
    read_manifest,
    read_manifest_if_any,
)
from toposieve.io.parquet import read_event_batches
from toposieve.io.publication import Publication
from toposieve.io.raw import KNOWN_NAME
from toposieve.io.store import Key, root_key
from toposieve.io.units import write_record
from toposieve.spark.ingestion import store_unit
from toposieve.spark.run import Outcome

DAY = "2026-01-01"
JOB = Path(ingest.__file__)
EVENTS = random_events(seed=3, n=12, particles=10)
pytestmark = pytest.mark.usefixtures("spark")


STORED, NOT_STORED = ("--set", "store_events=true"), ("--set", "store_events=false")


def run(base: Path, *arguments: str) -> Manifest:
    """Events are stored, unless the arguments say otherwise: there is more that can go wrong."""
    ingest.main(ingest.arg_parser().parse_args(["--base", str(base), "--partition", DAY, *STORED, *arguments]))
    return read_manifest(target(base))


def target(base: Path) -> Key:
    return root_key("--base", str(base)) / "events" / DAY


def raw(base: Path, name: str, sample: str = "qcd") -> Path:
    return base / "raw" / sample / DAY / name


def files_of(base: Path) -> dict[str, bytes]:
    """Everything in the output except what tells times: how long it took, and the store's versions of the input."""
    folder = base / "events" / DAY
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in ("timing.json", KNOWN_NAME)}


def listed(manifest: Manifest) -> set[str]:
    return {file.path for file in manifest.outputs()}


def events_in(base: Path, manifest: Manifest) -> dict[str, list]:
    """File id → events, in order of entry."""
    found: dict[str, list] = {}
    for unit in manifest.units:
        (file,) = unit.outputs
        for batch in read_event_batches(target(base) / file.path):
            rows = [from_events(batch.events, row) for row in range(len(batch.weight))]
            found.setdefault(unit.source, []).extend(rows)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Files of very different size, one of them empty and one without MuonTight."""
    write_events(raw(tmp_path, "small.root"), EVENTS[:1])
    write_events(raw(tmp_path, "large.root"), EVENTS, weights=[2.0**60, 1, -(2.0**60), 3, *range(4, 12)])
    write_events(raw(tmp_path, "none.root"), [])
    content = collections(EVENTS[:3])
    content["Muon"] = content.pop(schema.MUON)
    write_collections(raw(tmp_path, "loose.root", "ttbar"), content)
    return tmp_path


def test_every_event_arrives_once(base: Path) -> None:
    manifest = run(base, "--set", "entries_per_unit=5")
    assert events_in(base, manifest) == {
        f"qcd/{DAY}/small.root": EVENTS[:1],
        f"qcd/{DAY}/large.root": EVENTS,
        f"ttbar/{DAY}/loose.root": EVENTS[:3],
    }
    ranges = [(Path(unit.source).name, unit.entry_start, unit.entry_stop) for unit in manifest.units]
    assert ranges == [
        ("large.root", 0, 5),
        ("large.root", 5, 10),
        ("large.root", 10, 12),
        ("none.root", 0, 0),
        ("small.root", 0, 1),
        ("loose.root", 0, 3),
    ]
    assert manifest.total("events") == 16
    timing = json.loads((base / "events" / DAY / "timing.json").read_text())
    assert timing["events"] == 16


def test_without_stored_events_there_is_the_manifest_alone(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stored = run(base, "--set", "entries_per_unit=5")
    shutil.rmtree(base / "events")
    monkeypatch.delattr("toposieve.spark.session.spark_session")
    caplog.set_level(logging.INFO)
    manifest = run(base, *NOT_STORED, "--set", "entries_per_unit=5")
    assert set(files_of(base)) == {manifest_name(1)}
    assert [(unit.range, unit.input, unit.counts) for unit in manifest.units] == [
        (unit.range, unit.input, unit.counts) for unit in stored.units
    ]
    assert listed(manifest) == set()
    assert fingerprint(manifest) == fingerprint(stored)
    assert "done: 16 new events of 16" in caplog.text
    assert run(base, *NOT_STORED, "--set", "entries_per_unit=5") == manifest
    assert "nothing to do" in caplog.text


def test_events_may_be_stored_later_and_then_stay(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(base, *NOT_STORED)
    caplog.set_level(logging.INFO)
    stored = run(base)
    assert "4 units: 0 done before, 4 to do" in caplog.text
    assert len(listed(stored)) == 4
    before = times_of(base)
    assert run(base, *NOT_STORED) == stored
    assert times_of(base) == before


def test_a_changed_file_is_stored_anew(base: Path) -> None:
    run(base)
    write_events(raw(base, "small.root"), EVENTS[1:3])
    assert events_in(base, run(base))[f"qcd/{DAY}/small.root"] == EVENTS[1:3]


def test_edge_cases_arrive_unchanged(tmp_path: Path) -> None:
    events = list(edge_cases().values())
    write_events(raw(tmp_path, "edges.root"), events)
    assert events_in(tmp_path, run(tmp_path)) == {f"qcd/{DAY}/edges.root": events}


def test_a_wide_file_arrives_unchanged(tmp_path: Path, wide_file: Path) -> None:
    raw(tmp_path, "").mkdir(parents=True)
    shutil.copy(wide_file, raw(tmp_path, "true.root"))
    assert events_in(tmp_path, run(tmp_path)) == {f"qcd/{DAY}/true.root": read_naively(wide_file, muon="Muon")}


def test_the_fallback_muon_branch_is_noted_and_said_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base, "--set", "entries_per_unit=1")
    assert manifest.notes == (
        f"qcd/{DAY}/small.root: no Event.Weight; each event counts 1",
        f"ttbar/{DAY}/loose.root: no Event.Weight; each event counts 1",
        f"ttbar/{DAY}/loose.root: no MuonTight; muons are those of Muon",
    )
    assert caplog.text.count("muons are those of Muon") == 1
    assert caplog.text.count("no Event.Weight; each event counts 1 (2 of the files)") == 1


# --- running again -------------------------------------------------------------------------------------------------


def times_of(base: Path) -> dict[Path, int]:
    folder = base / "events" / DAY
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_running_again_redoes_nothing(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(base)
    before = times_of(base)
    caplog.set_level(logging.INFO)
    run(base)
    assert times_of(base) == before
    assert "4 units: 4 done before, 0 to do" in caplog.text
    assert "nothing to do" in caplog.text


def test_spark_does_not_start_when_there_is_nothing_to_do(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(base)
    monkeypatch.delattr("toposieve.spark.session.spark_session")
    assert run(base) == first


@pytest.mark.parametrize("limit", ["SECONDS_HERE", "BYTES_HERE"])
def test_many_files_or_bytes_are_inspected_on_spark(
    base: Path, limit: str, fetched: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raw(base, "bad.root").write_bytes(b"")
    here = run(base, "--on-bad-file", "quarantine")
    shutil.rmtree(base / "events")
    monkeypatch.setattr(f"toposieve.spark.inspection.{limit}", -1)
    fetched.clear()
    caplog.set_level(logging.INFO)
    assert run(base, "--on-bad-file", "quarantine") == here
    assert fetched == []
    assert "inspecting files 1 to 5 of 5: done in" in caplog.text


def test_a_run_that_is_ended_has_remembered_what_it_inspected(
    base: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []

    def ends_in_the_second_batch(spark: Any, function: Any, items: Sequence[Any], **more: Any) -> Outcome:
        batches.append(len(items))
        if len(batches) == 2:
            raise KeyboardInterrupt
        return run_here(spark, function, items, **more)

    monkeypatch.setattr("toposieve.spark.inspection.SECONDS_HERE", -1)
    monkeypatch.setattr("toposieve.spark.inspection.FILES_AT_ONCE", 3)
    monkeypatch.setattr("toposieve.spark.inspection.run_on_spark", ends_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        run(base, *NOT_STORED)
    assert batches == [3, 1]
    fetched.clear()
    run(base, *NOT_STORED)
    assert fetched == ["loose.root"]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the ROOT files that this process opens: all of them, but those that tasks read."""
    names: list[str] = []
    real_fetch = Key.fetch

    def fetch(key: Key) -> AbstractContextManager[Path]:
        if key.name.endswith(".root"):
            names.append(key.name)
        return real_fetch(key)

    monkeypatch.setattr(Key, "fetch", fetch)
    return names


def test_a_second_run_reads_no_file(base: Path, fetched: list[str]) -> None:
    run(base)
    assert sorted(fetched) == ["large.root", "loose.root", "none.root", "small.root"]
    fetched.clear()
    run(base)
    assert fetched == []


def test_only_a_file_that_changed_is_read_again(base: Path, fetched: list[str]) -> None:
    first = run(base)
    fetched.clear()
    raw(base, "small.root").touch()
    assert run(base) == first, "a version is part of no identity"
    assert fetched == ["small.root"]


def test_what_is_known_of_other_files_is_not_trusted(base: Path, tmp_path: Path, fetched: list[str]) -> None:
    first = run(base)
    fetched.clear()
    shutil.copytree(base / "raw", tmp_path / "elsewhere")
    assert run(base, "--raw", str(tmp_path / "elsewhere")) == first
    assert sorted(fetched) == ["large.root", "loose.root", "none.root", "small.root"]


def test_new_changed_and_vanished_inputs(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(base)
    write_events(raw(base, "new.root", "wjets"), EVENTS[:2])
    write_events(raw(base, "small.root"), EVENTS[5:9])
    raw(base, "none.root").unlink()
    before = files_of(base)
    with pytest.raises(InvalidInputError, match=rf"inputs are gone .*: qcd/{DAY}/none.root; .*--drop-missing"):
        run(base)
    assert files_of(base) == before
    caplog.set_level(logging.INFO)
    manifest = run(base, "--drop-missing")
    assert "4 units: 2 done before, 2 to do" in caplog.text
    assert f"qcd/{DAY}/none.root is no longer an input" in caplog.text
    assert {source: len(events) for source, events in events_in(base, manifest).items()} == {
        f"qcd/{DAY}/large.root": 12,
        f"qcd/{DAY}/small.root": 4,
        f"ttbar/{DAY}/loose.root": 3,
        f"wjets/{DAY}/new.root": 2,
    }
    assert [unit for unit in first.units if "large" in unit.source] == [manifest.units[0]]
    # Whoever still reads what the first manifest lists can do so until it is swept.
    assert set(files_of(base)) == listed(first) | listed(manifest) | {manifest_name(1), manifest_name(2)}


@pytest.mark.parametrize("damage", ["lost", "cut short", "everything"])
def test_lost_output_comes_back_byte_for_byte(base: Path, damage: str) -> None:
    manifest = run(base)
    before = files_of(base)
    folder = base / "events" / DAY
    largest = folder / max(manifest.outputs(), key=lambda file: file.bytes).path
    if damage == "everything":
        shutil.rmtree(folder)
    elif damage == "lost":
        largest.unlink()
    else:
        largest.write_bytes(largest.read_bytes()[:-1])
    assert run(base) == manifest
    assert files_of(base) == before


def test_damage_that_leaves_the_size_is_noticed_on_request(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base)
    before = files_of(base)
    path = base / "events" / DAY / max(manifest.outputs(), key=lambda file: file.bytes).path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    caplog.set_level(logging.INFO)
    run(base)
    assert files_of(base) != before
    assert run(base, "--verify") == manifest
    assert f"{path} is damaged; doing it again" in caplog.text
    assert "4 units: 3 done before, 1 to do" in caplog.text
    assert "made again, the same as before" in caplog.text
    assert files_of(base) == before


def test_a_record_is_no_reason_to_trust_a_damaged_file(base: Path) -> None:
    """Records stay for a while where another run was at work, or killed, just before they could be removed."""
    manifest = run(base)
    before = files_of(base)
    unit = max(manifest.units, key=lambda unit: unit.outputs[0].bytes)
    (file,) = unit.outputs
    write_record(target(base), file.path, unit)
    (target(base) / file.path).write_bytes(before[file.path][:-1] + b"x")
    assert run(base, "--verify") == manifest
    assert files_of(base) == before


def test_everything_is_made_anew_on_request(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base)
    before, times = files_of(base), times_of(base)
    caplog.set_level(logging.INFO)
    assert run(base, "--recompute") == manifest
    assert "4 units: 0 done before, 4 to do" in caplog.text
    assert {name: content for name, content in files_of(base).items() if "_records" not in name} == before
    assert all(times_of(base)[path] > time for path, time in times.items() if path.suffix == ".parquet")


def test_another_configuration_needs_replace(base: Path) -> None:
    run(base)
    before = files_of(base)
    with pytest.raises(InvalidInputError, match=r"made with another configuration .*--replace"):
        run(base, "--set", "entries_per_unit=4")
    assert files_of(base) == before
    manifest = run(base, "--set", "entries_per_unit=4", "--replace")
    assert len(manifest.units) == 6
    assert before.items() < files_of(base).items()


def test_what_was_replaced_goes_with_a_sweep(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(base)
    (base / "events" / DAY / "mine.txt").write_text("put here by hand")
    second = run(base, "--set", "entries_per_unit=4", "--replace")
    assert listed(first) < set(files_of(base))
    run(base, "--set", "entries_per_unit=4", "--sweep")
    assert set(files_of(base)) == listed(second) | {manifest_name(1), manifest_name(2), "mine.txt"}
    assert len(files_of(base)[manifest_name(1)]) < 500, "a stub, so that its number is never free again"
    assert run(base, "--set", "entries_per_unit=4") == second


def test_history_is_shown_and_nothing_else_done(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(base)
    run(base, "--set", "entries_per_unit=4", "--replace")
    raw(base, "new.root").write_bytes(b"bad")
    before = times_of(base)
    capsys.readouterr()
    run(base, "--history")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head == f"{target(base)}:"
    assert re.match(r" +1  20\d\d-\d\d-\d\dT.*  ingest: 4 units, 16 events, configuration \w+, code \d+$", first)
    assert re.match(
        r" +2  20.*  ingest: 6 units, 16 events, .*\(6 files more, 4 files less, entries_per_unit .* → 4\)$", second
    )
    assert times_of(base) == before


def test_samples_not_asked_for_stay(base: Path) -> None:
    everything = run(base)
    raw(base, "small.root").unlink()
    assert run(base, "--samples", "ttbar").units == everything.units
    with pytest.raises(InvalidInputError, match=r"no ROOT files .*raw/wjets/2026-01-01: .*simulate.py"):
        run(base, "--samples", "wjets")
    assert run(base, "--samples", "wjets", "ttbar").units == everything.units
    assert [unit.source for unit in run(base, "--samples", "qcd", "--drop-missing").units] == [
        f"qcd/{DAY}/large.root",
        f"qcd/{DAY}/none.root",
        f"ttbar/{DAY}/loose.root",
    ]


def test_samples_not_asked_for_may_not_be_of_other_code(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODE_NUMBERS, "ingest", 1000)
    run(base)
    monkeypatch.setitem(CODE_NUMBERS, "ingest", 1001)
    with pytest.raises(InvalidInputError, match=r"ttbar were .*other code \(number 1000, now 1001\): run with"):
        run(base, "--samples", "qcd")
    assert read_manifest(target(base)).code == 1000
    assert run(base).code == 1001


def test_a_damaged_file_of_a_sample_not_asked_for_stays_listed(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    everything = run(base)
    (damaged,) = [unit for unit in everything.units if unit.source.startswith("ttbar")]
    (target(base) / damaged.outputs[0].path).write_text("damaged")
    write_events(raw(base, "new.root"), EVENTS[:2])
    manifest = run(base, "--samples", "qcd")
    assert [unit for unit in manifest.units if "new.root" not in unit.source] == list(everything.units)
    assert damaged in run(base).units
    assert read_manifest(target(base)).total("events") == 18
    assert "to be done again" in caplog.text


def test_replacing_one_sample_removes_the_others_of_the_old_configuration(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(base)
    manifest = run(base, "--samples", "qcd", "--set", "entries_per_unit=4", "--replace")
    assert {unit.source.split("/")[0] for unit in manifest.units} == {"qcd"}
    assert f"ttbar/{DAY}/loose.root is no longer an input of this configuration" in caplog.text


def publish_after(monkeypatch: pytest.MonkeyPatch, other: Callable[[], object]) -> None:
    """Let another run publish just before the next one does."""
    real_publish = Publication.publish

    def publish(self: Publication, manifest: Manifest) -> Manifest:
        monkeypatch.setattr(Publication, "publish", real_publish)
        other()
        return real_publish(self, manifest)

    monkeypatch.setattr(Publication, "publish", publish)


@pytest.mark.parametrize("samples", [[], ["--samples", "qcd"]])
def test_runs_that_do_not_contradict_each_other_merge(
    base: Path, monkeypatch: pytest.MonkeyPatch, samples: list[str]
) -> None:
    publish_after(monkeypatch, lambda: run(base, *samples))
    merged = run(base, "--samples", "ttbar") if samples else run(base)
    assert merged.total("events") == 16
    assert run(base) == merged
    assert set(files_of(base)) == listed(merged) | {manifest_name(number) for number in range(1, 2 + len(samples[:1]))}


def test_a_run_that_contradicts_the_one_before_it_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_after(monkeypatch, lambda: run(base, "--set", "entries_per_unit=4"))
    with pytest.raises(ConflictError, match="run again to go on from its result"):
        run(base)
    assert len(read_manifest(target(base)).units) == 6


# --- going on ------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_from_what_another_has_left(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("--set", "entries_per_unit=2")
    undisturbed = run(base, *settings)
    expected = files_of(base)
    shutil.rmtree(base / "events")
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.setattr("toposieve.spark.ingestion.store_unit", FailsAfter(store_unit, 4, made))
    with pytest.raises(OSError, match="No space left"):
        run(base, *settings)
    left = times_of(base)
    assert len([path for path in left if path.suffix == ".parquet"]) in (4, 5)  # two tasks count at once
    monkeypatch.undo()
    assert run(base, *settings) == undisturbed
    assert files_of(base) == expected
    after = times_of(base)
    assert all(after[path] == time for path, time in left.items() if path.suffix == ".parquet"), (
        "nothing was made twice"
    )


def test_a_run_goes_on_where_only_the_manifest_was_lacking(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        """As SIGKILL would, as far as files go."""
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Publication, "publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(base)
    left = times_of(base)
    manifest = run(base)
    assert json.loads((base / "events" / DAY / "timing.json").read_text())["events"] == 0
    assert listed(manifest) <= set(files_of(base))
    assert {path: time for path, time in times_of(base).items() if path in left} == {
        path: time for path, time in left.items() if path.parent.name != "_records"
    }


def as_before_numbers(base: Path) -> None:
    """Make the output look as versions of this project before numbered manifests have left it."""
    folder = base / "events" / DAY
    manifest = read_manifest(target(base))
    units = []
    for unit in manifest.units:
        (file,) = unit.outputs
        old = file.model_copy(update={"path": f"{Path(unit.source).stem}-0-{'0' * 12}.parquet", "checksum": "f" * 32})
        (folder / file.path).rename(folder / old.path)
        units.append(unit.model_copy(update={"outputs": (old,), "source_bytes": 0, "source_checksum": "e" * 32}))
    content = manifest.model_copy(update={"units": tuple(units)}).model_dump(mode="json", exclude={"code"})
    for old_unit in content["units"]:
        del old_unit["source_bytes"]
    (folder / manifest_name(1)).unlink()
    (folder / KNOWN_NAME).unlink()
    (folder / "manifest.json").write_text(json.dumps(content, indent=1))


def test_output_of_versions_before_numbers_is_read_and_made_again(base: Path) -> None:
    manifest = run(base)
    as_before_numbers(base)
    assert events_in(base, read_manifest(target(base))) == events_in(base, run(base))
    assert read_manifest(target(base)) == manifest
    assert {"manifest.json", manifest_name(1)} < set(files_of(base))


# --- bad input -----------------------------------------------------------------------------------------------------


def nan_in_entry_9(path: Path) -> None:
    content = collections(EVENTS)
    values = content["MissingET"].leaves["MET"].copy()
    values[9] = np.nan
    write_collections(path, with_leaf(content, "MissingET", "MET", values))


def truncate(path: Path) -> None:
    content = write_events(path, EVENTS).read_bytes()
    path.write_bytes(content[: len(content) // 2])


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "cut short|cannot be read as ROOT"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "no ROOT": (lambda path: path.write_text("text" * 500), "cannot be read as ROOT"),
    "dangling": (lambda path: path.symlink_to("nowhere.root"), "no such file, or a link that leads nowhere"),
    "no tree": (lambda path: write_collections(path, collections(EVENTS), tree="T"), "no tree Delphes"),
    "no branch": (
        lambda path: write_collections(path, with_leaf(collections(EVENTS), "Jet", "BTag", None)),
        "no branch Jet.BTag",
    ),
    "NaN": (nan_in_entry_9, "MissingET.MET is nan in entry 9"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_stops_the_run_and_nothing_is_published(base: Path, kind: str) -> None:
    spoil, message = BAD_FILES[kind]
    spoil(raw(base, "bad.root"))
    with pytest.raises(InvalidInputError, match=rf"qcd/{DAY}/bad.root: .*({message}).*--on-bad-file quarantine"):
        run(base, "--set", "entries_per_unit=5")
    assert read_manifest_if_any(target(base)) is None


def test_quarantine_goes_on_without_bad_files(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = run(base, "--set", "entries_per_unit=5")
    kinds = sorted(BAD_FILES.keys() - {"NaN"})
    for kind in kinds:
        BAD_FILES[kind][0](raw(base, f"{kind}.root"))
    manifest = run(base, "--set", "entries_per_unit=5", "--on-bad-file", "quarantine")
    assert manifest.units == good.units
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{DAY}/{kind}.root" for kind in kinds]
    assert listed(manifest) == listed(good)
    assert f"quarantined: qcd/{DAY}/empty.root: the file is empty" in caplog.text


def test_a_file_that_cannot_be_stored_is_left_to_the_selection(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not listed as bad here: whether events are stored decides nothing."""
    nan_in_entry_9(raw(base, "bad.root"))
    caplog.set_level(logging.INFO)
    manifest = run(base, "--set", "entries_per_unit=5", "--on-bad-file", "quarantine")
    assert manifest.quarantined == ()
    assert [len(unit.outputs) for unit in manifest.units if "bad" in unit.source] == [1, 0, 1]
    assert f"left to the selection to refuse: qcd/{DAY}/bad.root: MissingET.MET is nan in entry 9" in caplog.text
    assert run(base, "--set", "entries_per_unit=5", "--on-bad-file", "quarantine") == manifest
    assert "nothing to do" in caplog.text
    write_events(raw(base, "bad.root"), EVENTS)
    mended = run(base, "--set", "entries_per_unit=5")
    assert events_in(base, mended)[f"qcd/{DAY}/bad.root"] == EVENTS


def test_a_read_that_fails_once_quarantines_nothing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [OSError(errno.ENOTCONN, "Transport endpoint is not connected"), OSError(errno.EKEYEXPIRED, "expired")]

    def fail_first(path: Path) -> str:
        if failures:
            raise failures.pop()
        return adler32(path)

    monkeypatch.setattr("toposieve.io.delphes.adler32", fail_first)
    monkeypatch.setattr("toposieve.spark.run.RETRY_SECONDS", (0.0, 0.0))
    assert run(base, "--on-bad-file", "quarantine").quarantined == ()
    assert failures == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("a bug"), RuntimeError),
        (TypeError("a bug"), RuntimeError),
        (ModuleNotFoundError("No module named 'xxhash'"), RuntimeError),
        (OSError(errno.EKEYEXPIRED, "expired"), OSError),
        (PermissionError(errno.EACCES, "Permission denied"), OSError),
    ],
)
def test_what_is_not_the_file_s_fault_quarantines_nothing(
    base: Path, error: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> str:
        raise error

    monkeypatch.setattr("toposieve.io.delphes.adler32", fail)
    monkeypatch.setattr("toposieve.spark.run.RETRY_SECONDS", ())
    with pytest.raises(kind):
        run(base, "--on-bad-file", "quarantine")
    assert read_manifest_if_any(target(base)) is None


def test_only_bad_files_are_an_error_even_with_quarantine(tmp_path: Path) -> None:
    raw(tmp_path, "").mkdir(parents=True)
    truncate(raw(tmp_path, "bad.root"))
    with pytest.raises(InvalidInputError, match=r"every file is bad:\nqcd/"):
        run(tmp_path, "--on-bad-file", "quarantine")


def test_a_simulated_file_must_be_there_as_its_manifest_lists_it(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_events(raw(base, "simulated/qcd-000000-0123456789ab.root"), EVENTS[:2])
    with pytest.raises(InvalidInputError, match=rf"raw/qcd/{DAY} holds a simulation that is not finished: run"):
        run(base)
    publish_simulated(base, path)
    manifest = run(base, "--samples", "qcd")
    assert [unit.source for unit in manifest.units] == [f"qcd/{DAY}/simulated/{path.name}"]
    assert [unit.cross_section for unit in manifest.units] == [SIGMA]
    assert "does not list them: large.root, none.root, small.root" in caplog.text
    write_events(path, EVENTS[:3])
    with pytest.raises(InvalidInputError, match=rf"{path.name}: not the file that the manifest there lists; run simul"):
        run(base)
    path.unlink()
    with pytest.raises(InvalidInputError, match=rf"{path.name}: no such file"):
        run(base)


SIGMA = CrossSection(3.0, 0.5, 10)


def publish_simulated(base: Path, path: Path) -> None:
    """A simulation's manifest that lists one file."""
    file = OutputFile(path=f"simulated/{path.name}", bytes=path.stat().st_size, checksum=adler32(path))
    counts: dict[str, int] = {}
    unit = Unit(
        source="a", source_checksum="", entry_start=0, entry_stop=2, counts=counts, cross_section=SIGMA, outputs=(file,)
    )
    manifest = Manifest(stage="simulate", config_hash="1f", config={}, units=(unit,), code_version="v1")
    (raw(base, "") / manifest_name(1)).write_bytes(manifest.to_bytes())


def test_a_sample_out_of_reach_stays_in_the_output(base: Path) -> None:
    manifest = run(base)
    (base / "raw" / "ttbar").rename(base / "elsewhere")
    with pytest.raises(InvalidInputError, match=rf"are gone .*: ttbar/{DAY}/loose.root; .*--drop-missing"):
        run(base, "--on-bad-file", "quarantine")
    (base / "raw" / "ttbar").symlink_to(base / "not mounted")
    with pytest.raises(InvalidInputError, match="raw/ttbar is a link that leads nowhere"):
        run(base, "--drop-missing")
    assert read_manifest(target(base)) == manifest


# --- copies --------------------------------------------------------------------------------------------------------


@pytest.fixture
def copies(base: Path) -> Path:
    """A copy of one file, a link to another, and two files without entries."""
    shutil.copy(raw(base, "large.root"), raw(base, "a copy.root"))
    raw(base, "link.root").symlink_to(raw(base, "small.root"))
    shutil.copy(raw(base, "none.root"), raw(base, "none too.root"))
    return base


def test_copies_and_links_are_refused_and_both_are_named(copies: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        run(copies)
    assert [line.partition(";")[0] for line in sorted(str(caught.value).splitlines())] == [
        f"qcd/{DAY}/large.root: the same file as qcd/{DAY}/a copy.root",
        f"qcd/{DAY}/small.root: the same file as qcd/{DAY}/link.root",
    ]
    assert read_manifest_if_any(target(copies)) is None


def test_copies_are_quarantined_while_there_is_an_original(copies: Path) -> None:
    manifest = run(copies, "--on-bad-file", "quarantine")
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{DAY}/large.root", f"qcd/{DAY}/small.root"]
    assert {unit.source for unit in manifest.units} == {
        f"qcd/{DAY}/{name}.root" for name in ("a copy", "link", "none", "none too")
    } | {f"ttbar/{DAY}/loose.root"}
    raw(copies, "a copy.root").unlink()
    manifest = run(copies, "--on-bad-file", "quarantine", "--drop-missing")
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{DAY}/small.root"]


def test_of_copies_in_two_samples_nobody_knows_which_is_right(base: Path) -> None:
    shutil.copy(raw(base, "large.root"), raw(base, "large.root", "ttbar"))
    manifest = run(base, "--on-bad-file", "quarantine")
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{DAY}/large.root", f"ttbar/{DAY}/large.root"]


def test_hidden_files_are_no_input(base: Path) -> None:
    first = run(base)
    raw(base, ".small.root.k3J").write_bytes(b"half a copy")
    raw(base, ".hidden.root").write_bytes(b"half a copy")
    raw(base, "._small.root").write_bytes(b"a copy by macOS, with what its file system knows")
    assert run(base) == first


def test_long_names_work_and_names_that_are_not_utf8_are_bad_files(base: Path) -> None:
    write_events(raw(base, f"{'é' * 105}.root"), EVENTS[3:5])
    write_events(raw(base, "caf\udce9.root"), EVENTS[5:7])
    with pytest.raises(InvalidInputError, match=rf"^qcd/{DAY}/caf\\xe9.root: its name is not UTF-8; rename it$"):
        run(base)
    manifest = run(base, "--on-bad-file", "quarantine")
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{DAY}/caf\\xe9.root"]
    assert events_in(base, manifest)[f"qcd/{DAY}/{'é' * 105}.root"] == EVENTS[3:5]


def test_a_partition_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no ROOT files .*raw/qcd/2026-01-01.*simulate.py"):
        run(tmp_path)


def test_a_full_disk_is_an_error_of_its_own(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_space)
    with pytest.raises(OSError, match="No space left"):
        run(base)


# --- the command line ----------------------------------------------------------------------------------------------


def command(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(JOB), "--base", str(base), "--partition", DAY, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "higgs"], "invalid choice: 'higgs'"),
        (["--set", "entries_per_uint=3"], "entries_per_uint: unknown key; IngestConfig knows entries_per_unit"),
        (["--set", "entries_per_unit=0"], "entries_per_unit: Input should be greater than or equal to 1"),
        (["--partition", "../x"], "--partition '../x': use letters"),
    ],
)
def test_wrong_arguments_exit_with_two(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = command(tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_bad_file_exits_with_two_and_one_line(base: Path) -> None:
    nan_in_entry_9(raw(base, "bad.root"))
    result = command(base, *STORED, "--master", "local[1]")
    assert result.returncode == 2, result.stderr
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: qcd/{DAY}/bad.root: MissingET.MET is nan in entry 9;")
    assert "Traceback" not in result.stderr
    assert read_manifest_if_any(target(base)) is None


def test_the_number_of_cores_changes_no_byte(base: Path) -> None:
    results = []
    for master in ("local[1]", "local[4]"):
        result = command(base, *STORED, "--master", master, "--set", "entries_per_unit=2")
        assert result.returncode == 0, result.stderr
        assert f"published {base}/events/{DAY}/manifest-000001.json" in result.stdout
        results.append(files_of(base))
        shutil.rmtree(base / "events")
    assert results[0] == results[1]
