"""Shards → one worker's rows of every global batch, in an order that comes from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from toposieve.errors import InvalidInputError
from toposieve.training.records import Batch, RecordReader
from toposieve.training.shards import Share, Split

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


def training_batches(split: Split, reader: RecordReader, share: Share, epochs: Epochs) -> tf.data.Dataset:
    """Batches of several epochs, one after the other: ``split.steps(batch_size)`` in each but what is skipped.

    A batch is what the reader gives plus ``row``: int32, the rows' numbers in the global batch.
    """
    seeds = tf.constant(_seeds(epochs, split.streams))  # (epochs, streams, 2)
    steps = split.steps(share.batch_size)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        return _global_batches(split, share, steps, seeds[epoch])

    serialized = tf.data.Dataset.range(epochs.stop - epochs.start).flat_map(_plain(one_epoch))
    return _parsed(serialized.skip(epochs.skipped_steps), reader, share)


def ordered_batches(split: Split, reader: RecordReader, share: Share, passes: int = 1) -> tf.data.Dataset:
    """Passes over a split in the order of its shards, in batches like those of training."""
    one_pass = _global_batches(split, share, split.steps(share.batch_size), None)
    return _parsed(one_pass.repeat(passes), reader, share)


def checked(dataset: tf.data.Dataset, split: Split) -> Iterator[Batch]:
    """Iterate over batches, with damage in the input said plainly.

    Raises:
        InvalidInputError: A shard is cut short or altered, or a record is not what its reader expects.
    """
    try:
        yield from dataset
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
        directory = split.shards[0].path.parent
        cause = (error.message or "").split("\n")[0].split("[[")[0].strip()
        raise InvalidInputError(
            f"{directory}: a shard of the {split.name} split is damaged or holds bad values ({cause}); write it again"
        ) from None


def _seeds(epochs: Epochs, streams: int) -> np.ndarray:
    """Two seeds, for shard order and event order, of every (epoch, stream)."""
    table = [
        [np.random.SeedSequence([epochs.seed, epoch, stream]).generate_state(2) >> 1 for stream in range(streams)]
        for epoch in range(epochs.start, epochs.stop)
    ]
    return np.asarray(table, np.int64)


def _global_batches(split: Split, share: Share, steps: int, seeds: tf.Tensor | None) -> tf.data.Dataset:
    """``steps`` times the worker's (rows,) serialised examples; empty strings stand for events that are not there."""
    buffer = max(1, SHUFFLE_EVENTS // split.streams)
    streams = []
    for index in share.owned:
        records = _records([str(shard.path) for shard in split.stream(index)], buffer, seeds, index)
        streams.append(_quotas(records, share.quota).take(steps))
    return tf.data.Dataset.zip(tuple(streams)).map(_plain(lambda *quotas: tf.concat(quotas, axis=0)))


def _records(paths: list[str], buffer: int, seeds: tf.Tensor | None, stream: int) -> tf.data.Dataset:
    files = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string, shape=(len(paths),)))
    if seeds is None:
        return tf.data.TFRecordDataset(files, buffer_size=READ_BUFFER_BYTES)
    files = files.shuffle(max(1, len(paths)), seeds[stream, 0], reshuffle_each_iteration=False)
    records = tf.data.TFRecordDataset(files, buffer_size=READ_BUFFER_BYTES)
    return records.shuffle(buffer, seeds[stream, 1], reshuffle_each_iteration=False)


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
