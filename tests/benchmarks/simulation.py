"""Simulation: selected events per CPU second and sample, generator start-up included."""

from __future__ import annotations

from benchmarks.bare_loop import limits
from benchmarks.inputs import PARTITION, PILEUP, SELECTED_EVENTS, Bench, simulate
from benchmarks.jobs import run_job
from benchmarks.measure import Usage, measured
from benchmarks.table import Figure
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

MUST = {"wjets": 43.0, "ttbar": 40.0, "qcd": 4.3}
STRETCH = {"wjets": 50.0, "ttbar": 50.0, "qcd": 5.0}


def rows(bench: Bench) -> list[Figure]:
    """One row per sample; the pile-up library is made beforehand."""
    run_job(
        "simulate", bench.base, "--partition", "warm-up", '--set=samples=["wjets"]', "--set=selected_events=1", PILEUP
    )
    # All before any figure: the speed that musts are scaled by is measured on one of the samples.
    usages = {sample: _simulate(bench, sample) for sample in SELECTED_EVENTS}
    return [_row(bench, sample, usage) for sample, usage in usages.items()]


def _simulate(bench: Bench, sample: str) -> Usage:
    with measured() as usage:
        simulate(bench.base, sample)
    return usage


def _row(bench: Bench, sample: str, usage: Usage) -> Figure:
    folder = root_key("--base", str(bench.base)) / "raw" / sample / PARTITION
    rate = read_manifest(folder).total("selected") / usage.cpu_seconds
    speed, name = limits(bench.base).speed, f"simulate {sample}, pile-up 20: selected events"
    goals = {"must": MUST[sample] * speed, "stretch": STRETCH[sample] * speed}
    return Figure(name, rate, "events/s", peak_bytes=usage.peak_process_bytes, **goals)
