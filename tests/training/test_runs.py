from pathlib import Path

import pytest

from support.training_data import write_dataset, write_published_dataset
from toposieve.config import TrainingConfig
from toposieve.io.manifests import MANIFEST_NAME, Manifest, Unit, describe_file
from toposieve.training.runs import dataset_fingerprint, is_complete, run_directory, run_id


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "datasets" / "d")


def change_manifest(dataset: Path, old: str, new: str) -> None:
    path = dataset / MANIFEST_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_run_id_is_stable_and_sixteen_digits(dataset: Path) -> None:
    first = run_id(dataset, TrainingConfig())
    assert first == run_id(dataset, TrainingConfig())
    assert len(first) == 16
    int(first, 16)


@pytest.mark.parametrize("change", [{"seed": 2}, {"model": "hlf"}, {"epochs": 7}, {"record_keys": {"label": "x"}}])
def test_run_id_changes_with_the_configuration(dataset: Path, change: dict[str, object]) -> None:
    assert run_id(dataset, TrainingConfig(**change)) != run_id(dataset, TrainingConfig())


def test_run_id_changes_with_the_dataset_but_not_with_its_code_version(dataset: Path) -> None:
    before = run_id(dataset, TrainingConfig())
    change_manifest(dataset, '"code_version": "test"', '"code_version": "later"')
    assert run_id(dataset, TrainingConfig()) == before
    change_manifest(dataset, '"events": 15', '"events": 14')
    assert run_id(dataset, TrainingConfig()) != before


def test_a_dataset_without_a_manifest_is_known_by_its_files(tmp_path: Path) -> None:
    dataset = write_published_dataset(tmp_path / "foreign")
    before = dataset_fingerprint(dataset, None)
    assert before == dataset_fingerprint(dataset, None)
    (dataset / "train" / "part-r-00002").write_bytes(b"more")
    assert dataset_fingerprint(dataset, None) != before


def test_run_directory_names_model_and_run(dataset: Path, tmp_path: Path) -> None:
    config = TrainingConfig(model="hlf")
    assert run_directory(tmp_path, dataset, config) == tmp_path / "models" / "hlf" / run_id(dataset, config)


def test_a_run_is_complete_when_all_that_its_manifest_lists_is_whole(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    result = tmp_path / "model.keras"
    result.write_bytes(b"weights")
    unit = Unit(
        source="d",
        source_checksum="",
        entry_start=0,
        entry_stop=1,
        counts={},
        outputs=(describe_file(result, tmp_path),),
    )
    manifest = Manifest(stage="training", config_hash="0", config={}, units=(unit,), code_version="test")
    (tmp_path / MANIFEST_NAME).write_text(manifest.model_dump_json())
    assert is_complete(tmp_path)
    result.write_bytes(b"altered")
    assert not is_complete(tmp_path)
