"""What a training step is fed with: reading, checking and parsing, without a model."""

from __future__ import annotations

import time
from collections.abc import Iterator

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


def _rate(split: Split, source: Source, batch_size: int) -> float:
    """Events per CPU second of the best epoch, after one to warm up."""
    seconds = []
    for epoch in range(EPOCHS + 1):
        begun = time.process_time()
        for _ in training_batches(split, source, Share(batch_size), Epochs(1, epoch, epoch + 1)):
            pass
        seconds.append(time.process_time() - begun)
    return split.events / min(seconds[1:])
