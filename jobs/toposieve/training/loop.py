"""The training loop: epochs of steps, validation, early stopping, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.models import ARCHITECTURES
from toposieve.training.architectures import new_model
from toposieve.training.cache import Cache
from toposieve.training.checkpoints import (
    Checkpoint,
    ForeignCheckpointError,
    Progress,
    delete_checkpoints,
    furthest,
    load_newest_checkpoint,
    save_checkpoint,
)
from toposieve.training.gang import Gang
from toposieve.training.input_pipeline import Epochs, batch_spec, ordered_batches, training_batches
from toposieve.training.layers import describe_layers
from toposieve.training.logs import EpochLog
from toposieve.training.meter import Meter
from toposieve.training.order import Share
from toposieve.training.records import Batch
from toposieve.training.runs import CHECKPOINTS_DIRECTORY, shorter_runs
from toposieve.training.schedules import learning_rate
from toposieve.training.shards import Dataset, Split
from toposieve.training.sources import open_source
from toposieve.training.steps import SUM_NAMES, Spec, Steps, build_steps, sum_over_workers

CHECKPOINT_SHARE = 0.1
"""Of the time in an epoch, what checkpoints may take: a small model would do little else."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What one worker trains."""

    config: TrainingConfig
    dataset: Dataset
    gang: Gang
    run_directory: Key
    replace: bool = False
    """Whether to begin anew where the run's checkpoints are of another model."""
    check_sole: Callable[[], None] = lambda: None
    """Raises where another process has taken the run over; called before each checkpoint."""
    cache_bytes: int = 0
    """Room for copies of records on this machine; 0 for a default (:class:`~toposieve.training.cache.Cache`)."""

    @property
    def share(self) -> Share:
        """This worker's part of every global batch."""
        return Share(self.config.batch_size, self.gang.index, self.gang.workers)

    @property
    def train_steps(self) -> int:
        """Steps in one epoch."""
        return self.dataset.train.steps(self.config.batch_size)


@dataclass(frozen=True)
class Trained:
    """What came out."""

    weights: Sequence[np.ndarray]
    """The model's weights after the best epoch."""
    layers: Sequence[str]
    """The model, as :func:`~toposieve.training.layers.describe_layers` tells it."""
    progress: Progress


@dataclass
class State:
    """A run in memory."""

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    layers: Sequence[str]
    steps: Steps
    progress: Progress = field(default_factory=Progress)
    best: Sequence[np.ndarray] = ()
    next_checkpoint: float = 0.0
    """Not before this time of the monotonic clock, if not at an epoch's end."""
    has_checkpoint: bool = False
    """Whether it goes on from a checkpoint of its own."""
    is_compiled: bool = False
    """Whether this process has done a step."""

    @property
    def weights(self) -> list[np.ndarray]:
        """The model's, as they are now."""
        return [variable.numpy() for variable in self.model.weights]

    def checkpoint(self) -> Checkpoint:
        """All of it, as it is now."""
        optimizer = [variable.numpy() for variable in self.optimizer.variables]
        return Checkpoint(self.progress, self.weights, optimizer, self.best, self.layers)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there."""
        _assign(self.model.weights, checkpoint.model)
        _assign(self.optimizer.variables, checkpoint.optimizer)
        self.progress, self.best = checkpoint.progress, checkpoint.best


def train(task: Task, strategy: tf.distribute.Strategy, when_connected: Callable[[], None]) -> Trained:
    """Train a model, from its newest checkpoint if there is one.

    Args:
        task: What to train.
        strategy: Made by the caller; one replica per worker.
        when_connected: Called once all workers have spoken to each other.

    Raises:
        InvalidInputError: The dataset is damaged, does not hold what its manifest says, or the loss is not finite.
        RuntimeError: The workers begin from different checkpoints.
    """
    with Cache(task.cache_bytes, task.gang.neighbours) as cache:
        return _train(task, strategy, when_connected, cache)


def _train(task: Task, strategy: tf.distribute.Strategy, when_connected: Callable[[], None], cache: Cache) -> Trained:
    config, share, train_split, validation_split = task.config, task.share, task.dataset.train, task.dataset.validation
    inputs, gpu = ARCHITECTURES[config.model].inputs, next(iter(tf.config.list_logical_devices("GPU")), None)
    train_source, validation_source = (
        open_source(split, inputs, cache, gpu and gpu.name) for split in (train_split, validation_split)
    )
    state = new_state(task, strategy, batch_spec(train_source, share))
    _resume(state, task)
    _begin_together(state, task, strategy)
    if task.gang.is_chief and not state.has_checkpoint:  # else what lies there would be newer than what comes
        delete_checkpoints(task.run_directory / CHECKPOINTS_DIRECTORY)
    when_connected()
    if not _is_finished(state.progress, config):
        epochs = Epochs(config.seed, state.progress.epoch, config.epochs, state.progress.step)
        training = training_batches(train_split, train_source, share, epochs)
        validation = ordered_batches(validation_split, validation_source, share, config.epochs)
        with ExitStack() as stack:
            log = stack.enter_context(EpochLog(task.run_directory)) if task.gang.is_chief else None
            while not _is_finished(state.progress, config):
                _run_epoch(state, task, training, validation)
                _report_epoch(state.progress, task, log)
    return Trained(state.best, state.layers, state.progress)


def best_epoch(progress: Progress) -> int:
    """Position in the history of the first epoch with the lowest validation loss.

    Raises:
        ValueError: No epoch is done yet.
    """
    losses = [epoch["validation_loss"] for epoch in progress.history]
    return losses.index(min(losses))


def _is_finished(progress: Progress, config: TrainingConfig) -> bool:
    if not progress.history:
        return False
    return progress.epoch >= config.epochs or progress.epoch - 1 - best_epoch(progress) >= config.patience


def new_state(task: Task, strategy: tf.distribute.Strategy, spec: Spec) -> State:
    """A run before its first step.

    Args:
        task: What to train.
        strategy: One replica per worker.
        spec: Shapes and types of this worker's rows of a batch.

    Raises:
        InvalidInputError: The signed weights cannot be used, or there is no GPU for the precision.
    """
    config = task.config
    if config.precision != "float32" and not tf.config.list_logical_devices("GPU"):
        raise InvalidInputError(f"precision {config.precision} needs a GPU, and there is none: set it to float32")
    model = new_model(config, task.dataset)
    rate = learning_rate(config, task.train_steps)
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=config.gradient_norm_max)
    optimizer.build(model.trainable_variables)
    steps = build_steps(
        model,
        optimizer,
        strategy,
        spec,
        seed=config.seed,
        micro_batch_size=config.micro_batch_size,
        event_weights=config.event_weights,
        signed_factors=_signed_factors(task),
    )
    return State(model, optimizer, describe_layers(model), steps)


def _resume(state: State, task: Task) -> None:
    """Go on from the newest checkpoint, if there is one."""
    own = _own_checkpoint(task, state.layers)
    found = own or _checkpoint_of_shorter_run(task, state.layers)
    state.has_checkpoint = own is not None
    if found is not None:
        state.restore(found)


def _own_checkpoint(task: Task, layers: Sequence[str]) -> Checkpoint | None:
    try:
        return load_newest_checkpoint(task.run_directory / CHECKPOINTS_DIRECTORY, layers)
    except ForeignCheckpointError:
        if not task.replace:
            raise
        return None


def _checkpoint_of_shorter_run(task: Task, layers: Sequence[str]) -> Checkpoint | None:
    shorter = shorter_runs(task.run_directory, task.dataset.fingerprint, task.config)
    directory = furthest(run / CHECKPOINTS_DIRECTORY for run in shorter)
    with suppress(ForeignCheckpointError):
        return load_newest_checkpoint(directory, layers) if directory else None
    return None


def _signed_factors(task: Task) -> Sequence[float]:
    """For each label, the factor of its signed weights.

    Raises:
        InvalidInputError: They are to be used and do not add up to more than 0.
    """
    factors = task.dataset.signed_factors
    cancelled = [sample for sample, factor in zip(task.dataset.classes, factors, strict=True) if not factor]
    if cancelled and task.config.event_weights == "signed":
        raise InvalidInputError(
            f"the signed weights of {', '.join(cancelled)} do not add up to more than 0 in the training split of "
            f"{task.dataset.directory}: set event_weights to absolute"
        )
    return factors


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _begin_together(state: State, task: Task, strategy: tf.distribute.Strategy) -> None:
    """See that all workers begin at the same step, with the chief's weights: another processor may draw others."""
    position = state.progress.epoch * task.train_steps + state.progress.step
    weights = np.concatenate([each.ravel() for each in state.weights])
    total = sum_over_workers(strategy, np.append(weights * task.gang.is_chief, position))
    if total[-1] != position * task.gang.workers:
        raise RuntimeError(
            f"the workers begin from different checkpoints (this one at step {position}): they must share "
            f"{task.run_directory}"
        )
    ends = np.cumsum([variable.shape.num_elements() for variable in state.model.weights])
    parts = zip(state.model.weights, np.split(total[:-1], ends[:-1]), strict=True)
    _assign(state.model.weights, [part.reshape(variable.shape) for variable, part in parts])


def _run_epoch(state: State, task: Task, training: Iterator[Batch], validation: Iterator[Batch]) -> None:
    """Finish the running epoch: its remaining steps, validation, history, best weights, checkpoint."""
    progress, started = state.progress, time.monotonic() - state.progress.running_seconds
    _train_steps(state, task, training, started)
    training_results = _means(progress.sums, task.dataset.train)
    sums, left = np.zeros(len(SUM_NAMES)), task.dataset.validation.steps(task.config.batch_size)
    while left:
        batches = list(islice(validation, min(left, state.steps.per_call)))
        sums, left = state.steps.validate(batches, sums), left - len(batches)
    validation_results = _means(sums, task.dataset.validation)
    _check_finite([*training_results.values(), *validation_results.values()], progress, task)
    progress.history.append(training_results | {f"validation_{name}": v for name, v in validation_results.items()})
    if best_epoch(progress) == progress.epoch:
        state.best = state.weights
    progress.epoch_seconds.append(time.monotonic() - started)
    progress.epoch, progress.step, progress.sums, progress.running_seconds = progress.epoch + 1, 0, [], 0.0
    _save(state, task)


def _train_steps(state: State, task: Task, training: Iterator[Batch], started: float) -> None:
    progress, steps, every = state.progress, task.train_steps, task.config.checkpoint_steps
    sums = np.asarray(progress.sums or np.zeros(len(SUM_NAMES)))
    meter, first_step = Meter(), progress.step
    while progress.step < steps:
        stop = min(steps, progress.step + every - progress.step % every)
        batches = list(islice(training, min(state.steps.per_call, stop - progress.step)))
        sums = state.steps.train(batches, progress.epoch * steps + progress.step, sums)
        progress.step += len(batches)
        if not state.is_compiled:  # which may take minutes
            logger.info("first step done after %.1f s, compilation included", meter.seconds)
        state.is_compiled = True
        progress.sums = sums.tolist()
        progress.running_seconds = time.monotonic() - started
        if progress.step == stop and stop < steps and time.monotonic() >= state.next_checkpoint:
            _save(state, task)
            logger.info("checkpoint at epoch %d step %d/%d", progress.epoch + 1, progress.step, steps)
        if task.gang.is_chief and meter.is_due():
            _report_steps(progress, task, meter.rate(progress.step - first_step))


def _save(state: State, task: Task) -> None:
    """Write a checkpoint, if the run can go on from it."""
    begun = time.monotonic()
    checkpoint = state.checkpoint()
    _check_finite([checkpoint.progress.sums, *checkpoint.model, *checkpoint.optimizer], checkpoint.progress, task)
    if task.gang.is_chief:
        task.check_sole()
        save_checkpoint(task.run_directory / CHECKPOINTS_DIRECTORY, checkpoint)
    now = time.monotonic()
    state.next_checkpoint = now + (now - begun) * (1 / CHECKPOINT_SHARE - 1)


def _means(sums: Sequence[float] | np.ndarray, split: Split) -> dict[str, float]:
    total = dict(zip(SUM_NAMES, (float(value) for value in sums), strict=True))
    if round(total["events"]) != split.events:
        raise InvalidInputError(
            f"the {split.name} split in {split.shards[0].key.parent} holds {round(total['events'])} events, not the "
            f"{split.events} that its manifest lists: prepare the dataset again"
        )
    if total["weight"] <= 0:
        raise InvalidInputError(
            f"the weights of the {split.name} split add up to {total['weight']:g}, not above 0: set event_weights to "
            "absolute, or to none if all are 0"
        )
    return {
        "loss": total["weighted_loss"] / total["weight"],
        "accuracy": total["weighted_hits"] / total["weight"],
    }


def _check_finite(values: Iterable[ArrayLike], progress: Progress, task: Task) -> None:
    if not all(np.isfinite(value).all() for value in values):
        remedy = "set event_weights to absolute, or " if task.config.event_weights == "signed" else ""
        where = f"epoch {progress.epoch + 1} before step {progress.step + 1}"
        raise InvalidInputError(f"loss or weights are not finite in {where}: {remedy}lower learning_rate")


def _report_steps(progress: Progress, task: Task, steps_per_second: float) -> None:
    config, steps = task.config, task.train_steps
    to_go = (config.epochs - progress.epoch) * steps - progress.step
    logger.info(
        "epoch %d/%d step %d/%d: loss %.4f, %.0f events/s, at most %.0f s to go",
        progress.epoch + 1, config.epochs, progress.step, steps, progress.sums[0] / max(progress.sums[2], 1e-9),
        steps_per_second * config.batch_size, to_go / steps_per_second,
    )  # fmt: skip


def _report_epoch(progress: Progress, task: Task, log: EpochLog | None) -> None:
    if log is None:
        return
    results, seconds = progress.history[-1], progress.epoch_seconds[-1]
    logger.info(
        "epoch %d/%d done: loss %.4f, accuracy %.4f; validation loss %.4f, accuracy %.4f; %.1f s, %.0f events/s%s",
        progress.epoch, task.config.epochs, results["loss"], results["accuracy"], results["validation_loss"],
        results["validation_accuracy"], seconds, (task.dataset.train.events + task.dataset.validation.events) / seconds,
        " (best so far)" if best_epoch(progress) == progress.epoch - 1 else "",
    )  # fmt: skip
    log.write(progress.epoch, results)
