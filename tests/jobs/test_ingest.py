from __future__ import annotations

import errno
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ingest
from support.delphes_files import collections, read_naively, with_leaf, write_collections, write_events
from support.events import edge_cases, from_events, random_events
from toposieve import schema
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io.manifests import MANIFEST_NAME, Manifest, Publication, Unit, describe_file, read_manifest
from toposieve.io.parquet import read_event_batches

DAY = "2026-01-01"
JOB = Path(ingest.__file__)
EVENTS = random_events(seed=3, n=12, particles=10)
pytestmark = pytest.mark.usefixtures("spark")


def run(base: Path, *arguments: str) -> Manifest:
    ingest.main(ingest.arg_parser().parse_args(["--base", str(base), "--partition", DAY, *arguments]))
    return read_manifest(base / "events" / DAY)


def raw(base: Path, name: str, sample: str = "qcd") -> Path:
    return base / "raw" / sample / DAY / name


def files_of(base: Path) -> dict[str, bytes]:
    """Everything in the output except timing.json."""
    folder = base / "events" / DAY
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "timing.json"}


def events_in(base: Path, manifest: Manifest) -> dict[str, list]:
    """File id → events, in order of entry."""
    found: dict[str, list] = {}
    for unit in manifest.units:
        (file,) = unit.outputs
        for batch in read_event_batches(base / "events" / DAY / file.path):
            rows = [from_events(batch.events, row) for row in range(len(batch.weight))]
            found.setdefault(unit.source, []).extend(rows)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Files of very different size, one of them empty and one without MuonTight."""
    write_events(raw(tmp_path, "small.root"), EVENTS[:1])
    write_events(raw(tmp_path, "large.root"), EVENTS, weights=range(12))
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
    assert [unit.weights["events"] for unit in manifest.units] == [10, 35, 21, 0, 1, 3]
    timing = json.loads((base / "events" / DAY / "timing.json").read_text())
    assert timing["events"] == 16


def test_edge_cases_arrive_unchanged(tmp_path: Path) -> None:
    events = list(edge_cases().values())
    write_events(raw(tmp_path, "edges.root"), events)
    assert events_in(tmp_path, run(tmp_path)) == {f"qcd/{DAY}/edges.root": events}


def test_a_true_delphes_file_arrives_unchanged(tmp_path: Path, delphes_file: Path) -> None:
    raw(tmp_path, "").mkdir(parents=True)
    shutil.copy(delphes_file, raw(tmp_path, "true.root"))
    assert events_in(tmp_path, run(tmp_path)) == {f"qcd/{DAY}/true.root": read_naively(delphes_file, muon="Muon")}


def test_the_fallback_muon_branch_is_noted_and_said_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base, "--set", "entries_per_unit=1")
    assert manifest.notes == (f"ttbar/{DAY}/loose.root: no MuonTight; muons are those of Muon",)
    assert caplog.text.count("muons are those of Muon") == 1


# --- running again -------------------------------------------------------------------------------------------------


def test_running_again_redoes_nothing(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(base)
    before = {path: path.stat().st_mtime_ns for path in (base / "events" / DAY).iterdir()}
    caplog.set_level(logging.INFO)
    run(base)
    assert {path: path.stat().st_mtime_ns for path in (base / "events" / DAY).iterdir()} == before
    assert "4 units: 4 done before, 0 to do" in caplog.text
    assert "nothing to do" in caplog.text


def test_spark_does_not_start_when_there_is_nothing_to_do(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(base)
    monkeypatch.delattr("toposieve.spark.ingestion.spark_session")
    assert run(base) == first


def test_many_bytes_are_inspected_on_spark(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw(base, "bad.root").write_bytes(b"")
    here = run(base, "--on-bad-file", "quarantine")
    shutil.rmtree(base / "events")
    monkeypatch.setattr("toposieve.spark.ingestion.INSPECTED_HERE", 0)
    monkeypatch.delattr("toposieve.spark.ingestion.inspect_files")
    assert run(base, "--on-bad-file", "quarantine") == here


def test_new_changed_and_vanished_inputs(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(base)
    write_events(raw(base, "new.root", "wjets"), EVENTS[:2])
    write_events(raw(base, "small.root"), EVENTS[5:9])
    raw(base, "none.root").unlink()
    caplog.set_level(logging.INFO)
    manifest = run(base)
    assert "4 units: 2 done before, 2 to do" in caplog.text
    assert f"qcd/{DAY}/none.root is no longer an input" in caplog.text
    assert {source: len(events) for source, events in events_in(base, manifest).items()} == {
        f"qcd/{DAY}/large.root": 12,
        f"qcd/{DAY}/small.root": 4,
        f"ttbar/{DAY}/loose.root": 3,
        f"wjets/{DAY}/new.root": 2,
    }
    assert [unit for unit in first.units if "large" in unit.source] == [manifest.units[0]]
    assert set(files_of(base)) == {file.path for file in manifest.outputs()} | {MANIFEST_NAME}


@pytest.mark.parametrize("damage", ["lost", "altered", "everything"])
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
        largest.write_bytes(largest.read_bytes()[:-1] + b"x")
    run(base)
    assert files_of(base) == before


def test_another_configuration_needs_replace(base: Path) -> None:
    run(base)
    before = files_of(base)
    with pytest.raises(InvalidInputError, match=r"made with another configuration .*--replace"):
        run(base, "--set", "entries_per_unit=4")
    assert files_of(base) == before
    manifest = run(base, "--set", "entries_per_unit=4", "--replace")
    assert len(manifest.units) == 6
    assert set(files_of(base)) == {file.path for file in manifest.outputs()} | {MANIFEST_NAME}


def test_samples_not_asked_for_stay(base: Path) -> None:
    everything = run(base)
    raw(base, "small.root").unlink()
    assert run(base, "--samples", "ttbar").units == everything.units
    with pytest.raises(InvalidInputError, match=r"no ROOT files .*raw/wjets/2026-01-01: .*simulate.py"):
        run(base, "--samples", "wjets", "ttbar")
    assert [unit.source for unit in run(base, "--samples", "qcd").units] == [
        f"qcd/{DAY}/large.root",
        f"qcd/{DAY}/none.root",
        f"ttbar/{DAY}/loose.root",
    ]


def test_a_damaged_file_of_a_sample_not_asked_for_stays_listed(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    everything = run(base)
    (damaged,) = [unit for unit in everything.units if unit.source.startswith("ttbar")]
    (base / "events" / DAY / damaged.outputs[0].path).write_bytes(b"damaged")
    write_events(raw(base, "new.root"), EVENTS[:2])
    manifest = run(base, "--samples", "qcd")
    assert [unit for unit in manifest.units if "new.root" not in unit.source] == list(everything.units)
    assert "doing it again" not in caplog.text
    assert damaged in run(base).units
    assert read_manifest(base / "events" / DAY).total("events") == 18
    assert "doing it again" in caplog.text


def test_replacing_one_sample_removes_the_others_of_the_old_configuration(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(base)
    manifest = run(base, "--samples", "qcd", "--set", "entries_per_unit=4", "--replace")
    assert {unit.source.split("/")[0] for unit in manifest.units} == {"qcd"}
    assert f"ttbar/{DAY}/loose.root is no longer an input of this configuration" in caplog.text


def test_the_run_that_ends_second_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_publish = Publication.publish

    def publish_after_another(self: Publication, *arguments: object) -> None:
        monkeypatch.setattr(Publication, "publish", real_publish)
        run(base)
        real_publish(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Publication, "publish", publish_after_another)
    with pytest.raises(ConflictError, match="run again to go on from its result"):
        run(base)
    assert read_manifest(base / "events" / DAY).total("events") == 16


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
    "unreadable": (lambda path: path.mkdir(), "cannot be read as ROOT .*Is a directory"),
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
    assert files_of(base) == {}


def test_quarantine_goes_on_without_the_whole_file(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = run(base, "--set", "entries_per_unit=5")
    for kind, (spoil, _) in BAD_FILES.items():
        spoil(raw(base, f"{kind}.root"))
    manifest = run(base, "--set", "entries_per_unit=5", "--on-bad-file", "quarantine")
    # The first units of the file with a NaN in entry 9 are good, and out all the same.
    assert manifest.units == good.units
    assert [bad.source for bad in manifest.quarantined] == sorted(f"qcd/{DAY}/{kind}.root" for kind in BAD_FILES)
    assert set(files_of(base)) == {file.path for file in manifest.outputs()} | {MANIFEST_NAME}
    assert f"quarantined: qcd/{DAY}/NaN.root: MissingET.MET is nan in entry 9" in caplog.text


def test_a_quarantined_file_is_tried_again_only_when_it_changes(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nan_in_entry_9(raw(base, "bad.root"))
    first = run(base, "--on-bad-file", "quarantine")
    caplog.clear()
    assert run(base, "--on-bad-file", "quarantine") == first
    assert "nothing to do" in caplog.text
    with pytest.raises(InvalidInputError, match="entry 9"):
        run(base)
    write_events(raw(base, "bad.root"), EVENTS)
    mended = run(base)
    assert mended.quarantined == ()
    assert mended.total("events") == first.total("events") + 12


def test_only_bad_files_are_an_error_even_with_quarantine(tmp_path: Path) -> None:
    raw(tmp_path, "").mkdir(parents=True)
    truncate(raw(tmp_path, "bad.root"))
    with pytest.raises(InvalidInputError, match=r"every file is bad:\nqcd/"):
        run(tmp_path, "--on-bad-file", "quarantine")


def test_a_simulated_file_must_be_there_as_its_manifest_lists_it(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = raw(base, "")
    with Publication(folder) as publication:
        staged = write_events(publication.staging / "listed.root", EVENTS[:2])
        file = describe_file(staged, publication.staging)
        unit = Unit(source="seed", source_checksum="", entry_start=0, entry_stop=2, counts={}, outputs=(file,))
        publication.publish(
            Manifest(stage="simulate", config_hash="1f", config={}, units=(unit,), code_version="v1"), [file]
        )
    manifest = run(base, "--samples", "qcd")
    assert [unit.source for unit in manifest.units] == [f"qcd/{DAY}/listed.root"]
    assert "does not list them: large.root, none.root, small.root" in caplog.text
    write_events(folder / "listed.root", EVENTS[:3])
    with pytest.raises(InvalidInputError, match=r"listed.root: not the file that manifest.json lists; run simulate"):
        run(base)
    (folder / "listed.root").unlink()
    with pytest.raises(InvalidInputError, match=r"listed.root: cannot be read .*No such file"):
        run(base)


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
    result = command(base, "--master", "local[1]")
    assert result.returncode == 2, result.stderr
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: qcd/{DAY}/bad.root: MissingET.MET is nan in entry 9;")
    assert "Traceback" not in result.stderr
    assert files_of(base) == {}


def test_the_number_of_cores_changes_no_byte(base: Path) -> None:
    results = []
    for master in ("local[1]", "local[4]"):
        result = command(base, "--master", master, "--set", "entries_per_unit=2")
        assert result.returncode == 0, result.stderr
        assert f"published {base}/events/{DAY}/manifest.json" in result.stdout
        results.append(files_of(base))
        shutil.rmtree(base / "events")
    assert results[0] == results[1]
