"""One step of training and one of validation, the same on one worker and on many.

Losses are sums over the events at hand; sums and gradients are added up over the workers and divided by the number of
events in the global batch. So partial batches and events that are not there need no special case, and a heavy event
counts the same in whatever batch it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from toposieve.training.architectures.parts import logits_of
from toposieve.training.dropout import DropoutKeys, dropout_keys
from toposieve.training.records import Batch

SUM_NAMES = ("weighted_loss", "weighted_hits", "weight", "events")
"""What a step adds up over the events of the global batch."""

Spec = dict[str, tf.TensorSpec]


@dataclass(frozen=True)
class Steps:
    """Compiled steps of one model; each returns the global batch's :data:`SUM_NAMES`, float64 (4,)."""

    train: Callable[[Batch, int], np.ndarray]
    """(batch, number of the step in the run) → sums, before the update."""
    validate: Callable[[Batch], np.ndarray]


def build_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    strategy: tf.distribute.Strategy,
    spec: Spec,
    *,
    batch_size: int,
    seed: int,
    event_weights: str,
    signed_factors: Sequence[float],
) -> Steps:
    """Compile the steps.

    Args:
        model: Built in the strategy's scope, as is the optimizer.
        optimizer: Built for the model's trainable variables.
        strategy: One replica per worker.
        spec: Shapes and types of a batch.
        batch_size: Events in a global batch.
        seed: Seed of the dropout.
        event_weights: What an event counts: ``absolute``, ``signed`` or ``none``.
        signed_factors: For each label, what makes its signed weights count as much as its absolute ones would.
    """

    def counted(batch: Batch) -> tf.Tensor:
        # An event of negative weight would have the model unlearn it, and a loss without a lower bound.
        if event_weights == "signed":
            return batch["weight"] * tf.gather(tf.constant(signed_factors, tf.float32), batch["label"])
        return tf.abs(batch["weight"]) if event_weights == "absolute" else batch["present"]

    scores = logits_of(model)
    # XLA makes the recurrent loop twice as fast on CPU; on GPU cuDNN serves it, which XLA cannot call.
    xla = not tf.config.list_logical_devices("GPU")

    def gradients(batch: Batch, step: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        keys = DropoutKeys(seed, step, batch["row"], batch_size)
        with dropout_keys(keys), tf.GradientTape() as tape:
            sums = _sums(scores(_inputs(model, batch), training=True), batch, counted(batch))
            loss = sums[0]
        return tf.stack(sums), tape.gradient(loss, model.trainable_variables)

    def local_sums(batch: Batch) -> tf.Tensor:
        return tf.stack(_sums(scores(_inputs(model, batch), training=False), batch, counted(batch)))

    compiled_gradients = tf.function(gradients, jit_compile=xla, autograph=False)
    compiled_sums = tf.function(local_sums, jit_compile=xla, autograph=False)

    def train_replica(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        sums, local = compiled_gradients(batch, step)
        sums = _sum_over_workers(sums)
        events = tf.cast(sums[SUM_NAMES.index("events")], tf.float32)
        shares = [tf.math.divide_no_nan(gradient, events) for gradient in local]
        optimizer.apply_gradients(zip(shares, model.trainable_variables, strict=True))  # adds them up over the workers
        return sums

    def train(batch: Batch, step: tf.Tensor) -> tf.Tensor:
        return strategy.run(train_replica, args=(batch, step))

    def validate(batch: Batch) -> tf.Tensor:
        return strategy.run(lambda local: _sum_over_workers(compiled_sums(local)), args=(batch,))

    train_step = tf.function(train, input_signature=[spec, tf.TensorSpec((), tf.int64)], autograph=False)
    validation_step = tf.function(validate, input_signature=[spec], autograph=False)
    return Steps(
        lambda batch, step: train_step(batch, tf.constant(step, tf.int64)).numpy(),
        lambda batch: validation_step(batch).numpy(),
    )


def sum_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
    """Sum of one number per worker; returns when all workers have called it."""
    total = tf.function(lambda local: strategy.run(_sum_over_workers, args=(local,)), autograph=False)
    return float(total(tf.constant(value, tf.float64)).numpy())


def _sum_over_workers(value: tf.Tensor) -> tf.Tensor:
    placed = tf.identity(tf.cast(value, tf.float64))  # the reduction goes to the device of its operand
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)


def _inputs(model: keras.Model, batch: Batch) -> dict[str, tf.Tensor]:
    return {name: batch[name] for name in model.input}


def _sums(logits: tf.Tensor, batch: Batch, weight: tf.Tensor) -> list[tf.Tensor]:
    """The four sums of :data:`SUM_NAMES`; weights are 0 where an event is not there."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)  # (batch,)
    hits = tf.cast(tf.equal(tf.argmax(logits, axis=-1), batch["label"]), tf.float32)
    return [tf.reduce_sum(values) for values in (weight * losses, weight * hits, weight, batch["present"])]
