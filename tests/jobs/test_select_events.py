from __future__ import annotations

import copy
import errno
import json
import logging
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import ingest
import select_events
from support import spark_tasks
from support.delphes_files import collections, read_naively, with_leaf, write_collections, write_events
from support.events import ELECTRON, MUON, edge_cases, make_event, random_events, track
from support.reference import Event, reference_cutflow, reference_select
from support.spark_tasks import FailsAfter
from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SelectionConfig
from toposieve.cross_sections import CrossSection
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io import datasets
from toposieve.io.manifests import BadFile, Manifest, fingerprint, manifest_name, read_manifest, read_manifest_if_any
from toposieve.io.parquet import PARTICLE_COLUMNS, SELECTED_SCHEMA
from toposieve.io.publication import Publication
from toposieve.io.store import Key, root_key
from toposieve.physics.features import low_level_features
from toposieve.spark.selection import Selected, select_unit

DAY = "2026-01-01"
JOB = Path(select_events.__file__)
CONFIG = SelectionConfig()
EVENTS = random_events(seed=4, n=12, particles=20)
STORED = ("--set", "store_events=true")
SIGNED = [2.0**60, 1.0, -(2.0**60), 3.0]
"""Weights whose sum, 4, doubles lose when they add them up one after the other."""
pytestmark = pytest.mark.usefixtures("spark")


def run_ingest(base: Path, *arguments: str) -> Manifest:
    ingest.main(ingest.arg_parser().parse_args(["--base", str(base), "--partition", DAY, *arguments]))
    return read_manifest(source(base))


def run(base: Path, *arguments: str) -> Manifest:
    select_events.main(select_events.arg_parser().parse_args(["--base", str(base), "--partition", DAY, *arguments]))
    return read_manifest(target(base))


def source(base: Path) -> Key:
    return root_key("--base", str(base)) / "events" / DAY


def target(base: Path) -> Key:
    return root_key("--base", str(base)) / "selected" / DAY


def raw(base: Path, name: str, sample: str = "qcd") -> Path:
    return base / "raw" / sample / DAY / name


def files_of(base: Path) -> dict[str, bytes]:
    """Everything in the output except timing.json."""
    folder = base / "selected" / DAY
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "timing.json"}


def times_of(base: Path) -> dict[str, int]:
    return {name: (base / "selected" / DAY / name).stat().st_mtime_ns for name in [*files_of(base), "timing.json"]}


def listed(manifest: Manifest) -> set[str]:
    return {file.path for file in manifest.outputs()}


def publish_events(base: Path, **fields: Any) -> Manifest:
    """Publish the same events with some fields of the manifest changed."""
    with Publication(source(base)) as publication:
        assert publication.previous is not None
        return publication.publish(publication.previous.model_copy(update=fields))


def cutflow_of(base: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((base / "selected" / DAY / "cutflow.json").read_text())
    return content


def rows_of(base: Path, manifest: Manifest, file_id: str) -> Iterator[dict[str, Any]]:
    for unit in manifest.units:
        if unit.source == file_id:
            (file,) = unit.outputs
            table = pq.read_table(base / "selected" / DAY / file.path)
            assert table.schema.equals(SELECTED_SCHEMA)
            yield from sorted(table.to_pylist(), key=lambda row: row["entry"])


def assert_as_reference(
    rows: Sequence[dict[str, Any]], events: Sequence[Event], config: SelectionConfig, mask: int
) -> None:
    """The rows are the reference's selected events, with the reference's features."""
    expected = {entry: reference_select(event, config, mask) for entry, event in enumerate(events)}
    expected = {entry: event for entry, event in expected.items() if event is not None}
    assert [row["entry"] for row in rows] == list(expected)
    for row in rows:
        reference = expected[row["entry"]]
        high_level = [reference.high_level[name] for name in schema.HIGH_LEVEL_FEATURES]
        np.testing.assert_allclose(row["hlf"], high_level, rtol=1e-5, atol=1e-5)
        columns = {name: np.array(row[name], dtype=dtype) for name, dtype in PARTICLE_COLUMNS.items()}
        particles = [[particle[name] for name in schema.LOW_LEVEL_FEATURES] for particle in reference.particles]
        np.testing.assert_allclose(low_level_features(columns), particles, rtol=1e-5, atol=1e-5)


def with_planted(event: Event, electrons: Sequence[dict[str, float]], muons: Sequence[dict[str, float]]) -> Event:
    """The event with more leptons, each with a track of its own in front of the others."""
    planted = copy.deepcopy(event)
    for collection, leptons in (("Electron", electrons), (schema.MUON, muons)):
        for lepton in leptons:
            own = track(lepton["PT"], lepton["Eta"], lepton["Phi"], int(lepton["Charge"]), 0.25, 0.5, 2)
            for name, row in ((collection, lepton), ("EFlowTrack", own)):
                for leaf, values in planted[name].items():
                    values.insert(0, row[leaf])
    return planted


# --- against the reference -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides", [{}, {"isolation_max": 0.2, "lepton_pt_min": 30.0, "jet_lepton_dr": 0.0, "isolation_cone": 0.5}]
)
def test_edge_cases_and_random_events_are_as_the_reference_says(tmp_path: Path, overrides: dict[str, float]) -> None:
    events = [*edge_cases().values(), *random_events(seed=5, n=60)]
    config = SelectionConfig(**overrides, btag_mask={"qcd": 1, "ttbar": 2, "wjets": 1})
    weights = np.linspace(0.5, 2, len(events), dtype=np.float32)
    write_events(raw(tmp_path, "edges.root", "ttbar"), events, weights)
    run_ingest(tmp_path, "--set", "entries_per_unit=40")
    manifest = run(tmp_path, "--config", config.model_dump_json())
    rows = list(rows_of(tmp_path, manifest, f"ttbar/{DAY}/edges.root"))
    assert_as_reference(rows, events, config, mask=2)
    assert [row["weight"] for row in rows] == [weights[row["entry"]] for row in rows]
    counts = {cut: manifest.total(cut) for cut in schema.CUTFLOW}
    assert counts == reference_cutflow(events, config)
    assert 10 < counts["isolated_lepton"] < counts["lepton_pt"] < counts["events"]


def test_a_variation_lies_beside_the_selection_and_has_its_own_features(tmp_path: Path) -> None:
    events, file = [*edge_cases().values(), *random_events(seed=5, n=60)], f"ttbar/{DAY}/edges.root"
    write_events(raw(tmp_path, "edges.root", "ttbar"), events)
    run_ingest(tmp_path, "--set", "entries_per_unit=40")
    run(tmp_path)
    before, name, scale = files_of(tmp_path), f"{DAY}.met-up", np.float32(1.5)
    run(tmp_path, "--set", "met_scale=1.5", "--selected", name)
    assert files_of(tmp_path) == before
    manifest = read_manifest(root_key("--base", str(tmp_path)) / "selected" / name)
    (tmp_path / "selected" / DAY).rename(tmp_path / "nominal")
    (tmp_path / "selected" / name).rename(tmp_path / "selected" / DAY)
    scaled = copy.deepcopy(events)
    for event in scaled:
        event["MissingET"]["MET"] = [float(np.float32(met) * scale) for met in event["MissingET"]["MET"]]
    assert_as_reference(list(rows_of(tmp_path, manifest, file)), scaled, CONFIG, mask=1)
    with pytest.raises(InvalidInputError, match="was made with another configuration"):
        run(tmp_path)


def test_a_true_delphes_file_is_as_the_reference_says(tmp_path: Path, delphes_file: Path) -> None:
    events = read_naively(delphes_file, muon="Muon")
    raw(tmp_path, "").mkdir(parents=True)
    shutil.copy(delphes_file, raw(tmp_path, "true.root"))
    run_ingest(tmp_path)
    manifest = run(tmp_path)
    assert {cut: manifest.total(cut) for cut in schema.CUTFLOW} == reference_cutflow(events, CONFIG)
    rows = list(rows_of(tmp_path, manifest, f"qcd/{DAY}/true.root"))
    assert len(rows) == 1
    assert_as_reference(rows, events, CONFIG, mask=1)
    assert manifest.notes == (
        f"qcd/{DAY}/true.root: Jet.BTag has bits beside the mask 1 (btag_mask)",
        f"qcd/{DAY}/true.root: no MuonTight; muons are those of Muon",
    )


def test_a_true_delphes_file_with_planted_leptons_is_as_the_reference_says(tmp_path: Path, delphes_file: Path) -> None:
    events = read_naively(delphes_file, muon="Muon")
    muon, electron = {**MUON, "PT": 300.0, "Eta": -1.0}, {**ELECTRON, "PT": 350.0, "Eta": 1.0}
    planted = {
        "electron": [with_planted(event, [electron], []) for event in events],
        "muon": [with_planted(event, [], [muon]) for event in events],
        "two": [with_planted(event, [electron], [muon]) for event in events],
    }
    for name, content in planted.items():
        write_events(raw(tmp_path, f"{name}.root"), content)
    run_ingest(tmp_path)
    manifest = run(tmp_path)
    for name, content in planted.items():
        rows = list(rows_of(tmp_path, manifest, f"qcd/{DAY}/{name}.root"))
        assert len(rows) > 20
        assert_as_reference(rows, content, CONFIG, mask=1)


# --- cutflow and notes ---------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Two samples, one with weights; an empty file; everything ingested."""
    write_events(raw(tmp_path, "a.root"), EVENTS, weights=range(12))
    write_events(raw(tmp_path, "b.root"), EVENTS[:4], weights=SIGNED)
    write_events(raw(tmp_path, "empty.root"), [])
    write_events(raw(tmp_path, "c.root", "wjets"), EVENTS[3:])
    run_ingest(tmp_path, "--set", "entries_per_unit=5")
    return tmp_path


@pytest.fixture
def stored_base(base: Path) -> Path:
    """The same, with its events stored."""
    run_ingest(base, "--set", "entries_per_unit=5", *STORED)
    return base


def test_stored_events_give_the_same_bytes(stored_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, names, row groups and manifest, whether the events are stored, stored in part, or not."""
    (stored_base / "raw").rename(stored_base / "out of reach")
    from_parquet = run(stored_base)
    expected = files_of(stored_base)
    (stored_base / "out of reach").rename(stored_base / "raw")
    parts = listed(read_manifest(source(stored_base)))
    for kept in (3, 0):
        shutil.rmtree(stored_base / "selected")
        for path in sorted(parts)[kept:]:
            (stored_base / "events" / DAY / path).unlink(missing_ok=True)
        assert run(stored_base) == from_parquet
        assert files_of(stored_base) == expected
    assert len(expected) == 7 + 2


def test_cutflow_counts_events_and_weights_of_each_sample(base: Path) -> None:
    run(base)
    cutflow = cutflow_of(base)
    assert set(cutflow) == {"qcd", "wjets", "quarantined"}
    assert {cut: cutflow["wjets"][cut] for cut in schema.CUTFLOW} == reference_cutflow(EVENTS[3:], CONFIG)
    assert cutflow["wjets"]["weighted"] == reference_cutflow(EVENTS[3:], CONFIG)
    for cut in schema.CUTFLOW:
        weights = [
            weight
            for weight, event in [*enumerate(EVENTS), *zip(SIGNED, EVENTS, strict=False)]
            if reference_cutflow([event], CONFIG)[cut]
        ]
        total, absolute = math.fsum(weights), math.fsum(map(abs, weights))
        assert cutflow["qcd"]["weighted"][cut] == total
        assert cutflow["qcd"]["negative_share"][cut] == pytest.approx((absolute - total) / (2 * absolute))
        assert cutflow["qcd"]["effective_events"][cut] == pytest.approx(total**2 / math.fsum(w**2 for w in weights))
    assert cutflow["qcd"]["weighted"]["events"] == sum(range(12)) + 4


def test_cutflow_has_the_cross_section_of_a_sample_whose_files_all_say_theirs(base: Path) -> None:
    said = CrossSection(80.0, 0.0, 100)
    saying = {f"qcd/{DAY}/a.root", f"wjets/{DAY}/c.root"}
    publish_events(
        base,
        units=tuple(
            unit.model_copy(update={"cross_section": said}) if unit.source in saying else unit
            for unit in read_manifest(source(base)).units
        ),
    )
    manifest, cutflow = run(base), cutflow_of(base)
    counts = reference_cutflow(EVENTS[3:], CONFIG)
    found = cutflow["wjets"]["cross_section"]
    assert {cut: each["pb"] for cut, each in found.items()} == pytest.approx(
        {cut: 80 * counts[cut] / counts["events"] for cut in schema.CUTFLOW}
    )
    assert found["events"] == {"pb": 80.0, "error": 0.0, "generated": 100}
    assert cutflow["qcd"]["cross_section"] == dict.fromkeys(schema.CUTFLOW)
    remark = f"qcd: no cross-section, since 1 of 2 files do not say theirs (qcd/{DAY}/b.root)"
    assert remark in manifest.notes


def test_a_file_of_which_nothing_passes_is_on_record(tmp_path: Path) -> None:
    write_events(raw(tmp_path, "none.root"), [make_event()] * 2)
    run_ingest(tmp_path)
    (unit,) = run(tmp_path).units
    assert (unit.counts, unit.content) == ({"events": 2, "lepton_pt": 0, "isolated_lepton": 0}, "")


def test_quarantined_files_show_in_manifest_and_cutflow(base: Path) -> None:
    raw(base, "bad.root").write_bytes(b"")
    events = run_ingest(base, "--set", "entries_per_unit=5", "--on-bad-file", "quarantine")
    assert run(base).quarantined == events.quarantined
    (bad,) = cutflow_of(base)["quarantined"]
    assert bad["source"] == f"qcd/{DAY}/bad.root"
    assert "the file is empty" in bad["reason"]


def test_other_b_tag_bits_are_said_once(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base)
    sources = {note.partition(": ")[0] for note in manifest.notes}
    assert sources == {f"qcd/{DAY}/a.root", f"qcd/{DAY}/b.root", f"wjets/{DAY}/c.root"}
    assert caplog.text.count("Jet.BTag has bits beside the mask 1") == 1
    every_bit = json.dumps({"btag_mask": dict.fromkeys(schema.SAMPLES, 2**32 - 1)})
    assert run(base, "--replace", "--config", every_bit).notes == (f"wjets/{DAY}/c.root: {schema.UNWEIGHTED}",)


def test_copies_in_two_days_of_one_dataset_are_refused(tmp_path: Path) -> None:
    """Neither ingest nor select knows of the other day; their files are the same, whatever their inputs' names."""
    base, days = root_key("--base", str(tmp_path)), (DAY, "2026-01-02")
    for day, name in zip(days, ("a.root", "b.root"), strict=True):
        write_events(tmp_path / "raw" / "qcd" / day / name, EVENTS)
        write_events(tmp_path / "raw" / "qcd" / day / "none.root", [])
        write_events(tmp_path / "raw" / "ttbar" / day / name, EVENTS[: int(day[-1])])
        ingest.main(ingest.arg_parser().parse_args(["--base", str(tmp_path), "--partition", day]))
        select_events.main(select_events.arg_parser().parse_args(["--base", str(tmp_path), "--partition", day]))
        assert len(datasets.read_inputs(base, [day], schema.SAMPLES).units) == 3
    with pytest.raises(InvalidInputError) as caught:
        datasets.read_inputs(base, days, schema.SAMPLES)
    assert str(caught.value) == (
        f"the same events under several names: qcd/{DAY}/a.root = qcd/2026-01-02/b.root; remove all but one under "
        "raw/ (where simulated, run simulate.py --replace with another seed for all partitions but one), "
        "then run ingest.py --drop-missing and select_events.py for their partitions"
    )


# --- running again -------------------------------------------------------------------------------------------------


def test_running_again_redoes_nothing(
    base: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(base)
    before = times_of(base)
    caplog.set_level(logging.INFO)
    monkeypatch.delattr("toposieve.spark.session.spark_session")
    run(base)
    assert times_of(base) == before
    assert "7 units: 7 done before, 0 to do" in caplog.text
    assert "nothing to do" in caplog.text


def test_a_new_file_is_selected_alone_and_a_vanished_one_leaves(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(base)
    write_events(raw(base, "new.root", "ttbar"), EVENTS[:2])
    raw(base, "b.root").unlink()
    run_ingest(base, "--set", "entries_per_unit=5", "--drop-missing")
    caplog.set_level(logging.INFO)
    manifest = run(base)
    assert "7 units: 6 done before, 1 to do" in caplog.text
    assert {unit.source.rpartition("/")[2] for unit in manifest.units} == {"a.root", "c.root", "empty.root", "new.root"}
    assert set(files_of(base)) == listed(first) | listed(manifest) | {
        manifest_name(1),
        manifest_name(2),
        "cutflow.json",
    }


@pytest.mark.parametrize("damage", ["everything", "one file", "cutflow.json"])
def test_lost_output_comes_back_byte_for_byte(base: Path, damage: str) -> None:
    manifest = run(base)
    before = files_of(base)
    folder = base / "selected" / DAY
    if damage == "everything":
        shutil.rmtree(folder)
    else:
        (folder / (damage if damage == "cutflow.json" else next(manifest.outputs()).path)).unlink()
    run(base)
    assert files_of(base) == before


def test_damage_that_leaves_the_size_is_noticed_on_request(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base)
    before = files_of(base)
    path = base / "selected" / DAY / max(manifest.outputs(), key=lambda file: file.bytes).path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    caplog.set_level(logging.INFO)
    assert run(base) == run(base, "--verify") == manifest
    assert f"{path} is damaged; doing it again" in caplog.text
    assert "7 units: 6 done before, 1 to do" in caplog.text
    assert files_of(base) == before


def test_everything_is_made_anew_on_request(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest, before = run(base), files_of(base)
    caplog.set_level(logging.INFO)
    assert run(base, "--recompute") == manifest
    assert "7 units: 0 done before, 7 to do" in caplog.text
    assert {name: content for name, content in files_of(base).items() if "_records" not in name} == before


def test_a_run_goes_on_from_what_another_has_left(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, expected = run(base), files_of(base)
    shutil.rmtree(base / "selected")
    made = tmp_path / "made"
    made.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("toposieve.spark.selection.select_unit", FailsAfter(select_unit, 3, made))
        with pytest.raises(OSError, match="No space left"):
            run(base)
    left = [path for path in (base / "selected" / DAY).glob("*.parquet")]
    times = [path.stat().st_mtime_ns for path in left]
    assert len(left) in (3, 4)  # two tasks count at once
    assert run(base) == undisturbed
    assert files_of(base) == expected
    assert [path.stat().st_mtime_ns for path in left] == times, "nothing was made twice"


def test_events_ingested_by_another_version_of_the_code_change_nothing(base: Path) -> None:
    before = run(base)
    publish_events(base, code_version="later")
    assert run(base) == before


def test_a_mended_kernel_makes_select_anew_and_not_ingest(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    events, before = read_manifest(source(base)), run(base)
    monkeypatch.setitem(CODE_NUMBERS, "select", before.code + 1)
    caplog.set_level(logging.INFO)
    assert run_ingest(base, "--set", "entries_per_unit=5") == events
    manifest = run(base)
    assert manifest.code == before.code + 1
    assert "7 units: 0 done before, 7 to do" in caplog.text
    assert listed(manifest).isdisjoint(listed(before))
    assert [unit.counts for unit in manifest.units] == [unit.counts for unit in before.units]


def test_events_of_versions_before_numbered_manifests_are_selected(stored_base: Path) -> None:
    base, expected = stored_base, run(stored_base)
    shutil.rmtree(base / "selected")
    folder = base / "events" / DAY
    content = json.loads((folder / manifest_name(2)).read_text())
    del content["code"]
    for unit in content["units"]:
        del unit["source_bytes"]
        unit["source_checksum"] = "e" * 32
        unit["outputs"][0]["checksum"] = "f" * 32
    (folder / manifest_name(1)).unlink()
    (folder / manifest_name(2)).unlink()
    (folder / "manifest.json").write_text(json.dumps(content, indent=1))
    manifest = run(base)
    assert [unit.counts for unit in manifest.units] == [unit.counts for unit in expected.units]
    assert run(base) == manifest


def test_the_manifest_names_the_events_that_were_read(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = read_manifest(source(base))

    def ingesting_meanwhile(*_: object) -> Selected:
        publish_events(base, notes=("ingested again",))
        return Selected((), 0, ())

    monkeypatch.setattr("toposieve.spark.selection.select_partition", ingesting_meanwhile)
    assert run(base).inputs == {f"events/{DAY}": fingerprint(events)}


def test_changed_cuts_need_replace_and_recompute(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = run(base)
    with pytest.raises(InvalidInputError, match=r"made with another configuration .*--replace"):
        run(base, "--set", "lepton_pt_min=40")
    after = run(base, "--set", "lepton_pt_min=40", "--replace")
    assert after.total("isolated_lepton") < before.total("isolated_lepton")
    assert cutflow_of(base)["qcd"]["events"] == 16
    capsys.readouterr()
    run(base, "--history")
    assert "lepton_pt_min 23.0 → 40.0)" in capsys.readouterr().out.splitlines()[-1]
    assert listed(before) < set(files_of(base))
    run(base, "--set", "lepton_pt_min=40", "--sweep")
    assert set(files_of(base)) == listed(after) | {manifest_name(1), manifest_name(2), "cutflow.json"}


def publish_after(monkeypatch: pytest.MonkeyPatch, base: Path, *arguments: str) -> None:
    """Let another run publish just before the next one does."""
    real_publish = Publication.publish

    def publish(self: Publication, manifest: Manifest) -> Manifest:
        monkeypatch.setattr(Publication, "publish", real_publish)
        run(base, *arguments)
        return real_publish(self, manifest)

    monkeypatch.setattr(Publication, "publish", publish)


def test_two_runs_that_do_the_same_end_as_one(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_after(monkeypatch, base)
    manifest = run(base)
    assert set(files_of(base)) == listed(manifest) | {manifest_name(1), "cutflow.json"}


def test_a_run_with_other_cuts_than_the_one_before_it_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_after(monkeypatch, base, "--set", "lepton_pt_min=40")
    with pytest.raises(ConflictError, match="run again to go on from its result"):
        run(base)
    assert read_manifest(target(base)).config["lepton_pt_min"] == 40


# --- bad input -----------------------------------------------------------------------------------------------------


def test_events_must_be_there_first(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"events/2026-01-01 has no manifest: run the stage"):
        run(tmp_path)


def nothing_published(base: Path) -> bool:
    return read_manifest_if_any(target(base)) is None and not (base / "selected" / DAY / "cutflow.json").exists()


def test_a_damaged_file_of_stored_events_is_refused(stored_base: Path) -> None:
    file = max(read_manifest(source(stored_base)).outputs(), key=lambda file: file.bytes)
    path = stored_base / "events" / DAY / file.path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"{file.path} is damaged \(.*again, with --verify"):
        run(stored_base)
    assert nothing_published(stored_base)
    run_ingest(stored_base, "--set", "entries_per_unit=5", *STORED, "--verify")
    assert run(stored_base).total("events") == 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: write_events(path, EVENTS[:3]), "has changed since it was ingested: run ingest.py again, then"),
        (lambda path: path.unlink(), "no such file, or a link that leads nowhere"),
    ],
)
def test_root_files_must_be_those_that_were_ingested(
    base: Path, change: Callable[[Path], object], message: str
) -> None:
    change(raw(base, "b.root"))
    with pytest.raises(InvalidInputError, match=rf"^qcd/{DAY}/b.root:? {message}"):
        run(base)
    assert nothing_published(base)


def test_a_copy_of_the_root_files_elsewhere_does_as_well(base: Path) -> None:
    expected = run(base)
    shutil.rmtree(base / "selected")
    shutil.copytree(base / "raw", base / "elsewhere")  # newer files, of the same content
    shutil.rmtree(base / "raw")
    assert run(base, "--raw", str(base / "elsewhere")) == expected
    assert run(base) == expected, "what is done needs no input"


def spoil(base: Path) -> Path:
    """A file that is found bad only when it is read, in its last unit but one."""
    content = collections(EVENTS)
    values = content["MissingET"].leaves["MET"].copy()
    values[9] = np.nan
    path = write_collections(raw(base, "bad.root"), with_leaf(content, "MissingET", "MET", values))
    run_ingest(base, "--set", "entries_per_unit=5")
    return path


def test_a_bad_value_stops_the_run_and_nothing_is_published(base: Path) -> None:
    spoil(base)
    with pytest.raises(
        InvalidInputError, match=rf"^qcd/{DAY}/bad.root: MissingET.MET is nan in entry 9; .*--on-bad-file quarantine"
    ):
        run(base)
    assert nothing_published(base)


@pytest.mark.parametrize("stored", [(), STORED], ids=["from ROOT", "stored"])
def test_quarantine_goes_on_without_the_whole_file(
    base: Path, stored: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    good = run(base)
    path = spoil(base)
    run_ingest(base, "--set", "entries_per_unit=5", *stored, "--on-bad-file", "quarantine")
    caplog.set_level(logging.INFO)
    manifest = run(base, "--on-bad-file", "quarantine")
    # Two of the file's three units are good, and out all the same.
    assert manifest.units == good.units
    (bad,) = manifest.quarantined
    assert (bad.source, cutflow_of(base)["quarantined"]) == (f"qcd/{DAY}/bad.root", [bad.model_dump()])
    assert f"quarantined: qcd/{DAY}/bad.root: MissingET.MET is nan in entry 9" in caplog.text
    caplog.clear()
    assert run(base, "--on-bad-file", "quarantine") == manifest
    assert "10 units: 10 done before, 0 to do" in caplog.text
    assert "nothing to do" in caplog.text
    with pytest.raises(InvalidInputError, match="in entry 9"):
        run(base)
    write_events(path, EVENTS)
    run_ingest(base, "--set", "entries_per_unit=5", *stored)
    mended = run(base, "--on-bad-file", "quarantine")
    assert (mended.quarantined, mended.total("events")) == ((), manifest.total("events") + 12)


@pytest.mark.parametrize("lifting", [(), ("--on-bad-file", "quarantine", "--recompute")], ids=" ".join)
def test_a_quarantine_can_be_lifted(base: Path, lifting: Sequence[str], caplog: pytest.LogCaptureFixture) -> None:
    manifest = run(base)
    units = [unit for unit in manifest.units if "a.root" in unit.source]
    bad = BadFile(source=units[0].source, reason="read by other code", source_checksum=units[0].source_checksum)
    rest = tuple(unit for unit in manifest.units if unit not in units)
    quarantined = manifest.model_copy(update={"units": rest, "quarantined": (bad,)})
    (target(base) / manifest_name(2)).write_bytes(quarantined.to_bytes())
    assert run(base, "--on-bad-file", "quarantine").quarantined == (bad,)
    assert "is tried again when it changes, and by a run without quarantine" in caplog.text
    assert run(base, *lifting) == manifest


def test_only_bad_files_are_an_error_even_with_quarantine(tmp_path: Path) -> None:
    spoil(tmp_path)
    with pytest.raises(InvalidInputError, match=rf"every file is bad:\nqcd/{DAY}/bad.root: MissingET.MET"):
        run(tmp_path, "--on-bad-file", "quarantine")


def test_an_unknown_sample_is_an_error(base: Path) -> None:
    units = read_manifest(source(base)).units
    publish_events(base, units=(*units[:-1], units[-1].model_copy(update={"source": f"higgs/{DAY}/c.root"})))
    with pytest.raises(InvalidInputError, match=r"higgs/.*unknown sample 'higgs'; known are qcd, ttbar, wjets"):
        run(base)


def test_a_unit_with_other_events_than_recorded_is_an_error(stored_base: Path) -> None:
    base = stored_base
    first, *others = read_manifest(source(base)).units
    publish_events(base, units=(first.model_copy(update={"entry_stop": 7}), *others))
    with pytest.raises(InvalidInputError, match=r"5 events, its manifest says 7; run ingest.py --recompute"):
        run(base)


# --- the command line ----------------------------------------------------------------------------------------------


def command(base: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(JOB), "--base", str(base), "--partition", DAY, *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def test_a_misspelt_key_exits_with_two(tmp_path: Path) -> None:
    result = command(tmp_path, "--set", "isolaton_max=0.3")
    assert result.returncode == 2
    assert "isolaton_max: unknown key; SelectionConfig knows track_pt_min" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_number_of_cores_changes_no_byte(base: Path) -> None:
    results = []
    for master in ("local[1]", "local[4]"):
        result = command(base, "--master", master)
        assert result.returncode == 0, result.stderr
        results.append(files_of(base))
        shutil.rmtree(base / "selected")
    assert results[0] == results[1]


def test_a_full_disk_is_said_and_nothing_published(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposieve.spark.selection.select_unit", spark_tasks.write_to_full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:  # cli.run turns it into exit code 2
        run(base)
    assert caught.value.errno == errno.ENOSPC
    assert nothing_published(base)
