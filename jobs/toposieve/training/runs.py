"""Where a training run lives: its identity follows from what it is trained on and how. No TensorFlow here.

And where a search lives, whose best configuration a run may take.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Manifest, OutputFile, check_listed, read_manifest_if_any
from toposieve.io.names import path_key
from toposieve.io.store import Key
from toposieve.models import training_job
from toposieve.text_hash import text_hash

MODELS_DIRECTORY = "models"
MODEL_FILE = "model.keras"
HISTORY_FILE = "history.json"
METRICS_FILE = "metrics.json"
CHECKPOINTS_DIRECTORY = "checkpoints"
TENSORBOARD_DIRECTORY = "tensorboard"
SAVED_MODEL_DIRECTORY = "saved_model"
SAVED_MODEL_FILE = "saved_model.pb"
"""In its directory; the name is TensorFlow's."""
STUDIES_DIRECTORY = "studies"
STUDY_FILE = "study.json"
BEST_FILE = "best.json"
SUMMARY_FILE = "search.json"

logger = logging.getLogger(__name__)


def run_id(dataset: str, config: TrainingConfig) -> str:
    """Sixteen hexadecimal digits: a retry and a second run find their work again.

    Args:
        dataset: Fingerprint of the dataset.
        config: How to train on it.
    """
    return text_hash(f"{dataset} {config.hash} {CODE_NUMBERS['train']}")


def run_directory(base: Key, dataset: str, config: TrainingConfig) -> Key:
    """``{base}/models/{model}/{run}``: where the run on a dataset (its fingerprint) keeps its files."""
    return base / MODELS_DIRECTORY / config.model / run_id(dataset, config)


def shorter_runs(directory: Key, dataset: str, config: TrainingConfig) -> list[Key]:
    """Where runs of fewer epochs, and else the same, keep their files: this one goes on from where they are.

    None where the rate of each step depends on the number of epochs.
    """
    if config.learning_rate_schedule == "cosine":
        return []
    shorter = (config.model_copy(update={"epochs": epochs}) for epochs in range(1, config.epochs))
    return [directory.parent / run_id(dataset, each) for each in shorter]


def best_of_study(base: Key, study: str | None, job: str, dataset: str) -> dict[str, Any]:
    """The configuration that a search has found to be the best; what was no search on this dataset is said.

    Args:
        base: Where all data lives.
        study: Name of the search; None for no search, and no values.
        job: The job that takes it.
        dataset: Fingerprint of the dataset that the job takes.

    Raises:
        InvalidInputError: It has not ended, its result is damaged, or another job trains its model.
    """
    if study is None:
        return {}
    folder = base / STUDIES_DIRECTORY / path_key("--study", study)
    key = folder / BEST_FILE
    if key.stat() is None:
        raise InvalidInputError(f"{folder} has no {BEST_FILE}: run tune.py to its end, or check --study")
    try:
        found: dict[str, Any] = json.loads(key.read_text())
        model = found["model"] if "model" in found else found["models"][0]
    except ValueError as error:
        raise InvalidInputError(f"{key} is no JSON ({error}): remove it, and run tune.py again") from None
    except (TypeError, LookupError):
        raise InvalidInputError(f"{key} names no model: remove it, and run tune.py again") from None
    if training_job(model) != job:
        raise InvalidInputError(f"{folder} is a search for {model}: use {training_job(model)}")
    known = None
    with suppress(FileNotFoundError, ValueError, LookupError, TypeError):
        known = json.loads((folder / STUDY_FILE).read_bytes())["dataset"]
    if known != dataset:
        logger.warning("%s is no search on this dataset as it is now: its best configuration is taken anyway", folder)
    return found


def finished_run(directory: Key, stage: str = "train") -> Manifest | None:
    """The manifest of a run that has published its results, if they are all still there, of the right size.

    Args:
        directory: The run's.
        stage: What makes such runs, with the code that there is now.
    """
    manifest = read_manifest_if_any(directory)
    if manifest is None or manifest.code != CODE_NUMBERS[stage]:
        return None
    try:
        for file in manifest.outputs():
            check_listed(directory, file)
    except InvalidInputError as error:
        logger.warning("%s; making it again", error)
        return None
    return manifest


def results_of(manifest: Manifest) -> dict[str, OutputFile]:
    """The files of a finished run, by their plain names."""
    return {file.path.rpartition("/")[2]: file for file in manifest.outputs()}


def model_code() -> str:
    """Sixteen hexadecimal digits that change with all that makes a model of a configuration: our modules, and Keras."""
    folder = Path(__file__).parent
    files = [folder.parent / "models.py", *sorted(folder.rglob("*.py"))]
    return text_hash("".join([version("keras"), *(file.read_text(encoding="utf-8") for file in files)]))


def copy_metrics(directory: Key, manifest: Manifest) -> None:
    """Show a finished run's metrics at their plain place too, for people; after the manifest, which lists others."""
    metrics = (directory / results_of(manifest)[METRICS_FILE].path).read_bytes()
    (directory / METRICS_FILE).write_bytes(metrics)
