"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file that is whole or not there."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

KEPT_CHECKPOINTS = 2
_PATTERN = "epoch-*.npz"

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run has come."""

    epoch: int = 0
    """Epochs done."""
    step: int = 0
    """Steps done in the running epoch."""
    sums: list[float] = field(default_factory=list)
    """Sums over the steps of the running epoch."""
    history: list[dict[str, float]] = field(default_factory=list)
    """Results of each epoch done."""
    epoch_seconds: list[float] = field(default_factory=list)
    """Wall-clock time of each epoch done."""
    running_seconds: float = 0.0
    """Wall-clock time spent on the running epoch."""


@dataclass(frozen=True)
class Checkpoint:
    """A run's state."""

    progress: Progress
    model: Sequence[np.ndarray]
    optimizer: Sequence[np.ndarray]
    best: Sequence[np.ndarray]
    """The model's weights after the best epoch so far; empty in the first."""


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, make it visible in one rename, and remove all but the newest few."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"epoch-{checkpoint.progress.epoch:06d}-step-{checkpoint.progress.step:09d}.npz"
    temporary = directory / "_unfinished.tmp"  # the same for all, so that a killed run leaves one at most
    groups = {"model": checkpoint.model, "optimizer": checkpoint.optimizer, "best": checkpoint.best}
    arrays = {"progress": np.array(json.dumps(asdict(checkpoint.progress)))}
    arrays |= {f"{name}-{index:04d}": array for name, group in groups.items() for index, array in enumerate(group)}
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    os.replace(temporary, path)
    for old in sorted(directory.glob(_PATTERN))[:-KEPT_CHECKPOINTS]:
        old.unlink()
    return path


def load_newest_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None. Every worker of a gang comes to the same one."""
    for path in sorted(directory.glob(_PATTERN), reverse=True):
        try:
            checkpoint = _load(path)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            logger.warning("%s cannot be read (%s); taking the one before", path, error)
            continue
        logger.info("resuming from %s", path)
        return checkpoint
    return None


def _load(path: Path) -> Checkpoint:
    with path.open("rb") as stream, np.load(stream) as arrays:
        progress = Progress(**json.loads(str(arrays["progress"])))
        groups = {
            group: [arrays[name] for name in sorted(arrays.files) if name.startswith(f"{group}-")]
            for group in ("model", "optimizer", "best")
        }
    return Checkpoint(progress, **groups)
