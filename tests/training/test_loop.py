import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from support import second_device
from support.evaluation_data import make_scaling
from support.training_data import key_of, write_dataset
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import manifest_name
from toposieve.io.store import Key
from toposieve.training import loop, meter
from toposieve.training.checkpoints import Progress
from toposieve.training.gang import Gang
from toposieve.training.loop import Task, Trained, best_epoch
from toposieve.training.records import Batch
from toposieve.training.runs import run_directory
from toposieve.training.shards import open_dataset
from toposieve.training.steps import Steps

CONFIG = TrainingConfig(model="inclusive", epochs=3, batch_size=8, checkpoint_steps=2)
STOPS_EARLY = CONFIG.model_copy(update={"model": "hlf", "learning_rate": 0.3, "epochs": 30, "patience": 2})


@pytest.fixture(autouse=True)
def _as_many_checkpoints_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1.0)


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("loop") / "d", train=44, validation=12)


def task_of(dataset_dir: Path, run_directory: Path, config: TrainingConfig = CONFIG) -> Task:
    return Task(config, open_dataset(key_of(dataset_dir)), Gang(), Key(str(run_directory)))


def train(task: Task) -> Trained:
    return loop.train(task, tf.distribute.get_strategy(), lambda: None)


@pytest.fixture(scope="module")
def undisturbed(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Task, Trained]:
    task = task_of(dataset_dir, tmp_path_factory.mktemp("run"))
    return task, train(task)


@pytest.fixture(scope="module")
def stopped(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that ends some epochs after its best one."""
    return train(task_of(dataset_dir, tmp_path_factory.mktemp("stopped"), STOPS_EARLY))


def assert_same(one: Trained, two: Trained) -> None:
    assert one.progress.history == two.progress.history
    for left, right in zip(one.weights, two.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_training_lowers_the_loss(undisturbed: tuple[Task, Trained]) -> None:
    history = undisturbed[1].progress.history
    assert len(history) == CONFIG.epochs
    assert set(history[0]) == {"loss", "accuracy", "validation_loss", "validation_accuracy"}
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


@pytest.mark.parametrize("seed", [0, 2**70])
def test_any_seed_will_do(dataset_dir: Path, tmp_path: Path, seed: int) -> None:
    """TensorFlow's shuffle fails on its own global seed 0, and what has 64 bits on larger ones."""
    config = CONFIG.model_copy(update={"model": "hlf", "epochs": 1, "seed": seed})
    assert len(train(task_of(dataset_dir, tmp_path, config)).progress.history) == 1


def test_signed_weights_that_cancel_are_refused(dataset_dir: Path, tmp_path: Path) -> None:
    task = task_of(dataset_dir, tmp_path, CONFIG.model_copy(update={"event_weights": "signed"}))
    task = replace(task, dataset=replace(task.dataset, signed_factors=(5.0, 0.0, 1.0)))
    with pytest.raises(InvalidInputError, match=r"signed weights of ttbar do not add up to more than 0 .* to absolute"):
        train(task)


def test_a_precision_for_gpus_alone_is_refused_without_one(dataset_dir: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"model": "hlf", "precision": "mixed_bfloat16"})
    with pytest.raises(InvalidInputError, match="precision mixed_bfloat16 needs a GPU, and there is none"):
        train(task_of(dataset_dir, tmp_path, config))


def test_gradients_are_clipped(dataset_dir: Path, tmp_path: Path) -> None:
    """To a norm so small that Adam's epsilon leaves nothing of the updates."""
    config = CONFIG.model_copy(update={"model": "hlf", "epochs": 2, "gradient_norm_max": 1e-12})
    first, second = train(task_of(dataset_dir, tmp_path, config)).progress.history
    assert second["loss"] == pytest.approx(first["loss"], rel=1e-6)


def test_tensorboard_logs_are_written(undisturbed: tuple[Task, Trained]) -> None:
    assert undisturbed[0].run_directory.list("tensorboard/events.out.tfevents.")


def test_the_same_run_gives_the_same_result(
    dataset_dir: Path, tmp_path: Path, undisturbed: tuple[Task, Trained]
) -> None:
    assert_same(train(task_of(dataset_dir, tmp_path)), undisturbed[1])


class Killed(BaseException):
    """Ends a run as a signal would."""


def train_until_killed(task: Task, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and end it when so many batches were read."""
    original = loop.training_batches

    def cut_short(*arguments: Any) -> Iterator[Batch]:
        yield from islice(original(*arguments), steps)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "training_batches", cut_short)
        with pytest.raises(Killed):
            train(task)


def test_checkpoints_take_a_small_part_of_the_time(
    dataset_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", 1e-6)
    with caplog.at_level(logging.INFO):
        train(task_of(dataset_dir, tmp_path, CONFIG.model_copy(update={"model": "hlf", "epochs": 2})))
    assert caplog.text.count("checkpoint at") == 1
    assert max((tmp_path / "checkpoints").iterdir()).name.startswith("epoch-000002-step-000000000")


@pytest.mark.parametrize("steps_before_the_end", [3, 5, 9])
def test_a_resumed_run_gives_the_same_result(
    dataset_dir: Path,
    tmp_path: Path,
    undisturbed: tuple[Task, Trained],
    steps_before_the_end: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An epoch has 6 steps: the run ends in the first epoch between checkpoints, at its last step, in the second."""
    task = task_of(dataset_dir, tmp_path)
    assert task.train_steps == 6
    train_until_killed(task, steps_before_the_end, monkeypatch)
    assert_same(train(task), undisturbed[1])


SMALL = {"lstm_units": 4, "set_units": 8, "set_heads": 2, "set_blocks": 1}


@pytest.mark.parametrize("model", ["particle_sequence_lstm", "inclusive_masked_transformer", "particle_transformer"])
def test_so_does_one_of_each_other_family(
    model: str, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainingConfig(model=model, epochs=1, batch_size=16, checkpoint_steps=1, leading_particles=6, **SMALL)
    tasks = [task_of(dataset_dir, tmp_path / name, config) for name in ("undisturbed", "killed")]
    undisturbed, killed = (replace(task, dataset=replace(task.dataset, scaling=make_scaling())) for task in tasks)
    monkeypatch.setattr(tf, "function", lambda body, **_: body)  # to compile each twice takes a minute
    train_until_killed(killed, 2, monkeypatch)
    assert killed.run_directory.list("checkpoints/epoch-")
    assert_same(train(killed), train(undisturbed))


def test_a_finished_run_is_not_trained_again(
    undisturbed: tuple[Task, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, trained = undisturbed
    monkeypatch.setattr(loop, "training_batches", lambda *_: pytest.fail("trains again"))
    assert_same(train(task), trained)


def test_early_stopping_keeps_the_best_weights(dataset_dir: Path, tmp_path: Path, stopped: Trained) -> None:
    best = best_epoch(stopped.progress)
    assert stopped.progress.epoch < 30
    assert stopped.progress.epoch - 1 - best == 2
    # The best weights are those a run that ends with the best epoch would keep.
    shorter = train(task_of(dataset_dir, tmp_path, STOPS_EARLY.model_copy(update={"epochs": best + 1})))
    for left, right in zip(stopped.weights, shorter.weights, strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_best_epoch_is_the_first_of_the_lowest_validation_loss() -> None:
    history = [{"validation_loss": value} for value in (0.5, 0.3, 0.4, 0.3)]
    assert best_epoch(Progress(history=history)) == 1


def change_manifest(directory: Path, old: str, new: str) -> None:
    path = directory / manifest_name(1)
    path.write_text(path.read_text().replace(old, new))


def test_a_manifest_that_counts_other_events_is_refused(tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "d", train=40, validation=12)
    change_manifest(directory, '"events": 10', '"events": 11')
    with pytest.raises(InvalidInputError, match=r"shard-00000-of-00004.events.parquet has 10 rows, not 11"):
        train(task_of(directory, tmp_path / "run", CONFIG.model_copy(update={"model": "hlf"})))


def test_a_loss_that_is_not_finite_is_refused(dataset_dir: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"model": "hlf", "learning_rate": 1e38})
    with pytest.raises(InvalidInputError, match="lower learning_rate"):
        train(task_of(dataset_dir, tmp_path, config))


def test_workers_that_begin_at_different_steps_are_an_error(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = replace(task_of(dataset_dir, tmp_path), gang=Gang(0, ("a:1", "b:1")))
    monkeypatch.setattr(loop, "sum_over_workers", lambda _strategy, position: position + 6)
    with pytest.raises(RuntimeError, match="different checkpoints"):
        train(task)


def test_only_the_chief_writes(dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is not the chief, alone under the default strategy: it sees only its rows."""
    own = {"train": 20, "validation": 4}  # the last batches, of 4 events, are the chief's
    monkeypatch.setattr(loop, "sum_over_workers", lambda _strategy, position: 2 * position)
    monkeypatch.setattr(loop, "_means", lambda sums, split: {"loss": sums[0], "accuracy": sums[3] / own[split.name]})
    task = replace(task_of(dataset_dir, tmp_path), gang=Gang(1, ("a:1", "b:1")))
    trained = train(task)
    assert trained.progress.history[0]["accuracy"] == 1.0
    assert list(tmp_path.iterdir()) == []


def test_batches_are_on_the_device_before_their_step(dataset_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "support.second_device", str(dataset_dir), str(tmp_path / "second")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    history, devices = json.loads(done.stdout.splitlines()[-1])
    [device] = devices
    assert device.endswith("CPU:1")
    expected = train(task_of(dataset_dir, tmp_path / "first", second_device.CONFIG)).progress.history
    for one, other in zip(history, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_progress_is_shown(
    dataset_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter, "LOG_SECONDS", 0.0)
    config = CONFIG.model_copy(update={"model": "hlf", "epochs": 1})
    with caplog.at_level(logging.INFO):
        train(task_of(dataset_dir, tmp_path, config))
    assert caplog.text.count("first step done after") == 1
    assert "epoch 1/1 step 4/6: loss" in caplog.text
    assert "checkpoint at epoch 1 step 4/6" in caplog.text
    assert "epoch 1/1 done: loss" in caplog.text
    assert "(best so far)" in caplog.text


def test_a_checkpoint_of_another_model_is_refused_and_replaced_if_asked_for(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"model": "hlf", "epochs": 1})
    task = task_of(dataset_dir, tmp_path, config)
    with monkeypatch.context() as before:
        before.setattr(loop, "new_model", lambda *_: hlf_with("tanh"))
        train(task)
    with pytest.raises(
        InvalidInputError, match=r"another model: dense \(Dense 14x50 50 \w+\) is now hidden .*--replace"
    ):
        train(task)
    anew = train(replace(task, replace=True))
    assert anew.progress.epoch == 1
    assert_same(train(task), anew)  # nothing of the other is left


def hlf_with(activation: str) -> keras.Model:
    inputs = hidden = keras.Input((14,), name="high_level")
    for units in (50, 20, 10):
        hidden = keras.layers.Dense(units, activation=activation)(hidden)
    logits = keras.layers.Dense(3, name="logits")(hidden)
    return keras.Model({"high_level": inputs}, keras.layers.Softmax(name="probabilities")(logits), name="hlf")


def test_a_longer_run_goes_on_from_a_shorter_one_and_neither_it_nor_its_next_try_forgets_the_best_epoch(
    dataset_dir: Path,
    tmp_path: Path,
    stopped: Trained,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if it had been as long from the beginning."""
    dataset = open_dataset(key_of(dataset_dir))

    def task(epochs: int) -> Task:
        config = STOPS_EARLY.model_copy(update={"epochs": epochs})
        return Task(config, dataset, Gang(), run_directory(Key(str(tmp_path)), dataset.fingerprint, config))

    past_the_best = best_epoch(stopped.progress) + 2
    train(task(past_the_best))
    with caplog.at_level(logging.INFO):
        train_until_killed(task(30), 3, monkeypatch)
        assert_same(train(task(30)), stopped)
    assert caplog.text.count("resuming from") == 2
    assert f"epoch {past_the_best}/30 done" not in caplog.text


def test_a_checkpoint_with_weights_that_are_not_finite_is_not_written(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of a step is that before its update: it says nothing about the weights after it."""
    config = CONFIG.model_copy(update={"model": "hlf", "epochs": 1, "checkpoint_steps": 1})
    task = task_of(dataset_dir, tmp_path, config)
    original = loop.build_steps

    def spoilt(model: keras.Model, *of: object, **more: object) -> Steps:
        steps = original(model, *of, **more)

        def train_step(batches: list[Batch], first: int, sums: np.ndarray) -> np.ndarray:
            sums = steps.train(batches, first, sums)
            if first == 2:
                model.weights[0].assign(np.full((14, 50), np.nan))
            return sums

        return replace(steps, train=train_step)

    monkeypatch.setattr(loop, "build_steps", spoilt)
    with pytest.raises(InvalidInputError, match=r"not finite in epoch 1 before step 4: lower learning_rate"):
        train(task)
    assert max(task.run_directory.list("checkpoints/epoch-")) == "checkpoints/epoch-000000-step-000000002.npz"
