"""One worker's rows of every global batch, in an order that comes from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from toposieve.training.order import CHUNK_RECORDS, WINDOW_CHUNKS, Numbers, Order, Share
from toposieve.training.records import Batch
from toposieve.training.shards import Split
from toposieve.training.sources import Source


@dataclass(frozen=True)
class Epochs:
    """Which passes over a split to make, and where to begin in the first."""

    seed: int
    start: int
    stop: int
    skipped_steps: int = 0


def batch_spec(source: Source, share: Share) -> dict[str, tf.TensorSpec]:
    """Shapes and types of a worker's batches: what the source gives, and ``row``."""
    rows = {name: tf.TensorSpec((len(share.rows), *spec.shape[1:]), spec.dtype) for name, spec in source.spec.items()}
    return {**rows, "row": tf.TensorSpec((len(share.rows),), tf.int32)}


def training_batches(split: Split, source: Source, share: Share, epochs: Epochs) -> Iterator[Batch]:
    """Batches of several epochs, one after the other: ``split.steps(batch_size)`` in each but what is skipped.

    A batch is what the source gives plus ``row``: int32, the rows' numbers in the global batch.

    Raises:
        InvalidInputError: A file is missing or damaged, or a record is not what its reader expects.
        UnavailableError: A store cannot be reached.
    """
    orders = (split.order(epochs.seed, epoch) for epoch in range(epochs.start, epochs.stop))
    return _batches(orders, source, share, epochs.skipped_steps)


def ordered_batches(split: Split, source: Source, share: Share, passes: int = 1) -> Iterator[Batch]:
    """Passes over a split in the order of its shards, in batches like those of training."""
    return _batches([split.order()] * passes, source, share)


def _batches(orders: Iterable[Order], source: Source, share: Share, skipped: int = 0) -> Iterator[Batch]:
    row = np.array(share.rows, np.int32)
    return ({**batch, "row": row} for batch in source.batches(_blocks(orders, share, skipped)))


def _blocks(orders: Iterable[Order], share: Share, skipped: int) -> Iterator[Numbers]:
    """Numbers of the records of some batches, about a window's: what is read at a time."""
    batches = max(1, CHUNK_RECORDS * WINDOW_CHUNKS // share.batch_size)
    for order in orders:
        steps = order.steps(share.batch_size)
        for first in range(skipped, steps, batches):
            yield order.batches(first, min(first + batches, steps), share)
        skipped = 0
