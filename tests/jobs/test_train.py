"""The training job as it is run: processes, alone and in gangs of two."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import train
from support.gangs import finish, free_addresses, gang, read_until, start_worker, tf_config
from support.training_data import shard_folder, write_dataset
from toposieve import cli
from toposieve.config import TrainingConfig
from toposieve.io.heartbeats import Claim
from toposieve.io.manifests import fingerprint, read_manifest
from toposieve.io.store import Key
from toposieve.models import ARCHITECTURES
from toposieve.training import results
from toposieve.training.architectures import dense
from toposieve.training.gang import Gang
from toposieve.training.runs import finished_run, results_of, run_directory

# An epoch of 125 steps leaves time to kill a worker in it.
CONFIG = {"model": "inclusive", "epochs": 2, "batch_size": 8, "checkpoint_steps": 20}


@pytest.fixture(scope="module")
def dataset_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("train") / "datasets" / "d", train=1000, validation=40, lengths=(2, 9))


def base_with(dataset_dir: Path, base: Path) -> Path:
    """A base of its own with the same dataset."""
    (base / "datasets").mkdir(parents=True)
    (base / "datasets" / "d").symlink_to(dataset_dir)
    return base


def arguments(base: Path, *more: str, config: dict[str, object] = CONFIG) -> list[str]:
    return ["--base", str(base), "--dataset", "d", "--config", json.dumps(config), *more]


def run_of(base: Path, config: dict[str, object] = CONFIG) -> Path:
    return Path(str(run_key(Key(str(base)), config)))


def run_key(base: Key, config: dict[str, object] = CONFIG) -> Key:
    dataset = fingerprint(read_manifest(base / "datasets" / "d"))
    return run_directory(base, dataset, TrainingConfig(**config))


def history_of(base: Path) -> dict[str, list[float]]:
    run = run_key(Key(str(base)))
    history = json.loads((run / results_of(read_manifest(run))["history.json"].path).read_text())
    assert isinstance(history, dict)
    return history


def run_gang(base: Path) -> list[str]:
    with gang(arguments(base), workers=2) as workers:
        results = [finish(worker) for worker in workers]
    for code, output in results:
        assert code == 0, output
    return [output for _, output in results]


@pytest.fixture(scope="module")
def undisturbed(dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    base = base_with(dataset_dir, tmp_path_factory.mktemp("undisturbed") / "base")
    with pytest.MonkeyPatch.context() as shell:
        shell.setenv("http_proxy", "http://127.0.0.1:1")  # nobody is there: the workers must not ask it for each other
        return base, run_gang(base)


def run_main(monkeypatch: pytest.MonkeyPatch, arguments: list[str], tf_config: str = "") -> int:
    """Run the job in this process, its side effects on the process left out; its exit code."""
    monkeypatch.setenv("TF_CONFIG", tf_config)
    monkeypatch.setattr(train, "exit_on_sigterm", lambda: None)
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    monkeypatch.setattr("logging.raiseExceptions", True)
    try:
        cli.run(train.main, train.arg_parser())
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_two_workers_give_the_history_of_one(
    undisturbed: tuple[Path, list[str]], dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = base_with(dataset_dir, tmp_path / "base")
    assert run_main(monkeypatch, arguments(alone)) == 0
    one, two = history_of(alone), history_of(undisturbed[0])
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=1e-3, err_msg=name)
    # Nothing but rounding is left of the first epoch's differences: rows and their dropout are the same.
    assert one["loss"][0] == pytest.approx(two["loss"][0], rel=1e-5)


def test_every_worker_says_who_it_is_and_the_chief_shows_progress(undisturbed: tuple[Path, list[str]]) -> None:
    chief, other = undisturbed[1]
    assert "worker 0/2 " in chief
    assert "epoch 2/2 done" in chief
    assert "worker 1/2 " in other
    assert "epoch 2/2 done" not in other


def test_a_killed_worker_ends_the_gang_and_a_retry_gives_the_same_result(
    undisturbed: tuple[Path, list[str]], dataset_dir: Path, tmp_path: Path
) -> None:
    base = base_with(dataset_dir, tmp_path / "base")
    with gang(arguments(base), workers=2) as (chief, other):
        read_until(chief, "checkpoint at epoch 1 step 20/125")
        other.kill()
        code, output = finish(chief)
    assert code not in (0, 2), output
    checkpoints = sorted(path.name for path in (run_of(base) / "checkpoints").glob("epoch-*"))
    assert checkpoints[-1].startswith("epoch-000000-step-"), "killed too late"
    assert finished_run(Key(str(run_of(base)))) is None
    outputs = run_gang(base)
    assert "resuming from" in outputs[0]
    found, expected = (
        {name: file.checksum for name, file in results_of(read_manifest(run_key(Key(str(each))))).items()}
        for each in (base, undisturbed[0])
    )
    assert found == expected
    assert "model.keras" in found


def test_a_complete_run_is_left_as_it_is_and_nothing_is_built_where_the_code_is_the_same(
    undisturbed: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = undisturbed
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # shows each module
    before = {path: path.stat().st_mtime_ns for path in run_of(base).rglob("*")}
    code, output = finish(start_worker(arguments(base)))
    assert code == 0, output
    assert "complete already" in output
    assert re.search(r"\| +toposieve.training.runs\n", output)
    assert not re.search(r"\| +(tensorflow|keras)\n", output)
    assert before == {path: path.stat().st_mtime_ns for path in run_of(base).rglob("*")}


def test_a_complete_run_of_another_model_is_refused_and_replaced_if_asked_for(
    own_base: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever version the code says it is."""
    monkeypatch.setenv("TOPOSIEVE_VERSION", "1.2.3")
    config: dict[str, object] = {**CONFIG, "model": "hlf", "epochs": 1}
    job, original = arguments(own_base, config=config), dense.hlf
    assert run_main(monkeypatch, job) == 0
    before = read_manifest(run_key(Key(str(own_base)), config))

    def linear(**parameters: Any) -> Any:
        model = original(**parameters)
        model.get_layer("hidden_1").activation = keras.activations.linear
        return model

    monkeypatch.setattr(dense, "hlf", linear)
    for module in (train, results):
        monkeypatch.setattr(module, "model_code", lambda: "changed")
    assert run_main(monkeypatch, job) == 2
    error = capfd.readouterr().err
    assert f"{run_of(own_base, config)} is of another model: hidden (Dense 14x50 50 " in error
    assert "pass --replace" in error
    assert run_main(monkeypatch, [*job, "--replace"]) == 0
    assert "complete already" not in capfd.readouterr().out
    assert read_manifest(run_key(Key(str(own_base)), config)).extra["layers"] != before.extra["layers"]
    assert run_main(monkeypatch, job) == 0
    assert "complete already" in capfd.readouterr().out


def test_a_run_has_one_writer(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_with(dataset_dir, tmp_path / "base")
    with Claim(Key(str(run_of(base))) / "checkpoints", "the other task"):
        assert run_main(monkeypatch, arguments(base)) == 1
    assert "is being written by the other task (process " in capsys.readouterr().err


@pytest.mark.parametrize("addresses", [(), ("a:1", "b:1")])
def test_operations_are_deterministic(addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """On some processors and most GPUs they are not, unless TensorFlow is told."""
    called = []
    monkeypatch.setattr("tensorflow.config.experimental.enable_op_determinism", lambda: called.append(True))
    monkeypatch.setattr("tensorflow.distribute.MultiWorkerMirroredStrategy", lambda: called)
    train._strategy(Gang(0, addresses))
    assert called


def test_the_models_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, ["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "hlf hlf_units=[50, 20, 10]"
    assert [line.partition(" ")[0] for line in lines] == list(ARCHITECTURES)


def test_what_a_run_would_take_is_said_and_nothing_written(
    own_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, [*arguments(own_base), "--set", "model=hlf", "--dry-run"]) == 0
    assert re.search(
        r"6 steps \(2 epochs of 3\), at most 0:00:\d\d \(0.0 s an epoch\), \d.\d GB", capsys.readouterr().out
    )
    assert not (own_base / "models").exists()


def test_the_history_of_a_run_is_shown(
    undisturbed: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, arguments(undisturbed[0], "--history")) == 0
    assert re.search(r"\n +1  20\S+  training: ", capsys.readouterr().out)


def test_what_lies_beside_a_run_comes_back_where_it_was_lost(
    undisturbed: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = undisturbed
    metrics, saved_model = run_of(base) / "metrics.json", run_of(base) / "saved_model"
    before = metrics.read_bytes(), sorted(saved_model.rglob("*"))
    metrics.unlink()
    shutil.rmtree(saved_model)
    assert run_main(monkeypatch, arguments(base, "--dry-run")) == 0
    assert not metrics.exists()
    assert run_main(monkeypatch, arguments(base)) == 0
    assert (metrics.read_bytes(), sorted(saved_model.rglob("*"))) == before


def test_sigterm_ends_a_worker_at_once(dataset_dir: Path, tmp_path: Path) -> None:
    base = base_with(dataset_dir, tmp_path / "base")
    with gang(arguments(base, config={**CONFIG, "epochs": 1000}), workers=2) as (chief, other):
        read_until(chief, "checkpoint at epoch 1 step 20/125")
        chief.send_signal(signal.SIGTERM)
        code, output = finish(chief)
        assert code == 143, output
        code, output = finish(other)
        assert code not in (0, 2), output


def test_a_worker_whose_peer_never_comes_gives_up(dataset_dir: Path, tmp_path: Path) -> None:
    base = base_with(dataset_dir, tmp_path / "base")
    addresses = free_addresses(2)
    code, output = finish(start_worker(arguments(base, "--startup-timeout", "1"), tf_config(addresses, 0)))
    assert code == 75, output
    assert f"no word from {addresses[1]}" in output


@pytest.fixture
def own_base(tmp_path: Path) -> Path:
    """A base with a dataset of its own, to be damaged."""
    write_dataset(tmp_path / "datasets" / "d", train=24, validation=12)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "epoch=3"], "epoch: unknown key"),
        (["--set", "record_keys.label=1"], "record_keys.label: unknown key"),
        (["--dataset", "missing"], "missing does not exist"),
        (["--dataset", "../d"], "--dataset '../d'"),
        (["--base", "ftp://host/data"], "unknown scheme ftp://"),
    ],
)
def test_wrong_options_are_refused(
    own_base: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(monkeypatch, [*arguments(own_base), *options]) == 2
    assert message in capsys.readouterr().err


def test_an_altered_shard_is_refused(own_base: Path) -> None:
    shard = next(shard_folder(own_base / "datasets" / "d", "train").glob("*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    code, output = finish(start_worker(arguments(own_base)))
    assert code == 2, output
    assert f"{shard.name}: record 5 is damaged" in output
    assert finished_run(Key(str(run_of(own_base)))) is None


def test_a_wrong_tf_config_is_refused(
    own_base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, arguments(own_base), tf_config="{}") == 2
    assert "TF_CONFIG" in capsys.readouterr().err


def test_the_help_names_every_key() -> None:
    text = train.arg_parser().format_help()
    for key in TrainingConfig.model_fields:
        assert f"  {key} = " in text
    assert "--startup-timeout" in text
