from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support import evaluation_data
from support.evaluation_data import DIGITS, base_key, run_folder
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation import inputs
from toposieve.io import manifests
from toposieve.io.publication import write_timing


@pytest.fixture
def dataset(tmp_path):
    return evaluation_data.write_dataset(tmp_path)


def opened(dataset):
    return inputs.open_test_data(base_key(dataset.parents[1]) / "datasets" / dataset.name)


def open_run(base, dataset, directory, label="a"):
    return inputs.open_run(base_key(base), opened(dataset), label, directory.relative_to(base).as_posix())


def manifest_of(directory):
    return manifests.read_manifest(base_key(directory))


def edit_manifest(directory, **changes):
    evaluation_data.save_manifest(directory, manifest_of(directory).model_copy(update=changes))


def test_test_data_is_the_test_split_alone(dataset):
    data = opened(dataset)
    assert [shard.key.parent.name for shard in data.split.shards] == ["test", "test"]
    assert data.split.events == sum(evaluation_data.TEST_EVENTS.values())
    assert data.counts == evaluation_data.TEST_EVENTS
    np.testing.assert_array_equal(data.scaling.high_level_scale, evaluation_data.make_scaling().high_level_scale)


def test_a_missing_dataset_names_the_stage_to_run(tmp_path):
    with pytest.raises(InvalidInputError, match="prepare_features"):
        opened(tmp_path / "datasets" / "none")


@pytest.mark.parametrize("name", ["test/shard-00001-of-00002.tfrecord", "scaling.json"])
def test_a_missing_file_is_refused(dataset, name):
    (dataset / DIGITS / name).unlink()
    with pytest.raises(InvalidInputError, match="missing"):
        opened(dataset)


def test_an_altered_scaling_is_refused(dataset):
    text = (dataset / DIGITS / "scaling.json").read_text()
    (dataset / DIGITS / "scaling.json").write_text(text.replace("50.0", "51.0", 1))
    with pytest.raises(InvalidInputError, match=r"scaling\.json is altered"):
        opened(dataset)


def test_a_shard_of_another_size_is_refused(dataset):
    shard = dataset / DIGITS / "test" / "shard-00000-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InvalidInputError, match="bytes long instead of"):
        opened(dataset)


def test_a_dataset_without_test_events_is_refused(dataset):
    units = manifest_of(dataset).units
    edit_manifest(dataset, units=tuple(unit for unit in units if not unit.source.startswith("test/")))
    with pytest.raises(InvalidInputError, match="no events in its test split"):
        opened(dataset)


def test_a_dataset_without_scaling_is_refused(dataset):
    units = manifest_of(dataset).units
    edit_manifest(dataset, units=tuple(unit for unit in units if unit.source != "scaling"))
    with pytest.raises(InvalidInputError, match=r"lists no scaling\.json"):
        opened(dataset)


def test_a_run_is_opened_under_its_label(tmp_path, dataset):
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf", epochs=2))
    run = open_run(tmp_path, dataset, directory)
    assert (run.label, run.model, str(run.directory)) == ("a", "hlf", str(directory))
    assert str(run.model_file) == str(run_folder(directory) / "model.keras")
    assert str(run.scores) == str(tmp_path / "scores" / "demo" / "hlf" / directory.name)
    assert run.history == evaluation_data.HISTORY
    assert run.metrics["best_epoch"] == 2


def test_a_run_that_is_not_there_is_named_with_its_label(tmp_path, dataset):
    with pytest.raises(InvalidInputError, match=r"^a: .*models/hlf/0123 holds no finished run: train it, or check"):
        open_run(tmp_path, dataset, tmp_path / "models" / "hlf" / "0123")


@pytest.mark.parametrize(("stage", "known_as"), [("training", "train"), ("train_trees", "train_trees")])
def test_a_run_of_other_code_is_compared_and_said(tmp_path, dataset, caplog, stage, known_as):
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    edit_manifest(directory, stage=stage, code=CODE_NUMBERS[known_as])
    open_run(tmp_path, dataset, directory)
    assert not caplog.records
    edit_manifest(directory, code=CODE_NUMBERS[known_as] - 1)
    assert open_run(tmp_path, dataset, directory).label == "a"
    now = CODE_NUMBERS[known_as]
    assert f"{directory} was made with code {now - 1} of {known_as}, which is {now} now" in caplog.text


def test_a_run_on_another_dataset_is_refused(tmp_path, dataset):
    other = evaluation_data.write_dataset(tmp_path, "other", sizes={"qcd": 4, "ttbar": 4, "wjets": 4})
    directory = evaluation_data.write_run(tmp_path, other, TrainingConfig(model="hlf"))
    with pytest.raises(InvalidInputError, match=r"^a: .* was trained on datasets/other, and .*/demo is not that"):
        open_run(tmp_path, dataset, directory)


def test_a_run_with_a_model_cut_short_is_refused(tmp_path, dataset):
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    (run_folder(directory) / "model.keras").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=r"model\.keras is 0 bytes long"):
        open_run(tmp_path, dataset, directory)


def test_a_run_with_an_altered_history_is_refused(tmp_path, dataset):
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    path = run_folder(directory) / "history.json"
    path.write_text(path.read_text().replace("1.1", "1.2"))
    with pytest.raises(InvalidInputError, match=r"history\.json is altered"):
        open_run(tmp_path, dataset, directory)


def test_runs_come_in_the_order_of_models_and_those_kept_only_if_they_are_there(tmp_path, dataset, caplog):
    names = {
        label: evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model=model, seed=seed))
        .relative_to(tmp_path)
        .as_posix()
        for label, model, seed in [("z", "hlf", 1), ("b", "inclusive", 1), ("a", "hlf", 2)]
    }
    kept = {"a": names["a"], "z": names["a"], "gone": "models/hlf/gone"}
    chosen = {label: names[label] for label in ("b", "z")}
    found = inputs.open_runs(base_key(tmp_path), opened(dataset), chosen, kept)
    assert [run.label for run in found] == ["a", "z", "b"]
    assert f"models/hlf/{found[1].directory.name}" == names["z"]
    assert "no longer in the report: gone: " in caplog.text


def test_fingerprints_change_with_dataset_run_scores_and_label(tmp_path, dataset):
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    data, run = opened(dataset), open_run(tmp_path, dataset, directory)
    Path(str(run.scores)).mkdir(parents=True)
    evaluation_data.save_manifest(Path(str(run.scores)), run.manifest)
    base, name = base_key(tmp_path), f"models/hlf/{directory.name}"
    before = inputs.input_fingerprints(base, data, [run])
    assert set(before) == {"datasets/demo", f"a={name}", run.scores.relative_to(base)}
    edit_manifest(dataset, notes=("read before this note was written",))
    edit_manifest(directory, code_version="other", notes=("another run",))
    edit_manifest(Path(str(run.scores)), notes=("other scores",))
    after = inputs.input_fingerprints(base, data, [replace(run, manifest=manifest_of(directory))])
    assert {name for name in before if after[name] == before[name]} == set()
    assert inputs.input_fingerprints(base, data, [replace(run, label="b")]).keys() != before.keys()
    assert inputs.input_fingerprints(base, data, [run], ["c"]).keys() > before.keys()


def save_stage(directory, *, upstream=(), sources=(), seconds=None):
    """A stage's manifest and, if it took a time, its timing."""
    directory.mkdir(parents=True)
    units = tuple(
        manifests.Unit(source=source, source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=())
        for source in sources
    )
    manifest = manifests.Manifest(
        stage="any", config_hash="", config={}, inputs=dict.fromkeys(upstream, ""), units=units, code_version=""
    )
    evaluation_data.save_manifest(directory, manifest)
    if seconds is not None:
        write_timing(base_key(directory), seconds=seconds, events=10)


def test_times_of_everything_behind_the_report_in_order(tmp_path, dataset):
    save_stage(tmp_path / "events" / "a", sources=["qcd/a/1.root", "wjets/a/1.root"], seconds=1)
    save_stage(tmp_path / "selected" / "a", upstream=["events/a"], sources=["qcd/a/1.root"], seconds=2)
    save_stage(tmp_path / "selected" / "b", upstream=["events/gone"], seconds=3)
    (tmp_path / "raw" / "qcd" / "a").mkdir(parents=True)
    write_timing(base_key(tmp_path) / "raw" / "qcd" / "a", seconds=4, events=7)
    edit_manifest(dataset, inputs={"selected/a": "", "selected/b": ""})
    write_timing(base_key(dataset), seconds=5, events=9)
    directory = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    (directory / "timing.json").write_text('{"seconds": 6.5, "epoch_seconds": [3, 3.5]}')
    data, run = opened(dataset), open_run(tmp_path, dataset, directory)
    write_timing(run.scores, seconds=1.5, events=9)
    report = base_key(tmp_path) / "reports" / "demo"
    write_timing(report, seconds=4.5, events=9)
    assert inputs.stage_times(base_key(tmp_path), data, [run], report) == [
        inputs.StageTime("raw", "raw/qcd/a", 4.0, 7),
        inputs.StageTime("events", "events/a", 1.0, 10),
        inputs.StageTime("selected", "selected/a", 2.0, 10),
        inputs.StageTime("selected", "selected/b", 3.0, 10),
        inputs.StageTime("datasets", "datasets/demo", 5.0, 9),
        inputs.StageTime("models", f"models/hlf/{directory.name}", 6.5, None),
        inputs.StageTime("scores", f"scores/demo/hlf/{directory.name}", 1.5, 9),
        inputs.StageTime("reports", "reports/demo", 4.5, 9),
    ]


def test_a_broken_time_is_left_out_and_said(tmp_path, dataset, caplog):
    (dataset / "timing.json").write_text("{}")
    assert inputs.stage_times(base_key(tmp_path), opened(dataset), [], base_key(tmp_path) / "reports" / "demo") == []
    assert "not a time" in caplog.text
