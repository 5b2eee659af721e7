"""What a training step is fed with: reading, checking and parsing, without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.preparation import dataset
from benchmarks.table import Figure
from toposieve.io.store import root_key
from toposieve.training.cache import Cache
from toposieve.training.input_pipeline import Epochs, training_batches
from toposieve.training.order import Share
from toposieve.training.shards import Split, open_dataset
from toposieve.training.sources import Source, open_source

EPOCHS = 3
FULL_SIZE = 100 * 10**9
"""Bytes of a dataset at full size, for which shards are taken over and over again."""


def rows(bench: Bench) -> Iterator[Figure]:
    """Batches of the inclusive model, from records, and of one that takes high-level features alone, from tables."""
    split = open_dataset(root_key("--base", str(dataset(bench)))).train
    speed = limits(bench.base).speed
    with Cache() as cache:
        records = open_source(split, ("high_level", "particles"), cache)
        rate = _rate(split, records, 128)
        yield Figure(
            "records read and parsed, batch 128", rate, "events/s", must=20_000 * speed, stretch=30_000 * speed
        )
        tables = open_source(split, ("high_level",), cache)
        for batch_size in (128, 1024):
            yield Figure(f"rows of tables in batches of {batch_size:,}", _rate(split, tables, batch_size), "events/s")
    turns = -(-FULL_SIZE // sum(shard.bytes for shard in split.shards))
    seconds = _resumed_seconds(replace(split, shards=split.shards * turns))
    yield Figure("first batch of a run resumed in an epoch of 100 GB", seconds, "s", must=5.0, at_most=True)


def _resumed_seconds(split: Split) -> float:
    """Wall-clock time to the first batch in the middle of an epoch."""
    begun = time.perf_counter()
    middle = Epochs(1, 0, 1, skipped_steps=split.steps(128) // 2)
    with Cache() as cache:
        next(training_batches(split, open_source(split, ("high_level", "particles"), cache), Share(128), middle))
    return time.perf_counter() - begun


def _rate(split: Split, source: Source, batch_size: int) -> float:
    """Events per CPU second of the best epoch, after one to warm up."""
    seconds = []
    for epoch in range(EPOCHS + 1):
        begun = time.process_time()
        for _ in training_batches(split, source, Share(batch_size), Epochs(1, epoch, epoch + 1)):
            pass
        seconds.append(time.process_time() - begun)
    return split.events / min(seconds[1:])
