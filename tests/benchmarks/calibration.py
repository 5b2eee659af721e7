"""The cost model of ``--plan``, fitted to what the jobs of this run took."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.optimize import nnls

from benchmarks.inputs import Bench
from benchmarks.jobs import OBSERVATIONS, Observation, run_job
from benchmarks.measure import measured
from benchmarks.selection import partitions, select
from benchmarks.table import Figure
from toposieve import schema
from toposieve.cost import SHIPPED, Costs, Work, calibration_path, save_costs
from toposieve.environment import JOBS_FOLDER

TERMS = {
    "ingest": ("file", "branch", "byte"),
    "store events": ("unit", "event"),
    "select": ("file", "branch", "unit", "event"),
    "prepare": ("unit", "byte", "event"),
    **{name: ("event",) for name in SHIPPED if name.startswith(("simulate", "pile-up"))},
}
"""Stage → what its cost depends on, besides the fixed part. All else is left at nothing."""

COUNTS = {"file": "files", "branch": "branches", "unit": "units", "event": "events", "byte": "bytes"}
STARTING = ("ingest", "select", "prepare", *(f"simulate {sample}" for sample in schema.SAMPLES))
"""Stages whose jobs start Spark."""


def rows(bench: Bench) -> list[Figure]:
    """Fit, keep for later plans, and say what the plan would have said of the largest run of each stage."""
    warm = [each for each in OBSERVATIONS if any(work.units for work in each.works.values())]
    costs = fit(warm)
    known = [each for each in warm if costs.keys() >= each.works.keys()]
    largest = {name: each for each in sorted(known, key=_seconds) for name in each.works if name in costs}
    figures = [_row(name, each, costs) for name, each in largest.items()]
    for name in set(costs) & {*STARTING}:
        costs[name] = replace(costs[name], fixed=costs[name].fixed + start_seconds(bench))
    if costs:
        save_costs(costs)
    print(f"calibrated {', '.join(costs) or 'nothing'}: {calibration_path()}")
    return figures


def fit(observed: Sequence[Observation]) -> dict[str, Costs]:
    """Non-negative least squares of relative differences, all stages at once, for a job may do several.

    >>> work = [Work(files=1, units=1, events=events) for events in (1000, 2000, 4000)]
    >>> costs = fit([Observation({"simulate qcd": each}, 1 + each.events / 1000) for each in work])["simulate qcd"]
    >>> round(costs.fixed, 6), round(costs.event, 6)
    (1.0, 0.001)
    >>> fit([])
    {}
    """
    seen = Counter(name for each in observed for name, work in each.works.items() if work.units)
    names = [name for name in TERMS if seen[name] > len(TERMS[name])]
    if not names:  # scipy's nnls writes past its arrays where a matrix is empty
        return {}
    columns = [(name, term) for name in names for term in ("fixed", *TERMS[name])]
    counts = np.array([[_count(each.works.get(name, Work()), term) for name, term in columns] for each in observed])
    scale = np.maximum(counts.max(axis=0), 1)
    seconds = np.array([[each.cpu_seconds] for each in observed])
    found, _ = nnls(counts / scale / seconds, np.ones(len(observed)))
    values = dict(zip(columns, (found / scale).tolist(), strict=True))
    return {
        name: replace(Costs(written=SHIPPED[name].written), **{t: values[name, t] for t in ("fixed", *TERMS[name])})
        for name in names
    }


def _count(work: Work, term: str) -> float:
    return float(bool(work.units) if term == "fixed" else getattr(work, COUNTS[term]))


@cache
def start_seconds(bench: Bench) -> float:
    """What a job takes more where it has to start Spark: by a job of its own, against the same one here."""
    small, *_ = partitions(bench)
    select(bench.base, small)
    arguments = ["--partition", small.name, "--recompute"]
    with measured() as cold:
        job = [sys.executable, JOBS_FOLDER / "select_events.py", "--base", bench.base, *arguments]
        subprocess.run(job, check=True, stdout=subprocess.DEVNULL)
    with measured() as warm:
        run_job("select_events", bench.base, *arguments)
    return max(0.0, cold.cpu_seconds - warm.cpu_seconds)


def _seconds(observation: Observation) -> float:
    return observation.cpu_seconds


def _row(name: str, largest: Observation, costs: Mapping[str, Costs]) -> Figure:
    planned = sum(work.cpu_seconds(costs[each]) for each, work in largest.works.items())
    return Figure(f"plan against largest run: {name}", planned / largest.cpu_seconds, "×")
