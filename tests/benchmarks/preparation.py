"""Selected events → shuffled, scaled TFRecord shards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench, Files
from benchmarks.jobs import OBSERVATIONS, run_job
from benchmarks.measure import Run, measured
from benchmarks.profiling import profiled
from benchmarks.selection import partitions, select, select_units, units_partition
from benchmarks.table import Figure, memory
from toposieve import schema
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

KEPT_SHARE = 6
ALL = "--set=balance=false"


def prepare(base: Path, partition: Files, dataset: str, *options: str) -> Run:
    """A dataset of a selected partition; what is there is kept."""
    with measured() as usage:
        run_job("prepare_features", base, "--partitions", partition.name, "--dataset", dataset, *options)
    return Run(read_manifest(root_key("--base", str(base)) / "datasets" / dataset).total("events"), usage)


def dataset(bench: Bench) -> Path:
    """The folder of a dataset to train on."""
    small, *_ = partitions(bench)
    select_once(bench.base, small)
    prepare(bench.base, small, "bench", ALL)
    return bench.base / "datasets" / "bench"


def rows(bench: Bench) -> Iterator[Figure]:
    """The Spark job, warm."""
    small, half, large = partitions(bench)
    for partition in (small, half, large):
        select_once(bench.base, partition)
    _measure(bench.base, small)
    OBSERVATIONS.pop()
    runs = [_measure(bench.base, partition) for partition in (small, half, large)]
    loop, speed = limits(bench.base).loop, limits(bench.base).speed
    few, some, many = runs
    rate, peak = 1 / many.per_count(few), many.usage.peak_process_bytes
    name = "selected → TFRecord shards"
    yield Figure(name, rate, "events/s", loop, 4000 * speed, 5000 * speed, peak_bytes=peak)
    yield Figure(f"  the same, fixed ({few.count:,} and {many.count:,} events)", many.fixed(few), "CPU-s")
    ratio = many.per_count(some) / some.per_count(few)
    name = f"  the same, CPU time of another event at {many.count:,} against {few.count:,}"
    yield Figure(name, ratio, "×", must=1.1, stretch=1.0, at_most=True)
    yield memory("  the same, peak memory", peak, 1000.0, 800.0)
    yield _share_row(bench, large, many.fixed(few))
    yield _unit_row(bench, many.fixed(few), many.per_count(few))
    with profiled("selected → shards, time in", few.count) as figures:
        _measure(bench.base, small)
    yield from figures


def _unit_row(bench: Bench, fixed: float, per_event: float) -> Figure:
    """What a file of one or two events takes beside them."""
    partition = units_partition(bench)
    if not (bench.base / "selected" / partition.name).exists():
        select_units(bench, bench.units)
    run = _measure(bench.base, partition)
    seconds = run.usage.cpu_seconds - fixed - per_event * run.count
    return Figure(f"  the same, another unit, of {bench.units:,}", 1e3 * seconds / bench.units, "CPU-ms")


def _share_row(bench: Bench, large: Files, fixed: float) -> Figure:
    """What few of many cost, against the same few alone, both without what each run costs."""
    alone = Files("alone", files=max(3, large.files // KEPT_SHARE))
    select_once(bench.base, alone)
    only = _measure(bench.base, alone)
    most = f"--set=max_events_per_class={only.count // len(schema.SAMPLES)}"
    share = _measure(bench.base, large, most)
    cost, cost_alone = ((run.usage.cpu_seconds - fixed) / run.count for run in (share, only))
    name = f"  1 event in {KEPT_SHARE} kept, against files that hold only those"
    return Figure(name, cost / cost_alone, "×", must=1.5, stretch=1.2, at_most=True)


def select_once(base: Path, partition: Files) -> None:
    """Select a partition, unless that is done."""
    if not (base / "selected" / partition.name).exists():
        select(base, partition)


def _measure(base: Path, partition: Files, *options: str) -> Run:
    run = prepare(base, partition, "measured", *(options or [ALL]))
    shutil.rmtree(base / "datasets" / "measured")
    return run
