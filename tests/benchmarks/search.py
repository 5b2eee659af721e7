"""How long a search for hlf takes on 100,000 events and all cores: the published space, and 200 trials given up early.

Only a part of each is run; the rest is taken to cost as much, trial for trial. The published space is 243 candidates in
five folds: 81 configurations, each after 1, 2 and 3 epochs.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.inputs import Bench
from benchmarks.measure import Usage, measured
from benchmarks.table import Figure
from support.training_data import key_of, write_dataset
from toposieve.config import SearchConfig
from toposieve.io.store import Key
from toposieve.spark.session import SparkOnDemand
from toposieve.training.shards import Dataset, open_dataset
from toposieve.tuning.spaces import Space
from toposieve.tuning.study import Search

TRAINING_EVENTS, VALIDATION_EVENTS = 100_000, 20_000
PUBLISHED = SearchConfig(space="published", epochs=(1, 2, 3))
WARM_UP, PART = (0,), (1, 10, 19)
"""Of the layers' sizes in the published space, those that are run."""
DRAWN = SearchConfig(trials=200, batch_trials=25)
GOALS = {"published": (900.0, 360.0), "drawn": (300.0, 180.0)}
"""Search → seconds that must and should be, on two cores."""


@dataclass(frozen=True)
class _Part(Search):
    """A search in a part of its space."""

    part: tuple[int, ...] = ()

    @property
    def space(self) -> Space:
        """The space with some of the layers' sizes."""
        whole = super().space
        return replace(whole, axes=whole.axes | {"hlf_units": [whole.axes["hlf_units"][place] for place in self.part]})


def rows(bench: Bench) -> Iterator[Figure]:
    """One for each search."""
    with tempfile.TemporaryDirectory(prefix="toposieve-bench-") as base:
        folder = Path(base) / "datasets" / "search"
        sizes = {"train": TRAINING_EVENTS, "validation": VALIDATION_EVENTS}
        dataset = open_dataset(key_of(write_dataset(folder, **sizes, lengths=(1, 2))))
        yield _published(dataset)
        yield _drawn(dataset)


def _published(dataset: Dataset) -> Figure:
    first = _Part(_folder(dataset, "first"), dataset, PUBLISHED, WARM_UP)
    second = _Part(_folder(dataset, "second"), dataset, PUBLISHED, PART)
    whole, *done = (len(each.space.grid()) for each in (Search(first.folder, dataset, PUBLISHED), first, second))
    (first_seconds, _), (seconds, usage) = _run(first), _run(second)
    total = first_seconds + seconds * (whole - done[0]) / done[1]
    name = f"search, published space, 5 folds, from {sum(done)} of {whole} fits"
    return _figure(name, total, "published", usage)


def _drawn(dataset: Dataset) -> Figure:
    batch, folder = DRAWN.batch_trials, _folder(dataset, "drawn")
    searches = [Search(folder, dataset, DRAWN.model_copy(update={"trials": trials})) for trials in (batch, 2 * batch)]
    (first_seconds, _), (seconds, usage) = (_run(each) for each in searches)  # the second finds the first's on record
    total = first_seconds + seconds * (DRAWN.trials / batch - 1)
    return _figure(f"search, {DRAWN.trials} trials, from {2 * batch}", total, "drawn", usage)


def _folder(dataset: Dataset, study: str) -> Key:
    """Where a search keeps its trials."""
    return dataset.directory.parent.parent / "studies" / study


def _figure(name: str, seconds: float, search: str, usage: Usage) -> Figure:
    must, stretch = GOALS[search]
    return Figure(name, seconds, "s", None, must, stretch, at_most=True, peak_bytes=usage.peak_process_bytes)


def _run(search: Search) -> tuple[float, Usage]:
    """Seconds of a search, and what it used."""
    with measured() as usage, SparkOnDemand("search", None) as spark:
        start = time.perf_counter()
        search.run(spark)
        seconds = time.perf_counter() - start
    return seconds, usage
