"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file that is whole or not there."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.training.layers import differences

KEPT_CHECKPOINTS = 2
VERSION = 2
"""Of the files' layout."""
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
    layers: Sequence[str]
    """The model, as :func:`~toposieve.training.layers.describe_layers` tells it."""


class ForeignCheckpointError(InvalidInputError):
    """A checkpoint is of another model, or of another version of this code."""


def save_checkpoint(directory: Key, checkpoint: Checkpoint) -> Key:
    """Write a checkpoint, whole at once, and remove all but the newest few."""
    key = directory / f"{_PREFIX}{checkpoint.progress.epoch:06d}-step-{checkpoint.progress.step:09d}.npz"
    groups = {"model": checkpoint.model, "optimizer": checkpoint.optimizer, "best": checkpoint.best}
    said = {"version": VERSION, "layers": checkpoint.layers, "progress": asdict(checkpoint.progress)}
    arrays = {"run": np.array(json.dumps(said))}
    arrays |= {f"{name}-{index:04d}": array for name, group in groups.items() for index, array in enumerate(group)}
    with key.create() as path, path.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    directory.delete_below(*_names(directory)[:-KEPT_CHECKPOINTS])
    return key


def load_newest_checkpoint(directory: Key, layers: Sequence[str]) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None. Every worker of a gang comes to the same one.

    Args:
        directory: Of the checkpoints.
        layers: The model, as the code makes it.

    Raises:
        ForeignCheckpointError: It is of another model, or of another version.
    """
    for name in reversed(_names(directory)):
        key = directory / name
        try:
            checkpoint = _load(key)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, FileNotFoundError) as error:
            logger.warning("%s cannot be read (%s); taking the one before", key, error)
            continue
        check_same_layers(key, checkpoint.layers, layers)
        logger.info("resuming from %s", key)
        return checkpoint
    return None


def check_same_layers(key: Key, was: Sequence[str], now: Sequence[str]) -> None:
    """Check that what a run has written is of the model that the code makes.

    Raises:
        ForeignCheckpointError: It is not; the message names the layers.
    """
    if different := differences(was, now):
        raise ForeignCheckpointError(f"{key} is of another model: {different}; pass --replace to train it anew")


def delete_checkpoints(directory: Key) -> None:
    """Delete all that there are."""
    directory.delete_below(*_names(directory))


def furthest(directories: Iterable[Key]) -> Key | None:
    """The directory with the newest checkpoint of all."""
    newest = {names[-1]: directory for directory in directories if (names := _names(directory))}
    return newest[max(newest)] if newest else None


def _names(directory: Key) -> list[str]:
    """Checkpoints, oldest first."""
    return sorted(directory.list(_PREFIX))


def _load(key: Key) -> Checkpoint:
    with key.fetch() as path, path.open("rb") as stream, np.load(stream) as arrays:
        said: dict[str, Any] = json.loads(str(arrays["run"])) if "run" in arrays else {"version": 1}
        if said["version"] != VERSION:
            raise ForeignCheckpointError(
                f"{key} was written by a version of this code with another layout of checkpoints ({said['version']}, "
                f"this one reads {VERSION}); pass --replace to train anew"
            )
        groups = {
            group: [arrays[name] for name in sorted(arrays.files) if name.startswith(f"{group}-")]
            for group in ("model", "optimizer", "best")
        }
    return Checkpoint(Progress(**said["progress"]), **groups, layers=said["layers"])
