"""Where a training run lives: its identity follows from what it is trained on and how. No TensorFlow here."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import STAGING_NAME, Manifest, fingerprint, read_manifest_if_any, verify_file

MODELS_DIRECTORY = "models"
MODEL_FILE = "model.keras"
HISTORY_FILE = "history.json"
METRICS_FILE = "metrics.json"
TIMING_FILE = "timing.json"
CHECKPOINTS_DIRECTORY = "checkpoints"
TENSORBOARD_DIRECTORY = "tensorboard"

logger = logging.getLogger(__name__)


def dataset_fingerprint(dataset_dir: Path, manifest: Manifest | None) -> str:
    """Thirty-two hexadecimal digits that change with a dataset's content.

    Args:
        dataset_dir: The dataset.
        manifest: Its manifest; a folder of TFRecord files without one is known by the names and sizes of its files.
    """
    if manifest is not None:
        return fingerprint(manifest)
    canonical = json.dumps({"files": _file_sizes(dataset_dir)}, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _file_sizes(directory: Path) -> dict[str, int]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    relative = {path.relative_to(directory): path.stat().st_size for path in files}
    return {path.as_posix(): size for path, size in sorted(relative.items()) if path.parts[0] != STAGING_NAME}


def run_id(dataset_dir: Path, config: TrainingConfig) -> str:
    """Sixteen hexadecimal digits from dataset and configuration: a retry and a second run find their work again.

    Raises:
        InvalidInputError: The dataset's manifest is not a manifest.
    """
    identity = f"{dataset_fingerprint(dataset_dir, read_manifest_if_any(dataset_dir))} {config.hash}"
    return hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()


def run_directory(base: Path, dataset_dir: Path, config: TrainingConfig) -> Path:
    """``{base}/models/{model}/{run}``: where the run keeps checkpoints and results."""
    return base / MODELS_DIRECTORY / config.model / run_id(dataset_dir, config)


def is_complete(run_directory: Path) -> bool:
    """Whether a run has published its results and they are all still there, whole."""
    manifest = read_manifest_if_any(run_directory)
    if manifest is None:
        return False
    try:
        for file in manifest.outputs():
            verify_file(run_directory, file)
    except InvalidInputError as error:
        logger.warning("%s; writing it again from the last checkpoint", error)
        return False
    return True
