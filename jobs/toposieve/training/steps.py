"""Steps of training and validation, the same on one worker and on many, one or several in a call.

Losses are sums over the events at hand. A worker's sums and gradients travel to the others in one vector, once a step,
and are divided by the number of events in the global batch. So partial batches and events that are not there need no
special case, and a heavy event counts the same in whatever batch it comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from toposieve.models import PARTICLES
from toposieve.training.architectures.parts import logits_of
from toposieve.training.dropout import DropoutKeys, dropout_keys
from toposieve.training.records import Batch

SUM_NAMES = ("weighted_loss", "weighted_hits", "weight", "events")
"""What a step adds up over the events of the global batch."""

STEPS_PER_CALL = 32
"""Steps that a small model does in a call of its graph, which costs as much as several of them."""

Spec = dict[str, tf.TensorSpec]

RowSums = Callable[[Batch, tf.Tensor], tf.Tensor]
"""(rows of a batch, number of the step in the run) → what is added up over rows, (any,)."""


@dataclass(frozen=True)
class Steps:
    """Compiled steps of one model, which add the global batches' :data:`SUM_NAMES` to sums, float64 (4,)."""

    per_call: int
    """Most batches in a call."""
    train: Callable[[Sequence[Batch], int, np.ndarray], np.ndarray]
    """(batches, number of the first step in the run, sums) → sums; a step's are those before its update."""
    validate: Callable[[Sequence[Batch], np.ndarray], np.ndarray]


def build_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    spec: Spec,
    *,
    seed: int,
    event_weights: str,
    signed_factors: Sequence[float],
    micro_batch_size: int | None = None,
) -> Steps:
    """Compile the steps.

    Args:
        model: Built outside the strategy's scope, as is the optimizer: every worker has its own, and all do the same.
        optimizer: Built for the model's trainable variables.
        strategy: One replica per worker.
        spec: Shapes and types of a worker's rows of a batch.
        seed: Seed of the dropout.
        event_weights: What an event counts: ``absolute``, ``signed`` or ``none``.
        signed_factors: For each label, what makes its signed weights count as much as its absolute ones would.
        micro_batch_size: Most rows to compute at a time; None for all.
    """
    # XLA makes the recurrent loop twice as fast on CPU; on GPU cuDNN serves it, which XLA cannot call. Nor can it call
    # the other workers.
    xla = not tf.config.list_logical_devices("GPU")
    compiled = partial(tf.function, jit_compile=xla, autograph=False)
    logits, variables, counted = logits_of(model), model.trainable_variables, _counted(event_weights, signed_factors)
    gradients = compiled(_gradients(logits, variables, counted, seed))
    validation_sums = compiled(_validation_sums(logits, counted))
    update = compiled(_update(optimizer, variables))
    summed = partial(_summed, strategy, _slices(spec["present"].shape[0], micro_batch_size))

    def train_step(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        return update(summed(gradients, sum(_sizes(variables)), batch, step))

    def validation_step(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        return summed(validation_sums, len(SUM_NAMES), batch, step)

    per_call = 1 if PARTICLES in model.input else STEPS_PER_CALL
    train, validate = (
        _several(step, spec, per_call, jit_compile=xla and strategy.num_replicas_in_sync == 1)
        for step in (train_step, validation_step)
    )
    return Steps(per_call, train, lambda batches, sums: validate(batches, 0, sums))


def _counted(event_weights: str, signed_factors: Sequence[float]) -> Callable[[Batch], tf.Tensor]:
    """What each event of a batch counts, (batch,)."""

    def counted(batch: Batch) -> tf.Tensor:
        # An event of negative weight would have the model unlearn it, and a loss without a lower bound.
        if event_weights == "signed":
            return batch["weight"] * tf.gather(tf.constant(signed_factors, tf.float32), batch["label"])
        return tf.abs(batch["weight"]) if event_weights == "absolute" else batch["present"]

    return counted


def _gradients(
    logits: keras.Model, variables: Sequence[keras.Variable], counted: Callable[[Batch], tf.Tensor], seed: int
) -> RowSums:
    """The sums of some rows and the gradients of their loss, in one vector."""

    def gradients(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        with dropout_keys(DropoutKeys(seed, step, batch["row"])), tf.GradientTape() as tape:
            sums = _sums(logits(_inputs(logits, batch), training=True), batch, counted(batch))
            loss = sums[0]
        return _packed([tf.stack(sums), *tape.gradient(loss, variables)])

    return gradients


def _validation_sums(logits: keras.Model, counted: Callable[[Batch], tf.Tensor]) -> RowSums:
    def validation_sums(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        return tf.stack(_sums(logits(_inputs(logits, batch), training=False), batch, counted(batch)))

    return validation_sums


def _update(
    optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Takes the vector of a global batch, changes the variables by it, and returns the sums."""

    def update(total: tf.Tensor) -> tf.Tensor:
        sums, *flat = tf.split(total, _sizes(variables))
        events = sums[SUM_NAMES.index("events")]
        slopes = (tf.reshape(slope, variable.shape) for slope, variable in zip(flat, variables, strict=True))
        optimizer.apply([tf.math.divide_no_nan(slope, events) for slope in slopes], variables)
        return sums

    return update


def _sizes(variables: Sequence[keras.Variable]) -> list[int]:
    """Of the parts of the vector in which sums and gradients travel."""
    return [len(SUM_NAMES), *(math.prod(variable.shape) for variable in variables)]


def _summed(
    strategy: tf.distribute.Strategy, slices: int, of: RowSums, width: int, batch: Batch, step: tf.Tensor
) -> tf.Tensor:
    """What is added up over a global batch, (width,): over this worker's rows, a slice at a time, then over workers."""
    filled = _filled(batch, slices)
    stack = {name: tf.reshape(each, (slices, -1, *each.shape[1:])) for name, each in filled.items()}
    local = _total(lambda piece, _: of(piece, step), stack, tf.constant(slices, tf.int64), tf.zeros((width,)))
    return _over_workers(strategy, local)


def sum_over_workers(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    """Sums of numbers that every worker has, float64; returns when all workers have called it."""
    total = tf.function(lambda local: _over_workers(strategy, local), autograph=False)
    summed: np.ndarray = total(tf.constant(values, tf.float64)).numpy()
    return summed


def _over_workers(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    if strategy.num_replicas_in_sync == 1:
        return value

    def all_reduce(local: tf.Tensor) -> tf.Tensor:
        placed = tf.identity(local)  # the reduction goes to the device of its operand
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

    return strategy.run(all_reduce, args=(value,))


def _several(
    step: Callable[[Batch, tf.Tensor], tf.Tensor], spec: Spec, per_call: int, *, jit_compile: bool
) -> Callable[[Sequence[Batch], int, np.ndarray], np.ndarray]:
    """Compile up to ``per_call`` steps; the same graph whatever their number, so that the results are the same."""

    def several(stack: Batch, count: tf.Tensor, first: tf.Tensor, sums: tf.Tensor) -> tf.Tensor:
        def one(batch: Batch, number: tf.Tensor) -> tf.Tensor:
            return tf.cast(step(batch, first + number), tf.float64)

        return _total(one, stack, count, sums)

    stacked = {name: tf.TensorSpec((per_call, *each.shape), each.dtype) for name, each in spec.items()}
    scalar = tf.TensorSpec((), tf.int64)
    signature = [stacked, scalar, scalar, tf.TensorSpec((len(SUM_NAMES),), tf.float64)]
    graph = tf.function(several, input_signature=signature, jit_compile=jit_compile, autograph=False)

    def call(batches: Sequence[Batch], first: int, sums: np.ndarray) -> np.ndarray:
        filled = [*batches, *[batches[-1]] * (per_call - len(batches))]
        stack = {name: _stack([batch[name] for batch in filled]) for name in spec}
        total: np.ndarray = graph(stack, np.int64(len(batches)), np.int64(first), np.asarray(sums, np.float64)).numpy()
        return total

    return call


def _stack(tensors: Sequence[tf.Tensor]) -> tf.Tensor | np.ndarray:
    return np.stack([np.asarray(each) for each in tensors]) if len(tensors) > 1 else tf.expand_dims(tensors[0], 0)


def _total(of: Callable[[Batch, tf.Tensor], tf.Tensor], stack: Batch, count: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """A start plus a function of each of the first ``count`` batches of a stack and its number, one after the other."""
    if next(iter(stack.values())).shape[0] == 1:
        return start + of({name: each[0] for name, each in stack.items()}, tf.constant(0, tf.int64))

    def add(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return number + 1, total + of({name: each[number] for name, each in stack.items()}, number)

    begin = (tf.constant(0, tf.int64), start)
    return tf.while_loop(lambda number, _: number < count, add, begin, parallel_iterations=1)[1]


def _slices(rows: int, most: int | None) -> int:
    """The fewest slices of some rows with at most so many in each.

    >>> _slices(128, None), _slices(128, 50), _slices(43, 32)
    (1, 3, 2)
    """
    return -(-rows // (most or rows))


def _filled(batch: Batch, slices: int) -> Batch:
    """The rows of a batch in equal slices: of what is spare in the last, each is the last row, which counts no more."""
    rows = batch["present"].shape[0]
    spare = -rows % slices
    if not spare:
        return batch
    filled = {name: tf.concat([each, *[each[-1:]] * spare], axis=0) for name, each in batch.items()}
    there = tf.cast(tf.range(rows + spare) < rows, tf.float32)
    return filled | {name: filled[name] * there for name in ("weight", "present")}


def _packed(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """One vector of all; float32, in which a batch's counts are exact up to 2**24."""
    return tf.concat([tf.reshape(tensor, (-1,)) for tensor in tensors], axis=0)


def _inputs(model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    return {name: batch[name] for name in model.input}


def _sums(logits: tf.Tensor, batch: Batch, weight: tf.Tensor) -> list[tf.Tensor]:
    """The four sums of :data:`SUM_NAMES`; weights are 0 where an event is not there."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], tf.cast(logits, tf.float32))  # (batch,)
    hits = tf.cast(tf.equal(tf.argmax(logits, axis=-1), batch["label"]), tf.float32)
    return [tf.reduce_sum(values) for values in (weight * losses, weight * hits, weight, batch["present"])]
