"""The limit: ROOT files read by uproot and selected by our kernels in one process, without Spark, writing nothing.

Runs in a process of its own, which this file is, with uproot as it comes: whatever the jobs do to it is theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import uproot

from benchmarks.inputs import Events, Files, to_events, write_files
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.selection import select_events

FILES = Files("loop", files=8)
TURNS = 3
BATCH_EVENTS = 1000
REFERENCE_READING = 9_800.0
"""Events per CPU second that the machine read on which absolute musts were set."""


class Limits(NamedTuple):
    """Events per CPU second."""

    reading: float
    loop: float

    @property
    def speed(self) -> float:
        """Of this machine, in units of the one on which absolute musts were set."""
        return self.reading / REFERENCE_READING


@cache
def limits(base: Path) -> Limits:
    """Measure them once; the best of a few turns, after one to warm up."""
    paths = write_files(base, FILES)
    command = [sys.executable, "-m", "benchmarks.bare_loop", *map(str, paths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return Limits(**json.loads(done.stdout.splitlines()[-1]))


def main(paths: Sequence[str]) -> None:
    """Print events per CPU second of both."""
    _read(paths[:1]), _select(paths[:1])
    rates = {"reading": [_read(paths) for _ in range(TURNS)], "loop": [_select(paths) for _ in range(TURNS)]}
    print(json.dumps({name: max(each) for name, each in rates.items()}))


def _read(paths: Sequence[str]) -> float:
    start = time.process_time()
    return sum(len(arrays) for arrays in _arrays(paths)) / (time.process_time() - start)


def _select(paths: Sequence[str]) -> float:
    start, events, config = time.process_time(), 0, SelectionConfig()
    for arrays in _arrays(paths):
        batch: Events = to_events(arrays)
        select_events(batch, config, btag_mask=1)
        events += len(arrays)
    return events / (time.process_time() - start)


def _arrays(paths: Sequence[str]) -> Iterator[uproot.behaviors.TBranch.HasBranches]:
    names = [f"{name}.{leaf}" for name, leaves in schema.DELPHES_LEAVES.items() for leaf in leaves]
    for path in paths:
        with uproot.open(path) as file:
            yield from file[schema.TREE_NAME].iterate(names, step_size=BATCH_EVENTS, library="ak")


if __name__ == "__main__":
    main(sys.argv[1:])
