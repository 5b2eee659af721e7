"""Decisions by the file: those of the scorer, made once, resumed, and kept apart by version."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import import_dataset
import ingest
import score
import select_events
from support import evaluation_data
from support.delphes_files import collections, with_leaf, write_collections, write_events
from support.events import random_events
from support.on_spark import run_here
from support.published_files import write_published
from support.selected_files import SelectedUnit, batch_of, random_units, write_selected
from support.serving_data import POINTS, portable
from support.training_data import make_events
from toposieve import registry, schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.decisions import NO_LABEL, decisions_folder, decisions_schema
from toposieve.io.manifests import Manifest, read_manifest
from toposieve.io.scores import scores_schema
from toposieve.io.store import Key, root_key
from toposieve.models import ARCHITECTURES
from toposieve.serving.events import Decision, Event
from toposieve.serving.exports import keep_export
from toposieve.serving.scorer import Scorer
from toposieve.spark import decisions, inspection, selection, verification

# Keras 3.15 and TensorFlow 2.21 under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

DAY = "2026-01-01"
SIZES = {"qcd": 23, "ttbar": 17, "wjets": 11}
UNITS = random_units(DAY, SIZES)
CLASSES = ("ttbar", "qcd", "photons")
"""Of version 2: other than the samples, and in another order."""


@pytest.fixture(scope="module")
def models() -> dict[int, bytes]:
    """Version → its portable form."""
    points = dict.fromkeys(CLASSES, POINTS)
    return {1: portable("inclusive"), 2: portable("hlf", classes=CLASSES, thresholds=points)}


@pytest.fixture
def base(tmp_path: Path, models: dict[int, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Selected events, and a registry with two versions, of which the first is published; no Spark."""
    monkeypatch.setattr(decisions, "run_on_spark", run_here)
    monkeypatch.setattr("toposieve.spark.session.spark_session", None)
    monkeypatch.setattr("toposieve.spark.session.SparkOnDemand.__call__", lambda _: None)
    write_selected(tmp_path, DAY, UNITS)
    folder = registry_of(tmp_path)
    for number, (architecture, classes) in enumerate((("inclusive", schema.SAMPLES), ("hlf", CLASSES)), start=1):
        write_version(folder, number, architecture, classes)
        keep_export(folder, number, models[number], events=1, difference=0.0)
    registry.publish(folder, 1, "ada", "the first")
    return tmp_path


def registry_of(base: Path) -> Key:
    return registry.registry_folder(root_key("--base", str(base)), "topology")


def write_version(folder: Key, number: int, architecture: str, classes: tuple[str, ...], **fields: Any) -> None:
    content = {
        "label": architecture,
        "architecture": architecture,
        "files": (),
        "classes": classes,
        "features": registry.describe_features(ARCHITECTURES[architecture].inputs),
        "thresholds": {},
        "metrics": {},
        "lineage": {},
        "configuration": {"selection": SelectionConfig().model_dump(mode="json")},
        "code": {},
    }
    version = registry.Version.model_validate({**content, **fields})
    (folder / registry.VERSIONS / f"{number:06d}.json").write_bytes(version.to_bytes())


def run(base: Path, *arguments: str) -> None:
    day = () if "--dataset" in arguments else ("--partition", DAY)
    score.main(score.arg_parser().parse_args(["--base", str(base), *day, *arguments]))


def target(base: Path, version: int = 1) -> Key:
    return decisions_folder(root_key("--base", str(base)), "topology", version, DAY)


def manifest_of(base: Path, version: int = 1) -> Manifest:
    return read_manifest(target(base, version))


def files_of(base: Path, version: int = 1) -> dict[str, tuple[bytes, int]]:
    """Files of a version's decisions: content, and when they were written; without the time that it took."""
    folder = Path(str(target(base, version)))
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in found.items() if name != "timing.json"}


def contents(files: dict[str, tuple[bytes, int]]) -> dict[str, bytes]:
    return {name: content for name, (content, _) in files.items()}


def rows_of(base: Path, version: int = 1) -> dict[str, dict[str, Any]]:
    """Event → its row."""
    folder = Path(str(target(base, version)))
    tables = [pq.read_table(folder / file.path) for file in manifest_of(base, version).outputs()]
    return {row["event_id"]: row for row in pa.concat_tables(tables).to_pylist()}


def run_stages(base: Path, day: str) -> None:
    """Ingest and select."""
    for job in (ingest, select_events):
        job.main(job.arg_parser().parse_args(["--base", str(base), "--partition", day]))


def events_of(unit: SelectedUnit) -> list[Event]:
    batch = batch_of(unit)
    records, offsets = batch.particle_records(), batch.offsets
    return [
        Event(f"{unit.file}:{entry}", batch.high_level[i], records[offsets[i] : offsets[i + 1]])
        for i, entry in enumerate(unit.entries.tolist())
    ]


@pytest.mark.parametrize(("version", "tp_rate"), [(1, None), (1, 0.9), (2, None)])
def test_a_file_has_the_decisions_of_the_scorer(base: Path, models: dict[int, bytes], version: int, tp_rate) -> None:
    run(base, "--version", str(version), *(["--set", f"target={tp_rate}"] if tp_rate else []))
    scorer, found = Scorer(models[version], version, tp_rate), rows_of(base, version)
    events = [event for unit in UNITS for event in events_of(unit)]
    assert set(found) == {event.event_id for event in events}
    passing = []
    for decision in scorer.score(events):
        assert isinstance(decision, Decision)
        row = found[decision.event_id]
        assert [row[f"score_{name}"] for name in scorer.classes] == decision.logits.tolist()
        assert tuple(row[f"passes_{name}"] for name in scorer.classes) == decision.accepted
        sample = decision.event_id.split("/")[0]
        assert row["label"] == (scorer.classes.index(sample) if sample in scorer.classes else NO_LABEL)
        passing.append(decision.accepted)
    manifest = manifest_of(base, version)
    totals = [manifest.total(f"passes_{name}") for name in scorer.classes]
    assert totals == np.sum(passing, axis=0).tolist()
    assert manifest.total("events") == sum(SIZES.values()) > max(totals) > 0
    assert manifest.extra["model"]["target"] == (tp_rate or 0.99)


def test_columns_are_those_of_scores_and_who_passes() -> None:
    columns = decisions_schema(CLASSES)
    assert columns.names[: len(CLASSES) + 2] == scores_schema(CLASSES).names
    assert columns.names[len(CLASSES) + 2 :] == ["passes_ttbar", "passes_qcd", "passes_photons"]


def test_nothing_is_done_twice_and_what_is_lost_comes_back_to_the_byte(base: Path, caplog) -> None:
    run(base)
    before = files_of(base)
    run(base)
    assert files_of(base) == before
    lost = next(manifest_of(base).outputs()).path
    (target(base) / lost).delete()
    caplog.set_level("INFO")
    run(base)
    assert f"results in {target(base)}\n" in caplog.text  # as operators look for it
    after = files_of(base)
    assert contents(after) == contents(before)
    assert {name for name in after if after[name] != before[name]} == {lost}
    run(base, "--recompute")
    assert contents(files_of(base)) == contents(before)


def test_a_run_that_was_ended_is_taken_over(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def ends(_: Any, function: Any, items: Any, **__: Any) -> None:
        made.extend(function(item).unit.outputs[0].path for item in items[:2])
        raise OSError("the machine is gone")

    with monkeypatch.context() as patch:
        patch.setattr(decisions, "run_on_spark", ends)
        with pytest.raises(OSError, match="the machine is gone"):
            run(base)
    before = files_of(base)
    run(base)
    after = files_of(base)
    assert len(made) == 2
    assert all(after[name] == before[name] for name in made)
    assert len(list(manifest_of(base).outputs())) == len(UNITS)


def test_only_what_was_selected_anew_is_decided_anew(base: Path) -> None:
    run(base)
    before = {file.path for file in manifest_of(base).outputs()}
    changed = random_units(DAY, SIZES, seed=2)[0]
    write_selected(base, DAY, [changed, *UNITS[1:]])
    run(base)
    after = {file.path for file in manifest_of(base).outputs()}
    assert len(before - after) == len(after - before) == 1
    assert {event.event_id for event in events_of(changed)} <= set(rows_of(base))


def test_versions_stay_beside_each_other_and_the_published_one_decides(base: Path) -> None:
    run(base)
    first = files_of(base)
    registry.publish(registry_of(base), 2, "ada", "faster")
    run(base)
    assert files_of(base) == first
    assert manifest_of(base, 2).extra["model"]["classes"] == list(CLASSES)
    assert manifest_of(base, 2).inputs == manifest_of(base, 1).inputs


def test_another_working_point_replaces_decisions_only_if_asked_to(base: Path) -> None:
    run(base)
    before = rows_of(base)
    with pytest.raises(InvalidInputError, match=r"another configuration .*--replace"):
        run(base, "--set", "target=0.9")
    run(base, "--set", "target=0.9", "--replace")
    after = rows_of(base)
    assert [row["score_qcd"] for row in after.values()] == [row["score_qcd"] for row in before.values()]
    passing = [sum(row["passes_qcd"] for row in rows.values()) for rows in (after, before)]
    assert passing[0] < passing[1]


def test_other_cuts_than_those_of_the_model_are_said(base: Path, caplog) -> None:
    write_selected(base, DAY, UNITS, SelectionConfig(jet_scale=1.03))
    run(base)
    assert "selected with jet_scale = 1.03, but the model's events with None" in caplog.text


def test_a_plan_says_what_there_is_to_do_and_does_nothing(base: Path, capsys) -> None:
    run(base, "--plan", "4")
    events = sum(SIZES.values())
    assert f"plan: decide: {len(UNITS)} files, {len(UNITS)} units, {events} events" in capsys.readouterr().out
    assert not Path(str(target(base))).exists()
    run(base)
    capsys.readouterr()
    run(base, "--plan")
    assert "plan: nothing to do" in capsys.readouterr().out


def test_what_cannot_be_done_is_said_before_anything_starts(base: Path) -> None:
    write_version(registry_of(base), 3, "hlf", schema.SAMPLES)
    for arguments, message in {
        ("--name", "other"): "other has nothing published: run publish_model.py publish first",
        ("--version", "3"): r"version 3 of .* has no portable form: run export_model.py --version 3",
        ("--set", "target=0.5"): r"version 1 of .* has no working point 0.5 for qcd: choose of 0.9, 0.99",
        ("--partition", "2026-01-02"): "selected/2026-01-02",
        ("--dataset", "demo", "--source", "raw"): "are about ROOT files of a --partition",
        ("--raw", "elsewhere"): "are about ROOT files of a --partition",
    }.items():
        with pytest.raises(InvalidInputError, match=message):
            run(base, *arguments)
    assert not (base / "decisions").exists()


def test_a_damaged_file_is_named(base: Path) -> None:
    (file, *_) = read_manifest(root_key("--base", str(base)) / "selected" / DAY).outputs()
    path = base / "selected" / DAY / file.path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"{file.path} is damaged"):
        run(base)


# --- raw events ------------------------------------------------------------------------------------------------------

RAW_DAY = "2026-02-01"
RAW = ("--partition", RAW_DAY, "--source", "raw")
RAW_EVENTS = 12
"""Of each file."""


@pytest.fixture
def raw(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same base, with a day of which there are only ROOT files."""
    for module in (selection, verification):
        monkeypatch.setattr(module, "run_on_spark", run_here)
    for number, file in enumerate(("qcd/{}/a.root", "ttbar/{}/b.root", "ttbar/{}/c.root")):
        write_events(base / "raw" / file.format(RAW_DAY), random_events(number, RAW_EVENTS, particles=20))
    return base


def raw_target(base: Path, version: int = 1) -> Key:
    return target(base, version).parent / RAW_DAY


def contents_of_raw(base: Path) -> dict[str, bytes]:
    """Unit → its decisions."""
    folder = raw_target(base)
    return {unit.source: (folder / unit.outputs[0].path).read_bytes() for unit in read_manifest(folder).units}


def test_raw_events_get_the_bits_of_selected_ones_and_what_is_dropped_is_counted(raw: Path, caplog) -> None:
    caplog.set_level("INFO")
    run(raw, *RAW)
    manifest, found = read_manifest(raw_target(raw)), contents_of_raw(raw)
    assert not (raw / "events").exists()
    assert not (raw / "selected" / RAW_DAY).exists()
    run_stages(raw, RAW_DAY)
    run(raw, "--partition", RAW_DAY, "--replace")
    again = read_manifest(raw_target(raw))
    assert contents_of_raw(raw) == found
    assert ([*manifest.inputs], [*again.inputs]) == ([f"raw/{RAW_DAY}"], [f"selected/{RAW_DAY}"])
    assert manifest.notes == again.notes != ()
    decided, dropped = manifest.total("events"), manifest.total("not_selected")
    assert decided + dropped == 3 * RAW_EVENTS
    assert min(decided, dropped) > 0
    dropped_of_qcd = next(unit.counts["not_selected"] for unit in manifest.units if unit.source.startswith("qcd"))
    assert f"; {dropped_of_qcd} were not selected: no decision" in caplog.text


def test_raw_events_are_selected_by_the_cuts_of_the_model(raw: Path) -> None:
    run(raw, *RAW)
    cuts = SelectionConfig(lepton_pt_min=40).model_dump(mode="json")
    write_version(registry_of(raw), 2, "hlf", CLASSES, configuration={"selection": cuts})
    run(raw, *RAW, "--version", "2")
    strict, loose = (read_manifest(raw_target(raw, version)).total("events") for version in (2, 1))
    assert 0 < strict < loose
    write_version(registry_of(raw), 2, "hlf", CLASSES, configuration={})
    with pytest.raises(InvalidInputError, match="version 2 does not say how its events were selected"):
        run(raw, *RAW, "--version", "2")


def test_raw_decisions_are_resumed_verified_and_planned(raw: Path, capsys) -> None:
    run(raw, *RAW, "--plan")
    planned = capsys.readouterr().out
    assert "plan: select: 3 files, 3 units" in planned
    assert "plan: decide: 3 units" in planned
    assert not Path(str(raw_target(raw))).exists()
    run(raw, *RAW)
    folder, found = raw_target(raw), contents_of_raw(raw)
    files = {name: stat.version for name, stat in folder.list().items() if name.endswith(".parquet")}
    run(raw, *RAW)
    run(raw, *RAW, "--plan")
    assert "plan: nothing to do" in capsys.readouterr().out
    damaged = next(read_manifest(folder).outputs()).path
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[::-1])
    run(raw, *RAW, "--verify")
    assert contents_of_raw(raw) == found
    assert {name for name, stat in folder.list().items() if stat.version != files.get(name, stat.version)} == {damaged}
    write_events(raw / "raw" / "qcd" / RAW_DAY / "new.root", random_events(7, RAW_EVENTS, particles=20))
    run(raw, *RAW)
    assert contents_of_raw(raw).items() > found.items()


def test_raw_files_that_ingest_knows_are_not_inspected_again(raw: Path, monkeypatch, capsys) -> None:
    ingest.main(ingest.arg_parser().parse_args(["--base", str(raw), "--partition", RAW_DAY]))
    write_events(raw / "raw" / "ttbar" / RAW_DAY / "c.root", random_events(7, RAW_EVENTS + 1, particles=20))
    inspected, inspect_file = [], inspection.inspect_file
    monkeypatch.setattr(inspection, "inspect_file", lambda *args: inspected.append(args[1]) or inspect_file(*args))
    run(raw, *RAW, "--plan")
    assert "plan: ingest: 1 files" in capsys.readouterr().out
    run(raw, *RAW)
    assert inspected == [f"ttbar/{RAW_DAY}/c.root"]
    assert len(contents_of_raw(raw)) == 3


def test_a_bad_raw_file_stops_the_run_or_is_quarantined(raw: Path) -> None:
    (raw / "raw" / "qcd" / RAW_DAY / "empty.root").write_bytes(b"")
    content = collections(random_events(0, RAW_EVENTS, particles=20))
    values = content["MissingET"].leaves["MET"].copy()
    values[9] = np.nan  # found when it is read
    write_collections(raw / "raw" / "qcd" / RAW_DAY / "nan.root", with_leaf(content, "MissingET", "MET", values))
    with pytest.raises(InvalidInputError, match=r"empty.root.*is empty"):
        run(raw, *RAW)
    run(raw, *RAW, "--on-bad-file", "quarantine")
    manifest = read_manifest(raw_target(raw))
    assert [bad.source for bad in manifest.quarantined] == [f"qcd/{RAW_DAY}/{name}.root" for name in ("empty", "nan")]
    assert len(manifest.units) == 3
    (raw / "raw" / "qcd" / RAW_DAY / "empty.root").unlink()
    with pytest.raises(InvalidInputError, match=r"MissingET\.MET is nan in entry 9"):
        run(raw, *RAW)


# --- datasets --------------------------------------------------------------------------------------------------------


def decisions_on(base: Path, dataset: str, version: int) -> dict[str, dict[str, Any]]:
    """Event → its row."""
    run(base, "--dataset", dataset, "--version", str(version))
    folder = target(base, version).parent / "datasets" / dataset
    tables = [pq.read_table(str(folder / file.path)) for file in read_manifest(folder).outputs()]
    return {row["event_id"]: row for row in pa.concat_tables(tables).to_pylist()}


@pytest.mark.parametrize("version", [1, 2])
def test_a_dataset_is_decided_on_in_physical_units(base: Path, models: dict[int, bytes], version: int, caplog) -> None:
    caplog.set_level("INFO")
    scaling, scorer = evaluation_data.make_scaling(), Scorer(models[version], version)
    shards = {
        split: [evaluation_data.make_events({"qcd": 9, "ttbar": 7, "wjets": 5}, seed) for seed in (1, 2)]
        for split in schema.SPLITS
    }
    evaluation_data.write_dataset_of(base, shards, scaling)
    found = decisions_on(base, "demo", version)
    events = [event for each in shards.values() for shard in each for event in shard]
    lengths = [len(event["particles"]) for event in events]
    logits = scorer.logits(
        scaling.physical_high_level(np.stack([event["high_level"] for event in events])),
        scaling.physical_particles(np.concatenate([event["particles"] for event in events])),
        np.cumsum([0, *lengths]),
    )
    assert len(found) == len({event["event_id"] for event in events})
    for event, scores in zip(events, logits.tolist(), strict=True):
        row, sample = found[event["event_id"].decode()], schema.SAMPLES[event["label"]]
        assert [row[f"score_{name}"] for name in scorer.classes] == pytest.approx(scores, abs=1e-4)
        assert row["label"] == (scorer.classes.index(sample) if sample in scorer.classes else NO_LABEL)
    assert "test: of 42 events pass" in caplog.text


def test_an_imported_dataset_is_decided_on_as_it_is_by_a_model_of_such_a_one(base: Path, caplog) -> None:
    write_published(base / "files")
    folders = [f"--{split}={base / 'files' / split}" for split in ("train", "test")]
    import_dataset.main(import_dataset.arg_parser().parse_args(["--base", str(base), "--dataset", "theirs", *folders]))
    content = portable("inclusive", scaled=True)
    write_version(registry_of(base), 3, "inclusive", schema.SAMPLES, configuration={})
    keep_export(registry_of(base), 3, content, events=1, difference=0.0)
    found = decisions_on(base, "theirs", 3)
    events = make_events(12, seed=3)
    logits = Scorer(content, 3, scaled=True).logits(
        np.stack([event["high_level"] for event in events]),
        np.concatenate([event["particles"] for event in events]),
        np.cumsum([0, *(event["length"] for event in events)]),
    )
    rows = [found[f"test/part-r-00003:{number}"] for number in range(12)]
    assert [[row[f"score_{name}"] for name in schema.SAMPLES] for row in rows] == logits.tolist()
    assert [row["label"] for row in rows] == [event["label"] for event in events]
    assert "the model is of another dataset" in caplog.text
    physical, theirs = "HT in GeV", "HT in units of its dataset"
    with pytest.raises(InvalidInputError, match=f"feature 0 is {physical}, and {theirs} is what there is"):
        run(base, "--dataset", "theirs", "--version", "1")
    with pytest.raises(InvalidInputError, match=f"feature 0 is {theirs}, and {physical} is what there is"):
        run(base, "--version", "3")


def test_a_damaged_shard_is_named(base: Path) -> None:
    folder = evaluation_data.write_dataset(base)
    shard = next(folder.rglob("*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 255
    shard.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"{shard.name}: record \d+ is damaged"):
        run(base, "--dataset", "demo")


def test_spark_gives_the_same_bytes(spark: Any, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(base)
    here = contents(files_of(base))
    for name in here:
        (target(base) / name).delete()
    monkeypatch.undo()
    run(base)
    assert contents(files_of(base)) == here
