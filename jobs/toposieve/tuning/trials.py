"""Trials of a search: what a task is sent, and what is kept of them in the store. No TensorFlow here."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toposieve.config import TrainingConfig
from toposieve.io.store import Key
from toposieve.training.shards import Dataset

State = Sequence[np.ndarray]
"""A fit's weights, and its optimizer's numbers after them."""

History = list[dict[str, float]]
"""Results of each epoch, as in a run's ``history.json``."""


@dataclass(frozen=True)
class Trial:
    """A configuration that is tried."""

    number: int
    values: dict[str, Any]
    """Key of the configuration → value."""

    def record(self, folder: Key, epochs: int) -> Key:
        """Where it is kept what came of its first epochs."""
        return folder / "trials" / f"{self.number:05d}-{epochs:04d}.json"


@dataclass(frozen=True)
class Fitted:
    """What came of a trial: of each fold, the history and the state that it goes on from."""

    histories: tuple[History, ...]
    states: tuple[State, ...] = ()
    """Empty where it was read from its record."""

    def to_json(self, trial: Trial) -> bytes:
        """Its record."""
        content = {"number": trial.number, "values": trial.values, "histories": self.histories}
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    def loss(self, epochs: int) -> float:
        """Mean over the folds of the lowest validation loss in so many epochs; infinite where one was not finite."""
        lowest = [np.min([epoch["validation_loss"] for epoch in history[:epochs]]) for history in self.histories]
        loss = float(np.mean(lowest))
        return loss if np.isfinite(loss) else float("inf")


@dataclass(frozen=True)
class Group:
    """Trials that differ by their learning rates alone: one graph serves them all."""

    dataset: Dataset
    config: TrainingConfig
    """Of all, with a learning rate of 1, and the epochs of the whole search."""
    folds: int
    epochs: int
    """To train up to."""
    trials: tuple[tuple[Trial, Fitted | None], ...]
    """Each with what it goes on from."""
    folder: Key
    """Of the study."""

    @property
    def events(self) -> int:
        """Events to train on, about."""
        done = (len(fitted.histories[0]) if fitted and fitted.states else 0 for _, fitted in self.trials)
        return sum(self.epochs - each for each in done) * self.folds * self.dataset.train.events


def fit(group: Group) -> list[Fitted]:
    """Train a group's trials in this process, on one thread, and leave a record of each that is done.

    Raises:
        InvalidInputError: The dataset is damaged.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # the cores belong to Spark
    from toposieve.tuning.fits import fit_trial

    found = []
    for trial, before in group.trials:
        fitted = fit_trial(group, trial, before)
        trial.record(group.folder, group.epochs).write_bytes(fitted.to_json(trial))
        found.append(fitted)
    return found
