"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file that is whole or not there."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from toposieve.io.store import Key

KEPT_CHECKPOINTS = 2
_PREFIX = "epoch-"

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


def save_checkpoint(directory: Key, checkpoint: Checkpoint) -> Key:
    """Write a checkpoint, whole at once, and remove all but the newest few."""
    key = directory / f"{_PREFIX}{checkpoint.progress.epoch:06d}-step-{checkpoint.progress.step:09d}.npz"
    groups = {"model": checkpoint.model, "optimizer": checkpoint.optimizer, "best": checkpoint.best}
    arrays = {"progress": np.array(json.dumps(asdict(checkpoint.progress)))}
    arrays |= {f"{name}-{index:04d}": array for name, group in groups.items() for index, array in enumerate(group)}
    with key.create() as path, path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    directory.delete_below(*_names(directory)[:-KEPT_CHECKPOINTS])
    return key


def load_newest_checkpoint(directory: Key) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None. Every worker of a gang comes to the same one."""
    for name in reversed(_names(directory)):
        key = directory / name
        try:
            checkpoint = _load(key)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, FileNotFoundError) as error:
            logger.warning("%s cannot be read (%s); taking the one before", key, error)
            continue
        logger.info("resuming from %s", key)
        return checkpoint
    return None


def _names(directory: Key) -> list[str]:
    """Checkpoints, oldest first."""
    return sorted(directory.list(_PREFIX))


def _load(key: Key) -> Checkpoint:
    with key.fetch() as path, path.open("rb") as stream, np.load(stream) as arrays:
        progress = Progress(**json.loads(str(arrays["progress"])))
        groups = {
            group: [arrays[name] for name in sorted(arrays.files) if name.startswith(f"{group}-")]
            for group in ("model", "optimizer", "best")
        }
    return Checkpoint(progress, **groups)
