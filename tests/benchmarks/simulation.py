"""Simulation: selected events per CPU second and sample, generator start-up included."""

from __future__ import annotations

from pathlib import Path

from benchmarks.jobs import run_job
from benchmarks.measure import measured
from benchmarks.table import Row
from toposieve.io.manifests import read_manifest
from toposieve.io.store import root_key

PARTITION = "2026-01-01"
PILEUP = "--set=pileup=20"
LARGE_FILES = "--set=events_per_file=1000"
"""As in production: with the few events of the demo's files each generator's start-up shows."""
GOALS = {"wjets": 35.0, "ttbar": 35.0, "qcd": 2.5}
SELECTED_EVENTS = {"wjets": 1500, "ttbar": 1500, "qcd": 300}


def simulate(base: Path, sample: str) -> None:
    """Simulate a sample's share of the benchmark events; what is there is kept."""
    selected = f"--set=selected_events={SELECTED_EVENTS[sample]}"
    run_job("simulate", base, "--partition", PARTITION, f'--set=samples=["{sample}"]', selected, PILEUP, LARGE_FILES)


def rows(base: Path) -> list[Row]:
    """One row per sample; the pile-up library is made beforehand."""
    run_job("simulate", base, "--partition", "warm-up", '--set=samples=["wjets"]', "--set=selected_events=1", PILEUP)
    return [_row(base, sample) for sample in GOALS]


def _row(base: Path, sample: str) -> Row:
    with measured() as usage:
        simulate(base, sample)
    folder = root_key("--base", str(base)) / "raw" / sample / PARTITION
    selected = read_manifest(folder).total("selected")
    return Row(f"simulate {sample}, pile-up 20 (selected events)", selected, usage, goal=GOALS[sample])
