"""The scorer: decisions about selected events on one core, and the time that one event takes; and the stream.

Each model runs in a process of its own, which this file is, on events of the simulation, with random weights.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import streams
from benchmarks.bare_loop import limits
from benchmarks.inputs import Bench
from benchmarks.preparation import select_once
from benchmarks.selection import partitions
from benchmarks.table import Figure
from toposieve import schema
from toposieve.io.manifests import read_manifest
from toposieve.io.selected import SelectedBatch, open_selected
from toposieve.io.store import root_key
from toposieve.serving.events import Event

RATES = {"hlf": (3e6, 7e6), "inclusive": (2200.0, 3000.0)}
"""Model → events per second that must and should be."""
LATENCIES = {"hlf": (50e-6, 10e-6), "inclusive": (1.5e-3, 1e-3)}
"""Model → seconds within which 99 of 100 events must and should be decided, each by itself."""
STREAM_BATCH = 256
"""Events that ``serve.py`` decides together, at most."""
ROUND_SECONDS, ROUNDS = 2.0, 3
LEAST_CALLS = 2000


def rows(bench: Bench) -> Iterator[Figure]:
    """Small model first."""
    small, *_ = partitions(bench)
    select_once(bench.base, small)
    speed = limits(bench.base).speed
    yield from streams.rows(_events(_read(bench.base, small.name)), speed)
    for model, (must, stretch) in RATES.items():
        found = _run(model, bench.base, small.name)
        given = "rows of a table" if model == "hlf" else "events, validated,"
        name = f"scorer, {model}: {given} to decisions"
        yield Figure(name, found["rate"], "events/s", must=must * speed, stretch=stretch * speed)
        yield Figure("  the same, one event alone, median", 1e6 * found["p50"], "µs")
        must, stretch = (1e6 * goal / speed for goal in LATENCIES[model])
        name = "  the same, 99 of 100 within"
        yield Figure(name, 1e6 * found["p99"], "µs", must=must, stretch=stretch, at_most=True)


def _run(model: str, base: Path, partition: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.serving", model, str(base), partition]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(model: str, base: str, partition: str) -> None:
    """Print, as JSON, events per CPU second, and median and 99 % quantile of the seconds of one event."""
    from support.serving_data import portable
    from toposieve.serving.scorer import Scorer

    scorer, batches = Scorer(portable(model), 1), _read(base, partition)
    events, table = _events(batches), np.concatenate([batch.high_level for batch in batches])
    nothing = np.empty((0, 0), np.float32), np.zeros(1, np.int64)
    parts = [events[start : start + STREAM_BATCH] for start in range(0, len(events), STREAM_BATCH)]

    def decide() -> int:
        if model == "hlf":
            return len(scorer.accepted(scorer.logits(table, *nothing)))
        return sum(len(scorer.score(part)) for part in parts)

    seconds = _latencies([lambda event=event: scorer.score([event]) for event in events])
    p50, p99 = np.quantile(seconds, [0.5, 0.99]).tolist()
    print(json.dumps({"rate": max(_rate(decide) for _ in range(ROUNDS)), "p50": p50, "p99": p99}))


def _events(batches: Sequence[SelectedBatch]) -> list[Event]:
    return [
        Event(f"{number}:{entry}", batch.high_level[i], records[batch.offsets[i] : batch.offsets[i + 1]])
        for number, batch in enumerate(batches)
        for records in [batch.particle_records()]
        for i, entry in enumerate(batch.entries.tolist())
    ]


def _read(base: str | Path, partition: str) -> list[SelectedBatch]:
    """All selected events of a partition."""
    folder = root_key("--base", str(base)) / "selected" / partition
    found = []
    for unit in read_manifest(folder).units:
        events = np.arange(unit.counts[schema.CUTFLOW[-1]])
        with open_selected(folder / unit.outputs[0].path, unit, whole=True) as file:
            found += list(file.batches(events))
    return found


def _rate(decide: Callable[[], int]) -> float:
    """Events per CPU second, of calls that decide about some each."""
    start, events = time.process_time(), 0
    while time.process_time() - start < ROUND_SECONDS:
        events += decide()
    return events / (time.process_time() - start)


def _latencies(calls: list[Callable[[], Any]]) -> list[float]:
    """Seconds of each call, after a round to warm up."""
    repeated = calls * -(-LEAST_CALLS // len(calls))
    for call in calls:
        call()
    times = [time.perf_counter()]
    for call in repeated:
        call()
        times.append(time.perf_counter())
    seconds: list[float] = np.diff(times).tolist()
    return seconds


if __name__ == "__main__":
    main(*sys.argv[1:])
