"""Shards → one worker's rows of every global batch, in an order that comes from (seed, epoch) alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.training.cache import Cache
from toposieve.training.records import Batch, RecordReader
from toposieve.training.shards import Shard, Share, Split, is_altered

SHUFFLE_EVENTS = 4096
"""Events in the shuffle buffers of all streams together (an event is about 42 kB)."""
READ_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Epochs:
    """Which passes over a split to make, and where to begin in the first."""

    seed: int
    start: int
    stop: int
    skipped_steps: int = 0


def training_batches(split: Split, reader: RecordReader, share: Share, epochs: Epochs, cache: Cache) -> tf.data.Dataset:
    """Batches of several epochs, one after the other: ``split.steps(batch_size)`` in each but what is skipped.

    A batch is what the reader gives plus ``row``: int32, the rows' numbers in the global batch.
    """
    seeds = tf.constant(_seeds(epochs, split.streams))  # (epochs, streams, 2)
    steps = split.steps(share.batch_size)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        return _global_batches(split, share, steps, seeds[epoch], cache)

    serialized = tf.data.Dataset.range(epochs.stop - epochs.start).flat_map(_plain(one_epoch))
    return _parsed(serialized.skip(epochs.skipped_steps), reader, share)


def ordered_batches(split: Split, reader: RecordReader, share: Share, cache: Cache, passes: int = 1) -> tf.data.Dataset:
    """Passes over a split in the order of its shards, in batches like those of training."""
    one_pass = _global_batches(split, share, split.steps(share.batch_size), None, cache)
    return _parsed(one_pass.repeat(passes), reader, share)


def checked(dataset: tf.data.Dataset, split: Split, cache: Cache) -> Iterator[Batch]:
    """Iterate over batches, with damage in the input said plainly.

    Raises:
        InvalidInputError: A shard is missing, cut short or altered, or a record is not what its reader expects.
        UnavailableError: A shard's store cannot be reached.
    """
    try:
        yield from dataset
    except tf.errors.OpError as error:
        if cache.failure is not None:
            raise cache.failure from None
        if not isinstance(error, tf.errors.DataLossError | tf.errors.InvalidArgumentError):
            raise
        where = _first_altered(split, cache) or split.shards[0].key.parent
        cause = (error.message or "").split("\n")[0].split("[[")[0].strip()
        raise InvalidInputError(
            f"{where}: a shard of the {split.name} split is damaged or holds bad values ({cause}); write it again"
        ) from None


def _first_altered(split: Split, cache: Cache) -> Key | None:
    """TensorFlow does not say which file it was reading."""
    here = (shard for shard in split.shards if shard.file and shard.key in cache)
    return next((shard.key for shard in here if is_altered(cache.path(shard.key), shard.file)), None)


def _seeds(epochs: Epochs, streams: int) -> np.ndarray:
    """Two seeds, for shard order and event order, of every (epoch, stream)."""
    table = [
        [np.random.SeedSequence([epochs.seed, epoch, stream]).generate_state(2) >> 1 for stream in range(streams)]
        for epoch in range(epochs.start, epochs.stop)
    ]
    return np.asarray(table, np.int64)


def _global_batches(split: Split, share: Share, steps: int, seeds: tf.Tensor | None, cache: Cache) -> tf.data.Dataset:
    """``steps`` times the worker's (rows,) serialised examples; empty strings stand for events that are not there."""
    buffer = max(1, SHUFFLE_EVENTS // split.streams)
    streams = []
    for index in share.owned:
        shards, reader = split.stream(index), f"{split.name}/{index}"
        order = tf.data.Dataset.range(len(shards))
        if seeds is not None:
            order = order.shuffle(max(1, len(shards)), seeds[index, 0], reshuffle_each_iteration=False)
        records = tf.data.TFRecordDataset(_files(order, shards, cache, reader), buffer_size=READ_BUFFER_BYTES)
        if seeds is not None:
            records = records.shuffle(buffer, seeds[index, 1], reshuffle_each_iteration=False)
        streams.append(_quotas(records, share.quota).take(steps))
    return tf.data.Dataset.zip(tuple(streams)).map(_plain(lambda *quotas: tf.concat(quotas, axis=0)))


def _files(order: tf.data.Dataset, shards: Sequence[Shard], cache: Cache, reader: str) -> tf.data.Dataset:
    """Local paths of shards, each had when the one before begins to be read."""

    def local(number: np.int64) -> bytes:
        return os.fsencode(cache.path(shards[int(number)].key, reader))

    def path(number: tf.Tensor) -> tf.Tensor:
        # Not stateful: with op determinism TensorFlow would otherwise read nothing ahead.
        return tf.ensure_shape(tf.numpy_function(local, [number], tf.string, stateful=False), ())

    return order.map(_plain(path)).prefetch(1)


def _quotas(records: tf.data.Dataset, quota: int) -> tf.data.Dataset:
    """Groups of ``quota`` records, the last one filled up with empty strings, and then empty ones without end."""

    def fill(group: tf.Tensor) -> tf.Tensor:
        filled = tf.pad(group, [[0, quota - tf.shape(group)[0]]], constant_values="")
        return tf.ensure_shape(filled, (quota,))

    nothing = tf.data.Dataset.from_tensors(tf.fill((quota,), "")).repeat()
    return records.batch(quota).map(_plain(fill)).concatenate(nothing)


def _parsed(serialized: tf.data.Dataset, reader: RecordReader, share: Share) -> tf.data.Dataset:
    row = tf.range(share.rows.start, share.rows.stop, dtype=tf.int32)

    def parse(examples: tf.Tensor) -> Batch:
        return {**reader.read(examples), "row": row}

    options = tf.data.Options()
    options.autotune.enabled = False  # nothing to tune, and its thread holds up the end of an iterator for seconds
    return serialized.map(_plain(parse)).prefetch(2).with_options(options)


def _plain(function: Callable[..., object]) -> Callable[..., object]:
    """Keep autograph off: there is nothing to convert, and converting costs seconds."""
    plain: Callable[..., object] = tf.autograph.experimental.do_not_convert(function)
    return plain
