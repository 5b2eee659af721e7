"""The preparation job, against a plain reference: sort by hash, cut, scale with numpy."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import prepare_features
from support.selected_files import CROSS_SECTION, SelectedUnit, pileup_of, random_units, with_signs, write_selected
from toposieve import schema
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import SelectionConfig
from toposieve.cross_sections import CrossSection
from toposieve.errors import ConflictError, InvalidInputError
from toposieve.event_keys import digest64, event_keys, mix
from toposieve.io import datasets, manifests
from toposieve.io.event_tables import TABLE_SUFFIX, read_table
from toposieve.io.publication import TIMING_NAME, Publication
from toposieve.io.sample_cross_sections import cross_sections
from toposieve.io.store import Key, root_key
from toposieve.preprocessing import Scaling
from toposieve.weights import WeightSums

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark.sql import SparkSession

JOB = Path(prepare_features.__file__)
DAYS = ("2026-01-01", "2026-01-02")
SEED = 5
SETTINGS = ("--set", "events_per_shard=24", "--set", f"seed={SEED}")
UNITS = {
    DAYS[0]: random_units(DAYS[0], {"qcd": 41, "ttbar": 90, "wjets": 75}, files=2, seed=1),
    DAYS[1]: random_units(DAYS[1], {"qcd": 59, "ttbar": 30, "wjets": 80}, files=1, seed=2),
}
UNITS = {day: [with_signs(unit) if unit.sample == "ttbar" else unit for unit in units] for day, units in UNITS.items()}
KEPT = 100  # of each class: as many as qcd has
SIZES = {"train": 64, "validation": 16, "test": 20}

Event = tuple[str, int]  # file id, entry


def run(base: Path, *arguments: str, days: tuple[str, ...] = DAYS, dataset: str = "demo") -> Path:
    command = ["--base", str(base), "--partitions", *days, "--dataset", dataset, *SETTINGS, *arguments]
    prepare_features.main(prepare_features.arg_parser().parse_args(command))
    return base / "datasets" / dataset


def key_of(path: Path) -> Key:
    return root_key("--base", str(path))


def manifest_of(folder: Path) -> manifests.Manifest:
    return manifests.read_manifest(key_of(folder))


def files_of(dataset: Path) -> Path:
    """The folder of a dataset's files."""
    [name] = {file.path.partition("/")[0] for file in manifest_of(dataset).outputs()}
    return dataset / name


def content(dataset: Path) -> dict[str, bytes]:
    """Every file of a dataset but the one that tells how long it took."""
    files = [path for path in dataset.rglob("*") if path.is_file() and path.name != TIMING_NAME]
    return {path.relative_to(dataset).as_posix(): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Record:
    """One event of a dataset, parsed by TensorFlow."""

    event: Event
    sample: str
    weight: float
    high_level: NDArray[np.float32]
    particles: NDArray[np.float32]


def parse(serialised: bytes) -> Record:
    feature = tf.train.Example.FromString(serialised).features.feature
    file, _, entry = feature["event_id"].bytes_list.value[0].decode().rpartition(":")
    particles = np.array(feature["particles"].float_list.value, np.float32)
    return Record(
        event=(file, int(entry)),
        sample=schema.SAMPLES[feature["label"].int64_list.value[0]],
        weight=feature["weight"].float_list.value[0],
        high_level=np.array(feature["hlf"].float_list.value, np.float32),
        particles=particles.reshape(feature["length"].int64_list.value[0], len(schema.LOW_LEVEL_FEATURES)),
    )


def records(dataset: Path, split: str) -> list[Record]:
    """Events of a split, shard after shard."""
    paths = sorted((files_of(dataset) / split).glob("*.tfrecord"))
    return [record for path in paths for record in read(path)]


def read(path: Path) -> list[Record]:
    """Events of a shard."""
    return [parse(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def events_of(units: list[SelectedUnit]) -> dict[Event, tuple[SelectedUnit, int]]:
    return {(unit.file, int(entry)): (unit, row) for unit in units for row, entry in enumerate(unit.entries)}


ALL = events_of([unit for units in UNITS.values() for unit in units])


def expected_splits() -> dict[str, list[Event]]:
    """Where each event goes, by sorting all of them by hashes of their keys."""

    def ordered(events: list[Event], salt: str) -> list[Event]:
        keys = np.array([event_keys(file, np.array([entry]))[0] for file, entry in events])
        start = digest64(f"{salt} {SEED}")
        return [events[i] for i in np.argsort(keys + start if salt == "balance" else mix(keys ^ start))]

    splits: dict[str, list[Event]] = {split: [] for split in schema.SPLITS}
    for sample in schema.SAMPLES:
        kept = ordered([event for event in ALL if event[0].startswith(sample)], "balance")[:KEPT]
        queue = iter(ordered(kept, "split"))
        for split, size in SIZES.items():
            splits[split] += [next(queue) for _ in range(size)]
    return {split: ordered(events, "shuffle") for split, events in splits.items()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepare")
    for day, units in UNITS.items():
        write_selected(folder, day, units)
    return folder


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, base: Path) -> Path:
    return run(base)


@pytest.fixture(scope="module")
def parsed(dataset: Path) -> dict[str, list[Record]]:
    return {split: records(dataset, split) for split in schema.SPLITS}


@pytest.fixture
def copy(base: Path, dataset: Path, tmp_path: Path) -> Path:
    """A base of the test's own, with the dataset in it."""
    return Path(shutil.copytree(base, tmp_path / "base"))


# --- which event goes where --------------------------------------------------------------------------------------


def test_every_event_is_where_sorting_by_hash_puts_it(parsed: dict[str, list[Record]]) -> None:
    found = {split: [record.event for record in of_split] for split, of_split in parsed.items()}
    assert found == expected_splits()


def test_classes_are_balanced_in_every_split(parsed: dict[str, list[Record]]) -> None:
    for split, of_split in parsed.items():
        assert Counter(record.sample for record in of_split) == dict.fromkeys(schema.SAMPLES, SIZES[split])


def test_no_event_is_in_two_splits(parsed: dict[str, list[Record]]) -> None:
    events = [record.event for of_split in parsed.values() for record in of_split]
    assert len(set(events)) == len(events) == 3 * KEPT


def test_labels_are_those_of_the_files(parsed: dict[str, list[Record]]) -> None:
    assert all(record.event[0].startswith(record.sample) for of_split in parsed.values() for record in of_split)


def test_a_dataset_has_the_chosen_classes_and_no_other(spark: SparkSession, copy: Path) -> None:
    chosen = ["wjets", "ttbar"]  # qcd, of which there is least, takes nothing away
    other = run(copy, "--set", f"classes={json.dumps(chosen)}", dataset="two")
    found = [record for split in schema.SPLITS for record in records(other, split)]
    labels = [schema.SAMPLES.index(record.sample) for record in found]
    assert [chosen[label] for label in labels] == [record.event[0].partition("/")[0] for record in found]
    assert Counter(labels) == {0: 120, 1: 120}
    extra = manifest_of(other).extra
    assert extra["classes"] == list(extra["cutflow"]) == list(extra["cross_sections"]) == chosen
    assert list(json.loads((files_of(other) / datasets.SCALING_NAME).read_text())["weight_factors"]) == chosen
    counts = [unit.counts for unit in manifest_of(other).units if unit.source != datasets.SCALING_SOURCE]
    assert {sample: sum(each[sample] for each in counts) for sample in chosen} == {"wjets": 120, "ttbar": 120}


def test_the_order_does_not_depend_on_how_events_lie_in_units(
    spark: SparkSession, parsed: dict[str, list[Record]], tmp_path: Path
) -> None:
    for day, units in UNITS.items():
        write_selected(tmp_path, day, [part for unit in reversed(units) for part in cut(unit)])
    other = run(tmp_path)
    for split, of_split in parsed.items():
        assert [record.event for record in records(other, split)] == [record.event for record in of_split]


def cut(unit: SelectedUnit) -> list[SelectedUnit]:
    """The same file as two units."""
    middle = len(unit.entries) // 3
    return [rows_of(unit, slice(0, middle)), rows_of(unit, slice(middle, len(unit.entries)))]


def rows_of(unit: SelectedUnit, rows: slice) -> SelectedUnit:
    first, last = unit.offsets[rows.start], unit.offsets[rows.stop]
    return replace(
        unit,
        entries=unit.entries[rows],
        weights=unit.weights[rows],
        high_level=unit.high_level[rows],
        offsets=unit.offsets[rows.start : rows.stop + 1] - first,
        particles={name: values[first:last] for name, values in unit.particles.items()},
    )


def test_unbalanced_and_limited(spark: SparkSession, base: Path) -> None:
    dataset = run(base, "--set", "balance=false", "--set", "max_events_per_class=110", dataset="unbalanced")
    cutflow = manifest_of(dataset).extra["cutflow"]
    assert {sample: counts["balanced"] for sample, counts in cutflow.items()} == {
        "qcd": 100,
        "ttbar": 110,
        "wjets": 110,
    }
    assert Counter(record.sample for record in records(dataset, "train")) == {"qcd": 64, "ttbar": 70, "wjets": 70}


# --- what the records hold -----------------------------------------------------------------------------------------


def stored(event: Event) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64], float]:
    """Particle columns, high-level features and weight of an event, as selected."""
    unit, row = ALL[event]
    particles = {name: values[slice(*unit.offsets[row : row + 2])] for name, values in unit.particles.items()}
    return particles, unit.high_level[row].astype(float), float(unit.weights[row])


def features(event: Event) -> NDArray[np.float64]:
    """Low-level features in sequence order, (length, 19)."""
    particles, _, _ = stored(event)
    pt, eta, phi = (particles[name].astype(float) for name in ("Pt", "Eta", "Phi"))
    derived = {"Energy": pt * np.cosh(eta), "Px": pt * np.cos(phi), "Py": pt * np.sin(phi), "Pz": pt * np.sinh(eta)}
    flags = {flag: particles["kind"] == i for i, flag in enumerate(schema.PARTICLE_KINDS)}
    columns = {**particles, **derived, **flags}
    distance = np.hypot(eta - eta[0], np.remainder(phi - phi[0] + np.pi, 2 * np.pi) - np.pi)
    order = [*(1 + np.argsort(-distance[1:], kind="stable")), 0]
    return np.stack([columns[name].astype(float)[order] for name in schema.LOW_LEVEL_FEATURES], axis=1)


def test_features_are_scaled_with_the_training_split(parsed: dict[str, list[Record]]) -> None:
    training = [record.event for record in parsed["train"]]
    factors = {
        sample: SIZES["train"] / sum(abs(stored(event)[2]) for event in training if event[0].startswith(sample))
        for sample in schema.SAMPLES
    }

    def weight(event: Event) -> float:
        return factors[event[0].split("/")[0]] * stored(event)[2]

    particles = np.concatenate([features(event) for event in training])
    weights = np.concatenate([np.full(len(features(event)), abs(weight(event))) for event in training])
    mean = np.average(particles, axis=0, weights=weights)
    deviation = np.sqrt(np.average((particles - mean) ** 2, axis=0, weights=weights))
    unscaled = [schema.LOW_LEVEL_FEATURES.index(name) for name in schema.UNSCALED_FEATURES]
    mean[unscaled], deviation[unscaled] = 0, 1
    high_level = np.array([stored(event)[1] for event in training])
    low, high = high_level.min(axis=0), high_level.max(axis=0)
    for record in (record for of_split in parsed.values() for record in of_split):
        np.testing.assert_allclose(record.weight, weight(record.event), rtol=1e-6)
        np.testing.assert_allclose(
            record.high_level, (stored(record.event)[1] - low) / (high - low), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(record.particles, (features(record.event) - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_weights_have_mean_size_one_in_each_class_of_the_training_split(parsed: dict[str, list[Record]]) -> None:
    for sample in schema.SAMPLES:
        weights = np.array([record.weight for record in parsed["train"] if record.sample == sample])
        assert np.abs(weights).mean() == pytest.approx(1, rel=1e-6)
        assert np.abs(weights).std() > 0.1
        assert (weights < 0).any() == (sample == "ttbar")


def test_scaling_json_can_be_read_back(dataset: Path) -> None:
    text = (files_of(dataset) / datasets.SCALING_NAME).read_text()
    assert Scaling.from_json(text).to_json() == text


def test_the_parquet_form_holds_the_same_events(spark: SparkSession, base: Path, dataset: Path) -> None:
    other = run(base, "--set", "parquet=true", dataset="parquet")
    pairs = zip(*(sorted((files_of(each) / "train").glob("*.tfrecord")) for each in (dataset, other)), strict=True)
    for path, same in pairs:
        assert same.read_bytes() == path.read_bytes()
        rows = pq.read_table(same.with_suffix(".parquet")).to_pylist()
        found = read(path)
        assert [row["event_id"] for row in rows] == [f"{file}:{entry}" for file, entry in (r.event for r in found)]
        assert [row["Pt"] for row in rows] == [r.particles[:, 4].tolist() for r in found]


# --- the manifest --------------------------------------------------------------------------------------------------


def test_shards_are_equal_and_listed(dataset: Path) -> None:
    manifest = manifest_of(dataset)
    *shards, scaling = manifest.units
    # 192 training events in shards of at most 24, 48 and 60 of the others.
    assert [unit.source for unit in shards] == [
        f"{split}/{i}" for split, count in (("train", 8), ("validation", 2), ("test", 3)) for i in range(count)
    ]
    for unit in shards:
        for output in unit.outputs:
            manifests.check_listed(key_of(dataset), output)
        shard, table = unit.outputs
        found = read(dataset / shard.path)
        rows = read_table(key_of(dataset) / table.path, len(found), table.checksum).to_pylist()
        assert [row["event_id"] for row in rows] == [f"{file}:{entry}" for file, entry in (r.event for r in found)]
        assert [row["is_electron"] for row in rows] == [
            bool(r.particles[-1, schema.LOW_LEVEL_FEATURES.index("isEle")]) for r in found
        ]
        assert len(found) == unit.counts["events"] == unit.entry_stop - unit.entry_start
        assert Counter(record.sample for record in found) == {sample: unit.counts[sample] for sample in schema.SAMPLES}
    assert {unit.counts["events"] for unit in shards if unit.source.startswith("train")} == {24}
    assert scaling.source == datasets.SCALING_SOURCE
    assert [dataset / output.path for output in scaling.outputs] == [files_of(dataset) / datasets.SCALING_NAME]
    assert manifest.total("events") == 3 * KEPT


def test_cutflow_goes_from_raw_to_splits(base: Path, dataset: Path) -> None:
    extra = manifest_of(dataset).extra
    selected = [unit for day in DAYS for unit in manifest_of(base / "selected" / day).units]
    for sample, counts in extra["cutflow"].items():
        of_sample = [unit for unit in selected if unit.source.startswith(sample)]
        for step in schema.CUTFLOW:
            assert counts[step] == sum(unit.counts[step] for unit in of_sample)
        assert counts["balanced"] == KEPT
        assert {split: counts[split] for split in schema.SPLITS} == SIZES
    assert extra["splits"]["train"] == {"events": 192, "qcd": 64, "ttbar": 64, "wjets": 64}
    assert extra["selection"] == SelectionConfig().model_dump(mode="json")


def test_the_tables_know_the_pileup_of_every_event(dataset: Path) -> None:
    found = {
        (row["event_id"], row["pileup"])
        for path in dataset.rglob(f"*{TABLE_SUFFIX}")
        for row in pq.read_table(path, columns=["event_id", "pileup"]).to_pylist()
    }
    entries = np.array([int(event_id.rpartition(":")[2]) for event_id, _ in found])
    expected = [None if value == schema.NO_PILEUP else value for value in pileup_of(entries).tolist()]
    assert [value for _, value in found] == expected
    assert len(found) == 3 * KEPT


def test_weighted_cutflow_sums_the_weights_of_the_same_events(dataset: Path, parsed: dict[str, list[Record]]) -> None:
    weighted = manifest_of(dataset).extra["weighted_cutflow"]
    for sample in schema.SAMPLES:
        total = sum(float(unit.weights.sum()) for units in UNITS.values() for unit in units if unit.sample == sample)
        assert weighted[sample]["isolated_lepton"] == pytest.approx(total, rel=1e-5)
        for split in schema.SPLITS:
            weights = [stored(record.event)[2] for record in parsed[split] if record.sample == sample]
            assert weighted[sample][split] == pytest.approx(sum(weights))
        splits = sum(weighted[sample][split] for split in schema.SPLITS)
        assert weighted[sample]["balanced"] == pytest.approx(splits)


def test_the_manifest_says_the_cross_section_of_selected_events(dataset: Path) -> None:
    units = [unit for units in UNITS.values() for unit in units if unit.sample == "wjets"]
    weights = WeightSums.of([float(weight) for unit in units for weight in unit.weights])
    expected = CrossSection.combine([CROSS_SECTION] * len(units)).passing(
        WeightSums.of([1.0] * 9 * len(units)), weights
    )
    found = cross_sections(manifest_of(dataset))
    assert found == {"qcd": None, "ttbar": None, "wjets": pytest.approx((expected.pb, expected.error))}


def test_the_manifest_says_what_the_weights_are_worth(dataset: Path, parsed: dict[str, list[Record]]) -> None:
    extra = manifest_of(dataset).extra
    everything = [
        float(weight) for units in UNITS.values() for u in units if u.sample == "ttbar" for weight in u.weights
    ]
    kept = [
        (split, stored(record.event)[2])
        for split in schema.SPLITS
        for record in parsed[split]
        if record.sample == "ttbar"
    ]
    steps = {"isolated_lepton": everything, "balanced": [weight for _, weight in kept]}
    steps |= {split: [weight for of_split, weight in kept if of_split == split] for split in schema.SPLITS}
    for step, weights in steps.items():
        share = sum(abs(w) for w in weights if w < 0) / sum(abs(w) for w in weights)
        assert extra["negative_share"]["ttbar"][step] == pytest.approx(share)
        assert 0.2 < share < 0.8
        effective = sum(weights) ** 2 / sum(w**2 for w in weights)
        assert extra["effective_events"]["ttbar"][step] == pytest.approx(effective)
    assert set(extra["negative_share"]["qcd"].values()) == {0}


# --- running it again ----------------------------------------------------------------------------------------------


def test_a_lost_dataset_comes_back_byte_for_byte_on_any_number_of_cores(
    base: Path, dataset: Path, tmp_path: Path
) -> None:
    arguments = ["--partitions", *reversed(DAYS), "--dataset", "demo", *SETTINGS]
    jobs = []
    for cores in (1, 4):
        own = tmp_path / str(cores)
        shutil.copytree(base / "selected", own / "selected")
        command = [sys.executable, JOB, "--base", own, *arguments, "--master", f"local[{cores}]"]
        jobs.append((own, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
    for own, job in jobs:
        output, _ = job.communicate()
        assert job.returncode == 0
        assert "done: 300 new events of 300" in output
        assert content(own / "datasets" / "demo") == content(dataset)


def test_a_second_run_redoes_nothing(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    times = {path: path.stat().st_mtime_ns for path in (copy / "datasets" / "demo").rglob("*")}
    with caplog.at_level(logging.INFO):
        dataset = run(copy, days=(DAYS[1], DAYS[0], DAYS[1]))
    assert "nothing to do" in caplog.text
    files = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.is_file()}
    assert files.items() <= times.items()


def test_damaged_files_come_back_byte_for_byte(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy / "datasets" / "demo"
    before = content(folder)
    shard, scaling = files_of(folder) / "train" / "shard-00003-of-00008.tfrecord", files_of(folder) / "scaling.json"
    for path in (shard, scaling):
        path.write_bytes(path.read_bytes()[:-5])
    with caplog.at_level(logging.INFO):
        assert content(run(copy)) == before
    first = min(str(path) for path in (shard, scaling))
    assert f"{first} is missing or cut short: to be done again (2 such files)" in caplog.text
    assert "13 shards: 12 done before, 1 to do" in caplog.text


def test_damage_that_leaves_the_size_is_found_on_request(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = copy / "datasets" / "demo"
    before = content(folder)
    shard = files_of(folder) / "validation" / "shard-00001-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    with caplog.at_level(logging.INFO):
        run(copy)
        assert "nothing to do" in caplog.text
        assert content(run(copy, "--verify")) == before
    assert f"{shard} is damaged; doing it again" in caplog.text


def test_a_killed_run_is_gone_on_with(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    before, folder = content(copy / "datasets" / "demo"), copy / "datasets" / "demo"
    manifest = manifest_of(folder)
    *shards, _ = manifest.units
    lost = [unit.outputs[0].path for unit in shards[4:]]
    (folder / "manifest-000001.json").unlink()
    for unit in shards[:4]:
        record = folder / "_records" / f"{unit.outputs[0].path}.json"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(unit.model_dump_json())
    for path in lost:
        (folder / path).unlink()
    times = {unit.outputs[0].path: (folder / unit.outputs[0].path).stat().st_mtime_ns for unit in shards[:4]}
    with caplog.at_level(logging.INFO):
        assert content(run(copy)) == before
    assert "13 shards: 4 done before, 9 to do" in caplog.text
    assert {path: (folder / path).stat().st_mtime_ns for path in times} == times


def test_events_are_not_read_again_where_only_the_scaling_is_lost(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, scaling = content(copy / "datasets" / "demo"), files_of(copy / "datasets" / "demo") / "scaling.json"
    scaling.unlink()
    monkeypatch.delattr("toposieve.spark.preparation.write_shards")
    assert content(run(copy)) == before


def test_everything_is_made_anew_on_request(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = content(copy / "datasets" / "demo")
    with caplog.at_level(logging.INFO):
        assert content(run(copy, "--recompute")) == before
    assert "13 shards: 0 done before, 13 to do" in caplog.text
    assert "made again, the same as before" in caplog.text


def test_the_history_is_shown(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(copy, "--history")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{copy / 'datasets' / 'demo'}:"
    assert "prepare: 14 units, 300 events" in lines[1]


def test_a_day_need_not_have_every_class_but_the_range_does(tmp_path: Path) -> None:
    write_selected(tmp_path, DAYS[0], random_units(DAYS[0], {"qcd": 12, "ttbar": 12}, files=1, seed=4))
    write_selected(tmp_path, DAYS[1], random_units(DAYS[1], {"wjets": 12}, files=1, seed=5))
    with pytest.raises(InvalidInputError, match="no selected events of wjets: every class is needed"):
        run(tmp_path, days=DAYS[:1])
    assert manifest_of(run(tmp_path)).total("events") == 36


def test_changed_inputs_make_it_anew(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = content(copy / "datasets" / "demo")
    write_selected(copy, DAYS[1], random_units(DAYS[1], {"qcd": 59, "ttbar": 30, "wjets": 80}, seed=3))
    with caplog.at_level(logging.INFO):
        after = content(run(copy))
    assert f"selected/{DAYS[1]} changed since" in caplog.text
    assert before.items() <= after.items()  # for those who still read it
    assert len(after) == 2 * len(before)
    [old] = [name for name in before if name.endswith("scaling.json")]
    assert after[f"{files_of(copy / 'datasets' / 'demo').name}/scaling.json"] != before[old]
    run(copy, "--sweep")
    assert len(content(copy / "datasets" / "demo")) == len(before) + 1  # and the old manifest's stub


def test_a_selection_by_another_version_of_the_code_changes_nothing(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(copy / "datasets" / "demo")
    path = copy / "selected" / DAYS[0] / "manifest-000001.json"
    path.write_text(path.read_text().replace('"code_version": "test"', '"code_version": "later"'))
    with caplog.at_level(logging.INFO):
        assert content(run(copy)) == before
    assert "nothing to do" in caplog.text


def test_another_configuration_is_refused_unless_it_may_replace(copy: Path) -> None:
    before = content(copy / "datasets" / "demo")
    with pytest.raises(InvalidInputError, match="another configuration"):
        run(copy, "--set", "seed=6")
    with pytest.raises(InvalidInputError, match="another configuration"):
        run(copy, days=DAYS[:1])
    assert content(copy / "datasets" / "demo") == before
    after = content(run(copy, "--set", "events_per_shard=100", "--replace"))
    new = [name for name in after.keys() - before.keys() if "/train/" in name]
    assert {name.partition("/")[2] for name in new} == {
        f"train/shard-0000{i}-of-00002{suffix}" for i in range(2) for suffix in (".tfrecord", TABLE_SUFFIX)
    }


def test_a_run_killed_while_it_replaces_a_dataset_leaves_the_old_shards(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = copy / "datasets" / "demo"
    monkeypatch.setattr(Publication, "publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(copy, "--set", "seed=6", "--replace")
    shards = [file for file in manifest_of(dataset).outputs() if "shard" in file.path]
    assert all(manifests.check_listed(key_of(dataset), file) for file in shards)
    assert len(list(dataset.glob("*/*/shard-*"))) == 2 * len(shards)


def interrupt(*_: object) -> None:
    """As SIGKILL would, as far as files go."""
    raise KeyboardInterrupt


def test_a_selection_replaced_meanwhile_is_a_conflict(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(copy / "datasets" / "demo")

    def selecting_meanwhile(*_: object, **__: object) -> datasets.DatasetContent:
        write_selected(copy, DAYS[0], UNITS[DAYS[0]][:1])
        return datasets.DatasetContent([], manifests.OutputFile(path="", bytes=0, checksum=""), {}, {})

    monkeypatch.setattr("toposieve.spark.preparation.prepare", selecting_meanwhile)
    scaling = files_of(copy / "datasets" / "demo") / datasets.SCALING_NAME
    scaling.unlink()
    with pytest.raises(ConflictError, match=f"selected/{DAYS[0]} changed"):
        run(copy)
    assert content(copy / "datasets" / "demo").keys() == before.keys() - {f"{scaling.parent.name}/{scaling.name}"}


@pytest.mark.usefixtures("spark")
def test_a_full_disk_is_said_and_the_old_dataset_stays(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(copy / "datasets" / "demo")
    monkeypatch.setattr("toposieve.spark.preparation_passes._write", write_to_full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:  # cli.run turns it into exit code 2
        run(copy, "--set", "seed=6", "--replace")
    assert caught.value.errno == errno.ENOSPC
    assert before.items() <= content(copy / "datasets" / "demo").items()
    assert manifest_of(copy / "datasets" / "demo").config["preparation"]["seed"] == SEED


def write_to_full_disk(*_: object) -> None:
    """Meets a full disk, whatever the task. (Spark's workers get it by value: this is no module of theirs.)"""
    Path("/dev/full").write_bytes(b"content")


# --- bad input -----------------------------------------------------------------------------------------------------


def refuse(base: Path, pattern: str, *arguments: str, days: tuple[str, ...] = DAYS) -> None:
    """The job refuses, and leaves nothing."""
    with pytest.raises(InvalidInputError, match=pattern):
        run(base, *arguments, days=days, dataset="refused")
    assert not [path for path in (base / "datasets" / "refused").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "option"),
    [({"dataset": "../models"}, "--dataset '../models'"), ({"days": (DAYS[0], "a/b")}, "--partitions 'a/b'")],
)
def test_names_that_lead_elsewhere(base: Path, arguments: dict[str, Any], option: str) -> None:
    before = set(base.rglob("*"))
    with pytest.raises(InvalidInputError, match=f"{option}: use letters"):
        run(base, **arguments)
    assert set(base.rglob("*")) == before


def test_a_partition_that_is_not_selected(base: Path) -> None:
    refuse(
        base,
        r"not selected under .*: 2026-01-07, 2026-01-08; run select_events",
        days=("2026-01-08", *DAYS, "2026-01-07"),
    )


def test_partitions_of_different_selections(copy: Path) -> None:
    write_selected(copy, DAYS[1], UNITS[DAYS[1]], SelectionConfig(jet_pt_min=25))
    refuse(copy, rf"different configurations or code: {DAYS[0]} .*; {DAYS[1]}")


def test_partitions_selected_by_different_code(copy: Path) -> None:
    write_selected(copy, DAYS[1], UNITS[DAYS[1]], code=CODE_NUMBERS["select"] + 1)
    refuse(copy, rf"different configurations or code: {DAYS[0]} .*; {DAYS[1]}")


def test_a_selection_older_than_its_events(copy: Path) -> None:
    folder = write_selected(copy, DAYS[0], UNITS[DAYS[0]], inputs={f"events/{DAYS[0]}": "0" * 32})
    assert datasets.read_inputs(key_of(copy), DAYS, schema.SAMPLES).units  # the events are gone: fine
    (copy / "events" / DAYS[0]).mkdir(parents=True)
    (copy / "events" / DAYS[0] / "manifest-000001.json").write_bytes(manifests.read_manifest(folder).to_bytes())
    refuse(copy, f"events changed after the selection of {DAYS[0]}")


def test_an_unknown_sample(copy: Path) -> None:
    write_selected(copy, DAYS[0], random_units(DAYS[0], {"qcd": 50, "ttbar": 50, "zjets": 50}))
    refuse(copy, f"zjets/{DAYS[0]}/zjets-000000.root: unknown sample")


def test_a_class_without_events(copy: Path) -> None:
    write_selected(copy, DAYS[0], random_units(DAYS[0], {"qcd": 50, "ttbar": 50}))
    refuse(copy, "no selected events of wjets", days=DAYS[:1])


@pytest.mark.usefixtures("spark")
def test_an_altered_and_a_missing_selected_file(copy: Path) -> None:
    altered, missing = sorted((copy / "selected" / DAYS[0]).glob("*.parquet"))[:2]
    altered.write_bytes(altered.read_bytes()[:-1] + b"2")
    missing.unlink()
    refuse(copy, rf"(?s){altered.name} is damaged .*{missing.name} is missing")


def test_a_class_of_few_effective_events_is_refused_before_spark_starts(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light, *rest = UNITS[DAYS[0]]
    write_selected(copy, DAYS[0], [replace(light, weights=light.weights * np.float32(1e-9)), *rest])
    monkeypatch.delattr("toposieve.spark.session.spark_session")
    refuse(copy, "qcd: 100 selected events count as .* effective ones", "--set", "effective_events_min=0.9")


def test_bad_input_ends_with_exit_code_2(tmp_path: Path) -> None:
    arguments = ["--base", tmp_path, "--partitions", "nowhere", "--dataset", "demo"]
    done = subprocess.run([sys.executable, JOB, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: not selected under")
    assert "Traceback" not in done.stderr


def test_timing_is_written_beside_the_manifest(dataset: Path) -> None:
    assert json.loads((dataset / TIMING_NAME).read_text())["events"] == 3 * KEPT
