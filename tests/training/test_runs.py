import shutil
from pathlib import Path
from typing import Any

import pytest

from support.training_data import key_of, write_dataset
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TrainingConfig, load_config
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Manifest, Unit, describe_file, fingerprint, manifest_name, read_manifest
from toposieve.io.store import Key
from toposieve.training import runs
from toposieve.training.runs import (
    best_of_study,
    copy_metrics,
    finished_run,
    model_code,
    results_of,
    run_directory,
    run_id,
    shorter_runs,
)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "datasets" / "d")


def fingerprint_of(dataset: Path) -> str:
    return fingerprint(read_manifest(key_of(dataset)))


def change_manifest(dataset: Path, old: str, new: str) -> None:
    path = dataset / manifest_name(1)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_run_id_is_stable_and_sixteen_digits() -> None:
    first = run_id("dataset", TrainingConfig())
    assert first == run_id("dataset", TrainingConfig())
    assert len(first) == 16
    int(first, 16)


@pytest.mark.parametrize("change", [{"seed": 2}, {"model": "hlf"}, {"epochs": 7}])
def test_run_id_changes_with_the_configuration(change: dict[str, object]) -> None:
    assert run_id("dataset", TrainingConfig(**change)) != run_id("dataset", TrainingConfig())


def test_run_id_changes_with_dataset_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_id("dataset", TrainingConfig())
    assert run_id("other", TrainingConfig()) != before
    monkeypatch.setitem(CODE_NUMBERS, "train", CODE_NUMBERS["train"] + 1)
    assert run_id("dataset", TrainingConfig()) != before


def test_a_dataset_is_known_by_its_manifest_less_the_code_version(dataset: Path) -> None:
    before = fingerprint_of(dataset)
    change_manifest(dataset, '"code_version": "test"', '"code_version": "later"')
    assert fingerprint_of(dataset) == before
    change_manifest(dataset, '"events": 15', '"events": 14')
    assert fingerprint_of(dataset) != before


def test_run_directory_names_model_and_run() -> None:
    config, base = TrainingConfig(model="hlf"), Key("/data")
    assert run_directory(base, "dataset", config) == base / "models" / "hlf" / run_id("dataset", config)


def test_shorter_runs_differ_in_epochs_alone_and_matter_where_the_rate_does_not_depend_on_them() -> None:
    directory = Key("/data/models/hlf/0")
    config = TrainingConfig(model="hlf", epochs=3, learning_rate_schedule="steps")
    names = [run_id("dataset", config.model_copy(update={"epochs": epochs})) for epochs in (1, 2)]
    assert shorter_runs(directory, "dataset", config) == [directory.parent / name for name in names]
    cosine = config.model_copy(update={"learning_rate_schedule": "cosine"})
    assert shorter_runs(directory, "dataset", cosine) == []


@pytest.mark.parametrize("change", [{"checkpoint_steps": 7}, {"micro_batch_size": 16}])
def test_a_run_stays_the_same_whatever_does_not_change_its_result(change: dict[str, int]) -> None:
    assert run_id("dataset", TrainingConfig(**change)) == run_id("dataset", TrainingConfig())


def test_what_a_search_has_found_is_what_its_file_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    best = tmp_path / "studies" / "first" / "best.json"
    best.parent.mkdir(parents=True)

    def found() -> dict[str, Any]:
        return best_of_study(Key(str(tmp_path)), "first", "train.py", "now")

    with pytest.raises(InvalidInputError, match=r"has no best\.json: run tune\.py to its end, or check --study"):
        found()
    best.write_text('{"epochs": 9')
    with pytest.raises(InvalidInputError, match=r"best\.json is no JSON .*run tune\.py again"):
        found()
    for damaged in ("[]", "{}", '{"models": []}'):
        best.write_text(damaged)
        with pytest.raises(InvalidInputError, match=r"best\.json names no model: remove it"):
            found()
    best.write_text('{"model": "hlf", "epochs": 9, "batch_size": 64}')
    config = load_config(TrainingConfig, '{"batch_size": 32}', {"seed": 3}, found())
    assert (config.epochs, config.batch_size, config.seed) == (9, 32, 3)
    for content in ('{"dataset": "before"}', "[]", "{"):
        best.with_name("study.json").write_text(content)
        caplog.clear()
        found()
        assert "is no search on this dataset as it is now" in caplog.text
    best.with_name("study.json").write_text('{"dataset": "now"}')
    caplog.clear()
    found()
    assert not caplog.text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with one file."""
    (tmp_path / "0123456789ab").mkdir()
    metrics = tmp_path / "0123456789ab" / "metrics.json"
    metrics.write_bytes(b"{}")
    file = describe_file(metrics, "0123456789ab/metrics.json")
    unit = Unit(source="d", source_checksum="", entry_start=0, entry_stop=1, counts={}, outputs=(file,))
    code = CODE_NUMBERS["train"]
    manifest = Manifest(stage="training", config_hash="0", config={}, code=code, units=(unit,), code_version="test")
    (tmp_path / manifest_name(1)).write_bytes(manifest.to_bytes())
    return tmp_path


def test_a_run_without_a_manifest_is_not_finished(tmp_path: Path) -> None:
    assert finished_run(Key(str(tmp_path))) is None


def test_a_run_is_finished_when_all_that_its_manifest_lists_is_whole(run: Path) -> None:
    manifest = finished_run(Key(str(run)))
    assert manifest is not None
    assert list(results_of(manifest)) == ["metrics.json"]
    (run / "0123456789ab" / "metrics.json").write_bytes(b"{} ")
    assert finished_run(Key(str(run))) is None


def test_a_run_of_other_code_is_not_finished(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODE_NUMBERS, "train", CODE_NUMBERS["train"] + 1)
    assert finished_run(Key(str(run))) is None


def test_metrics_are_copied_to_their_plain_place(run: Path) -> None:
    copy_metrics(Key(str(run)), read_manifest(Key(str(run))))
    assert (run / "metrics.json").read_bytes() == b"{}"


def test_the_code_of_models_changes_with_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, folder = model_code(), Path(runs.__file__).parent
    shutil.copytree(folder, tmp_path / "training")
    shutil.copy(folder.parent / "models.py", tmp_path)
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "training" / "runs.py"))
    assert model_code() == before
    dense = tmp_path / "training" / "architectures" / "dense.py"
    dense.write_text(dense.read_text().replace("relu", "linear"))
    assert model_code() != before
