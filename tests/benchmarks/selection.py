"""ROOT → selected features, against the bare loop of uproot and our kernels; and Spark's view of the same files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bare_loop import limits
from benchmarks.inputs import EVENTS_PER_FILE, Bench, Files, write_files
from benchmarks.jobs import OBSERVATIONS, run_job
from benchmarks.measure import Run, measured
from benchmarks.profiling import profiled
from benchmarks.table import Figure, memory
from toposieve import schema
from toposieve.spark.root_source import register
from toposieve.spark.session import spark_session

MUST, STRETCH = 0.72, 0.80
WIDE_EVENTS = 1350
"""In a file of Delphes."""
WIDE_FILES = (3, 9)
PILEUP_200 = Files("pile-up-200", files=4, events=500, together=20)
STORED = ["--set=store_events=true"]
"""A re-selection reads stored events."""


def partitions(bench: Bench) -> list[Files]:
    """A tenth of the events, half of them, and all."""
    sizes = (max(3, bench.events // share // EVENTS_PER_FILE) for share in (10, 2, 1))
    return [Files(f"flat-{files}", files) for files in sizes]


def rows(bench: Bench) -> Iterator[Figure]:
    """Everything about ROOT → selected, warm."""
    small, *_ = partitions(bench)
    select(bench.base, Files("warm-up", files=3))
    OBSERVATIONS.clear()
    yield from _flat_rows(bench)
    yield from _pileup_rows(bench)
    yield from _wide_rows(bench)
    yield from _unit_rows(bench)
    yield from _reselection_rows(bench)
    yield from _profile(bench, small)


def select(base: Path, partition: Files, *options: str) -> Run:
    """Ingest and select a partition, of which nothing is known before."""
    write_files(base, partition)
    for stage in ("events", "selected"):
        shutil.rmtree(base / stage / partition.name, ignore_errors=True)
    with measured() as usage:
        run_job("ingest", base, "--partition", partition.name, *options)
        run_job("select_events", base, "--partition", partition.name)
    return Run(partition.total, usage)


def units_partition(bench: Bench) -> Files:
    """Few files, of which many units are made."""
    return Files("units", files=4, events=max(EVENTS_PER_FILE, bench.units // 4))


def select_units(bench: Bench, units: int) -> Run:
    """Ingest and select that partition in so many units."""
    partition = units_partition(bench)
    return select(bench.base, partition, f"--set=entries_per_unit={partition.total // units}")


def remove(base: Path, partition: Files) -> None:
    """Make room."""
    for folder in base.glob(f"*/{partition.name}"), base.glob(f"raw/*/{partition.name}"):
        for path in folder:
            shutil.rmtree(path)


def _select_and_remove(base: Path, partition: Files) -> Run:
    run = select(base, partition)
    remove(base, partition)
    return run


def _flat_rows(bench: Bench) -> Iterator[Figure]:
    reading, loop = limits(bench.base)
    yield Figure("reading alone: uproot in one process", reading, "events/s", loop)
    yield Figure("uproot + kernels in one process, the bare loop", loop, "events/s", loop)
    small, half, large = (select(bench.base, partition) for partition in partitions(bench))
    rate, peak = 1 / large.per_count(small), large.usage.peak_process_bytes
    goals = {"must": MUST * loop, "stretch": STRETCH * loop}
    yield Figure("ROOT → selected: ingest + select", rate, "events/s", loop, peak_bytes=peak, **goals)
    yield Figure(f"  the same, fixed ({small.count:,} and {large.count:,} events)", large.fixed(small), "CPU-s")
    ratio = large.per_count(half) / half.per_count(small)
    name = f"  the same, CPU time of another event at {large.count:,} against {small.count:,}"
    yield Figure(name, ratio, "×", must=1.1, stretch=1.0, at_most=True)
    yield memory("  the same, peak memory", peak, 1000.0, 800.0)
    run = _select_and_remove(bench.base, Files("whole", files=1, events=large.count))
    name = f"  the same, fixed cost left out, one file of {large.count:,} events"
    yield Figure(name, run.count / (run.usage.cpu_seconds - large.fixed(small)), "events/s", loop)


def _wide_rows(bench: Bench) -> Iterator[Figure]:
    few, many = (Files(f"wide-{files}", files, WIDE_EVENTS, wide=True) for files in WIDE_FILES)
    long = Files("wide-long", 2, many.total // 2, wide=True)
    runs = {partition.name: _select_and_remove(bench.base, partition) for partition in (few, many, long)}
    speed, loop = limits(bench.base).speed, limits(bench.base).loop
    rate = 1 / runs[many.name].per_count(runs[few.name])
    name = f"ROOT → selected, files of 1,138 branches and {WIDE_EVENTS:,} events"
    yield Figure(name, rate, "events/s", loop, 1600 * speed, 2200 * speed)
    more = runs[many.name].usage.cpu_seconds - runs[long.name].usage.cpu_seconds
    per_file = more / (many.files - long.files)
    yield Figure("  the same, a file beyond its events", per_file, "CPU-s", must=0.5 / speed, at_most=True)


def _unit_rows(bench: Bench) -> Iterator[Figure]:
    sizes = (bench.units // 10, bench.units // 2, bench.units)
    few, half, many = (Run(units, select_units(bench, units).usage) for units in sizes)
    yield Figure(f"ROOT → selected, another unit, of {many.count:,}", 1e3 * many.per_count(few), "CPU-ms")
    ratio = many.per_count(half) / half.per_count(few)
    name = f"  the same, at {many.count:,} units against {few.count:,}"
    yield Figure(name, ratio, "×", must=1.1, stretch=1.0, at_most=True)


def root_source_rows(bench: Bench) -> Iterator[Figure]:
    """Spark's view of the files, warm."""
    few, _, many = (write_files(bench.base, partition) for partition in partitions(bench))
    _warm_up, small, large = (_scan(paths) for paths in (few, few, many))
    reading, speed = limits(bench.base).reading, limits(bench.base).speed
    name, peak = 'spark.read.format("root"), the needed leaves, into nothing', large.usage.peak_process_bytes
    yield Figure(name, 1 / large.per_count(small), "events/s", reading, 2000 * speed, 2800 * speed, peak_bytes=peak)


def _scan(paths: list[Path]) -> Run:
    columns = ",".join(f"{name}.{leaf}" for name, leaves in schema.DELPHES_LEAVES.items() for leaf in leaves)
    with spark_session("bench") as spark, measured() as usage:
        register(spark)
        frame = spark.read.format("root").option("columns", columns).load([str(path) for path in paths])
        frame.write.format("noop").mode("overwrite").save()
    return Run(len(paths) * EVENTS_PER_FILE, usage)


def _reselection_rows(bench: Bench) -> Iterator[Figure]:
    base = bench.base / "stored"
    (small, _, large), raw = partitions(bench), f"--raw={bench.base / 'raw'}"
    runs = []
    for partition in (small, large):
        run_job("ingest", base, raw, "--partition", partition.name, *STORED)
        with measured() as usage:
            run_job("select_events", base, "--partition", partition.name, "--set=lepton_pt_min=24")
        runs.append(Run(partition.total, usage))
    shutil.rmtree(base)
    rate, loop, speed = 1 / runs[1].per_count(runs[0]), limits(bench.base).loop, limits(bench.base).speed
    name, peak = "re-selection with another cut, from stored events", runs[1].usage.peak_process_bytes
    yield Figure(name, rate, "events/s", loop, 5500 * speed, 6500 * speed, peak_bytes=peak)


def _pileup_rows(bench: Bench) -> Iterator[Figure]:
    observed = len(OBSERVATIONS)
    run = _select_and_remove(bench.base, PILEUP_200)
    del OBSERVATIONS[observed:]  # for plans, events are those with a pile-up of 20
    yield memory("ROOT → selected at pile-up 200, peak memory", run.usage.peak_process_bytes, 1200.0)


def _profile(bench: Bench, partition: Files) -> list[Figure]:
    with profiled("ROOT → selected, time in", partition.total) as figures:
        select(bench.base, partition)
    return figures
