"""Fits of a search, in one process: a graph is compiled once for all trials and folds that it serves."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from toposieve.config import TrainingConfig
from toposieve.models import ARCHITECTURES
from toposieve.training.architectures import new_model
from toposieve.training.cache import Cache
from toposieve.training.input_pipeline import Epochs, batch_spec, ordered_batches, training_batches
from toposieve.training.order import NOBODY, Numbers, Order, Share
from toposieve.training.records import Batch
from toposieve.training.schedules import learning_rate
from toposieve.training.shards import Dataset, Split
from toposieve.training.sources import Source, open_source
from toposieve.training.steps import SUM_NAMES, build_steps
from toposieve.tuning.trials import Fitted, Group, History, State, Trial

GRAPHS = 32
"""Compiled graphs that a process keeps."""


@dataclass(frozen=True)
class _PartOrder(Order):
    kept: Numbers = field(default_factory=lambda: np.empty(0, np.int64))

    def batches(self, first: int, stop: int, share: Share) -> Numbers:
        own = super().batches(first, stop, share)
        return np.where(own == NOBODY, NOBODY, self.kept[own])


@dataclass(frozen=True)
class Part(Split):
    """Some records of a split."""

    kept: Numbers
    """Their numbers in it."""

    @property
    def events(self) -> int:
        """Their number."""
        return len(self.kept)

    def order(self, *seed: int) -> Order:
        """The order of one pass: that of a seed, or of the shards."""
        return _PartOrder([len(self.kept)], seed or None, self.kept)


def fold_of(split: Split, fold: int, folds: int) -> tuple[Part, Part]:
    """Training and validation part of a split whose every so-many-th record validates."""
    numbers = np.arange(split.events)
    is_validation = numbers % folds == fold
    parts = (numbers[~is_validation], numbers[is_validation])
    train, validation = (Part(split.name, split.shards, split.classes, kept) for kept in parts)
    return train, validation


class _Scaled(LearningRateSchedule):  # type: ignore[misc]
    """A schedule times a variable: another rate is no other graph."""

    def __init__(self, rate: float | LearningRateSchedule, factor: tf.Variable) -> None:
        self._rate = rate
        self._factor = factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self._factor * (self._rate(step) if callable(self._rate) else self._rate)

    def get_config(self) -> dict[str, object]:
        return {"rate": self._rate}


class _Machine:
    """A model that is trained again and again, from its initial weights or from a state."""

    def __init__(self, dataset: Dataset, config: TrainingConfig, folds: int, sources: Mapping[str, Source]) -> None:
        tf.config.experimental.enable_op_determinism()
        self.config, self.share = config, Share(config.batch_size)
        self.sources = sources
        self.parts = [
            fold_of(dataset.train, fold, folds) if folds > 1 else (dataset.train, dataset.validation)
            for fold in range(folds)
        ]
        model = new_model(config, dataset)
        self.rate = tf.Variable(1.0)
        schedule = learning_rate(config, self.parts[0][0].steps(config.batch_size))
        optimizer = keras.optimizers.Adam(_Scaled(schedule, self.rate), global_clipnorm=config.gradient_norm_max)
        optimizer.build(model.trainable_variables)
        self.steps = build_steps(
            model,
            optimizer,
            tf.distribute.get_strategy(),
            batch_spec(self.sources["train"], self.share),
            seed=config.seed,
            event_weights=config.event_weights,
            signed_factors=dataset.signed_factors,
        )
        self.variables = [*model.weights, *optimizer.variables]
        self.initial = self.state()

    def state(self) -> State:
        """Weights and the optimizer's numbers."""
        return [variable.numpy() for variable in self.variables]

    def fit(self, fold: int, rate: float, state: State | None, done: int, epochs: int) -> tuple[History, State]:
        """Epochs from ``done`` to ``epochs`` of a fold: their results, and the state after them."""
        for variable, value in zip(self.variables, state or self.initial, strict=True):
            variable.assign(value)
        self.rate.assign(rate)
        train, validation = self.parts[fold]
        training = training_batches(train, self.sources["train"], self.share, Epochs(self.config.seed, done, epochs))
        validating = ordered_batches(validation, self.sources[validation.name], self.share, epochs - done)
        history = []
        for epoch in range(done, epochs):
            trained = self._pass(train, training, epoch * train.steps(self.share.batch_size))
            validated = self._pass(validation, validating)
            history.append(trained | {f"validation_{name}": value for name, value in validated.items()})
        return history, self.state()

    def _pass(self, split: Split, batches: Iterator[Batch], step: int | None = None) -> dict[str, float]:
        """Loss and accuracy of a pass over a split, which trains from that step of the run on, or validates."""
        sums, left = np.zeros(len(SUM_NAMES)), split.steps(self.share.batch_size)
        while left:
            stack = list(islice(batches, min(self.steps.per_call, left)))
            sums = self.steps.validate(stack, sums) if step is None else self.steps.train(stack, step, sums)
            step, left = None if step is None else step + len(stack), left - len(stack)
        loss, hits, weight, _ = sums.tolist()
        return {"loss": loss / weight, "accuracy": hits / weight}


_SOURCES: dict[tuple[str, str], dict[str, Source]] = {}
_MACHINES: dict[tuple[str, str, int], _Machine] = {}
_CACHES = ExitStack()
"""Of all sources, until the process ends: a machine that is kept reads from those that it was made with."""
atexit.register(_CACHES.close)


def fit_trial(group: Group, trial: Trial, before: Fitted | None) -> Fitted:
    """Train a trial on all folds, from its states or from the beginning; the result is the same.

    Raises:
        InvalidInputError: The dataset is damaged.
    """
    machine, rate = _machine(group), _rate(group, trial)
    histories, states = [], []
    for fold in range(group.folds):
        known, state = (before.histories[fold], before.states[fold]) if before and before.states else ([], None)
        history, state = machine.fit(fold, rate, state, len(known), group.epochs)
        histories.append(known + history)
        states.append(state)
    return Fitted(tuple(histories), tuple(states))


def _rate(group: Group, trial: Trial) -> float:
    return float(trial.values.get("learning_rate", TrainingConfig(model=group.config.model).learning_rate))


def _machine(group: Group) -> _Machine:
    dataset, config = group.dataset, group.config
    data, key = (dataset.fingerprint, config.model), (dataset.fingerprint, config.hash, group.folds)
    if data not in _SOURCES:
        _SOURCES.clear()
        splits, inputs = (dataset.train, dataset.validation), ARCHITECTURES[config.model].inputs
        cache = _CACHES.enter_context(Cache())
        _SOURCES[data] = {split.name: open_source(split, inputs, cache) for split in splits}
    if key not in _MACHINES:
        if len(_MACHINES) == GRAPHS:
            del _MACHINES[next(iter(_MACHINES))]
        _MACHINES[key] = _Machine(dataset, config, group.folds, _SOURCES[data])
    return _MACHINES[key]
