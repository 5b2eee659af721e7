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

import score
from support.on_spark import run_here
from support.selected_files import SelectedUnit, batch_of, random_units, write_selected
from support.serving_data import POINTS, portable
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
from toposieve.spark import decisions

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


def write_version(folder: Key, number: int, architecture: str, classes: tuple[str, ...]) -> None:
    version = registry.Version(
        label=architecture,
        architecture=architecture,
        files=(),
        classes=classes,
        features=registry.describe_features(ARCHITECTURES[architecture].inputs),
        thresholds={},
        metrics={},
        lineage={},
        configuration={"selection": SelectionConfig().model_dump(mode="json")},
        code={},
    )
    (folder / registry.VERSIONS / f"{number:06d}.json").write_bytes(version.to_bytes())


def run(base: Path, *arguments: str) -> None:
    score.main(score.arg_parser().parse_args(["--base", str(base), "--partition", DAY, *arguments]))


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


def test_spark_gives_the_same_bytes(spark: Any, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(base)
    here = contents(files_of(base))
    for name in here:
        (target(base) / name).delete()
    monkeypatch.undo()
    run(base)
    assert contents(files_of(base)) == here
