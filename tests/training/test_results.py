import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.evaluation_data import make_scaling
from support.training_data import key_of, write_dataset
from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TrainingConfig
from toposieve.io.manifests import fingerprint, read_manifest
from toposieve.io.store import Key
from toposieve.training import loop
from toposieve.training.gang import Gang
from toposieve.training.loop import Task, Trained
from toposieve.training.results import publish
from toposieve.training.runs import finished_run, results_of
from toposieve.training.shards import open_dataset


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Trained]:
    base = tmp_path_factory.mktemp("results")
    dataset = open_dataset(key_of(write_dataset(base / "datasets" / "d")))
    config = TrainingConfig(model="hlf", epochs=2, batch_size=8)
    task = Task(config, dataset, Gang(), Key(str(base)) / "models" / "hlf" / "run")
    trained = loop.train(task, tf.distribute.get_strategy(), lambda: None)
    publish(task, trained)
    return task, trained


def content(task: Task, name: str) -> dict[str, object]:
    return json.loads((task.run_directory / name).read_text())


def published(task: Task, name: str) -> Key:
    return task.run_directory / results_of(read_manifest(task.run_directory))[name].path


def test_the_model_has_the_weights_of_the_best_epoch(finished: tuple[Task, Trained]) -> None:
    task, trained = finished
    model = keras.models.load_model(str(published(task, "model.keras")))
    for stored, expected in zip(model.get_weights(), trained.weights, strict=True):
        np.testing.assert_array_equal(stored, expected)


def test_the_same_model_lies_beside_for_tensorflow_alone(finished: tuple[Task, Trained]) -> None:
    task, _ = finished
    events = np.random.default_rng(2).normal(size=(5, 14)).astype(np.float32)
    loaded = tf.saved_model.load(str(task.run_directory / "saved_model"))
    model = keras.models.load_model(str(published(task, "model.keras")))
    np.testing.assert_allclose(loaded.serve({"high_level": events}), model({"high_level": events}), atol=1e-6)
    assert not any("saved_model" in file.path for file in read_manifest(task.run_directory).outputs())


def test_equal_weights_give_an_equal_manifest(finished: tuple[Task, Trained], tmp_path: Path) -> None:
    task, trained = finished
    again = replace(task, run_directory=Key(str(tmp_path)) / "run")
    publish(again, trained)
    assert read_manifest(again.run_directory) == read_manifest(task.run_directory)
    publish(replace(again, dataset=replace(task.dataset, scaling=make_scaling())), trained)
    model = keras.models.load_model(str(published(again, "model.keras")))
    assert model.get_layer("scaled_high_level").get_config()["mean"] == make_scaling().high_level_offset.tolist()


def test_the_history_has_a_value_per_epoch_and_no_time(finished: tuple[Task, Trained]) -> None:
    history = json.loads(published(finished[0], "history.json").read_text())
    assert set(history) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
    assert all(len(values) == 2 for values in history.values())


def test_the_metrics_are_those_of_the_best_epoch(finished: tuple[Task, Trained]) -> None:
    metrics, history = (
        content(finished[0], "metrics.json"),
        json.loads(published(finished[0], "history.json").read_text()),
    )
    assert metrics["validation_loss"] == min(history["validation_loss"])
    assert history["validation_loss"][metrics["best_epoch"] - 1] == metrics["validation_loss"]
    assert metrics["parameters"] == 2013
    assert (metrics["train_events"], metrics["validation_events"]) == (60, 24)


def test_times_are_kept_apart(finished: tuple[Task, Trained]) -> None:
    timing = content(finished[0], "timing.json")
    assert timing["events"] == 120
    assert len(timing["epoch_seconds"]) == 2
    assert timing["seconds"] == pytest.approx(sum(timing["epoch_seconds"]))


def test_the_manifest_comes_from_the_dataset_and_lists_the_results(finished: tuple[Task, Trained]) -> None:
    task, _ = finished
    manifest = read_manifest(task.run_directory)
    assert manifest.config_hash == task.config.hash
    assert manifest.inputs == {"datasets/d": fingerprint(read_manifest(task.dataset.directory))}
    assert list(results_of(manifest)) == ["model.keras", "history.json", "metrics.json"]
    assert len({file.path.partition("/")[0] for file in manifest.outputs()}) == 1
    assert manifest.code == CODE_NUMBERS["train"]
    assert manifest.total("train") == 60
    assert finished_run(task.run_directory) == manifest


def test_the_manifest_names_the_dataset_as_it_was_opened(finished: tuple[Task, Trained], tmp_path: Path) -> None:
    task, trained = finished
    dataset = open_dataset(key_of(write_dataset(tmp_path / "datasets" / "d")))
    publish(replace(task, dataset=dataset, run_directory=Key(str(tmp_path)) / "run"), trained)
    before = read_manifest(Key(str(tmp_path)) / "run").inputs
    write_dataset(tmp_path / "datasets" / "d", train=72)
    publish(replace(task, dataset=dataset, run_directory=Key(str(tmp_path)) / "run"), trained)
    assert read_manifest(Key(str(tmp_path)) / "run").inputs == before


def test_lost_results_are_written_again(finished: tuple[Task, Trained]) -> None:
    task, trained = finished
    before = {name: published(task, name).read_bytes() for name in ("history.json", "metrics.json")}
    published(task, "history.json").delete()
    assert finished_run(task.run_directory) is None
    publish(task, trained)
    assert finished_run(task.run_directory) is not None
    assert before == {name: published(task, name).read_bytes() for name in before}
    assert (task.run_directory / "metrics.json").read_bytes() == before["metrics.json"]
