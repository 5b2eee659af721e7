"""ROOT files to measure with: a few simulated events, multiplied. Each copy is turned in φ, for copies are refused."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from benchmarks.jobs import run_job
from support.delphes_files import widened, write_collections
from toposieve import schema
from toposieve.io.names import SIMULATED
from toposieve.physics.events import Jagged
from toposieve.simulation.files import ROOT_EPOCH
from toposieve.simulation.writer import delphes_file, event_collection

PARTITION = "2026-01-01"
SELECTED_EVENTS = {"wjets": 1500, "ttbar": 1500, "qcd": 300}
SAMPLE = "ttbar"
PILEUP = "--set=pileup=20"
LARGE_FILES = "--set=events_per_file=1000"
"""As in production: with the few events of the demo's files each generator's start-up shows."""

EVENTS_PER_FILE = 1000
TURN = 2.399963
"""Golden angle, rad: no multiple of it comes near another one's."""
TOGETHER = 20
"""Simulated events with a pile-up of 20 that have together as many objects as one with 200 in Delphes: 11,000."""

Events = Mapping[str, Jagged]


@dataclass(frozen=True)
class Bench:
    """What to measure with.

    Attributes:
        base: Where the data are.
        events: Events of the largest run.
        units: Units of work of the run with most.
    """

    base: Path
    events: int
    units: int


@dataclass(frozen=True)
class Files:
    """A partition of ROOT files, which take turns in the samples.

    Attributes:
        name: Of the partition.
        files: How many.
        events: In each file.
        wide: With as many branches as a file of Delphes.
        together: Events of the simulation in one event.
    """

    name: str
    files: int
    events: int = EVENTS_PER_FILE
    wide: bool = False
    together: int = 1

    @property
    def total(self) -> int:
        """Events of all files."""
        return self.files * self.events


def simulate(base: Path, sample: str) -> None:
    """Simulate a sample's share of the benchmark events; what is there is kept."""
    selected = f"--set=selected_events={SELECTED_EVENTS[sample]}"
    run_job("simulate", base, "--partition", PARTITION, f'--set=samples=["{sample}"]', selected, PILEUP, LARGE_FILES)


def write_files(base: Path, partition: Files) -> list[Path]:
    """Write a partition under ``base``/raw, unless it is there."""
    paths = [
        base / "raw" / schema.SAMPLES[number % len(schema.SAMPLES)] / partition.name / f"{number:06d}.root"
        for number in range(partition.files)
    ]
    for number, path in enumerate(paths):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            turns = count(1 + number * partition.total)
            _write(path, (turn(simulated_events(base), TURN * each) for each in turns), partition)
    return paths


def _write(path: Path, turned: Iterator[Events], partition: Files) -> None:
    parts = _parts(turned, partition.events, partition.together)
    if partition.wide:
        whole = [*parts]
        content = {name: join([part[name] for part in whole]) for name in whole[0]}
        write_collections(path, widened(content))
        return
    with delphes_file(path, uuid.uuid5(uuid.NAMESPACE_OID, str(path)), ROOT_EPOCH) as writer:
        for part in parts:
            writer.add(part)


def _parts(turned: Iterator[Events], events: int, together: int) -> Iterator[Events]:
    """So many events, with the collection ``Event``."""
    written = 0
    while written < events:
        part = put_together(next(turned), together)
        part = cut(part, 0, min(len(part["MissingET"]), events - written))
        n = len(part["MissingET"])
        yield {"Event": event_collection(written, np.ones(n), np.zeros(n)), **part}
        written += n


@cache
def simulated_events(base: Path) -> Events:
    """Events of the simulation, simulated if they are not there."""
    simulate(base, SAMPLE)
    paths = sorted((base / "raw" / SAMPLE / PARTITION / SIMULATED).glob("*.root"))
    files = [read_file(path) for path in paths]
    return {name: join([events[name] for events in files]) for name in schema.DELPHES_LEAVES}


def read_file(path: Path) -> Events:
    """The needed leaves of a file, by uproot alone."""
    with uproot.open(path) as file:
        names = [f"{name}.{leaf}" for name, leaves in schema.DELPHES_LEAVES.items() for leaf in leaves]
        return to_events(file[schema.TREE_NAME].arrays(names, library="ak"))


def to_events(arrays: ak.Array) -> Events:
    """What uproot has read, as physics takes it."""
    events = {}
    for name, leaves in schema.DELPHES_LEAVES.items():
        layouts = {leaf: ak.to_packed(arrays[f"{name}.{leaf}"]).layout for leaf in leaves}
        offsets = np.asarray(next(iter(layouts.values())).offsets.data).astype(np.int64)
        events[name] = Jagged(offsets, {leaf: np.asarray(layout.content.data) for leaf, layout in layouts.items()})
    return events


def turn(events: Events, angle: float) -> Events:
    """The same events in coordinates turned by ``angle`` around the beam."""
    angle %= math.tau  # before it is added to float32 numbers, which would lose all below it
    return {name: Jagged(jagged.offsets, _turn_leaves(jagged.leaves, angle)) for name, jagged in events.items()}


def _turn_leaves(leaves: Mapping[str, np.ndarray], angle: float) -> dict[str, np.ndarray]:
    turned = dict(leaves)
    if "Phi" in leaves:
        turned["Phi"] = np.remainder(leaves["Phi"] + angle + np.pi, 2 * np.pi) - np.pi
    if "X" in leaves:
        turned["X"] = np.cos(angle) * leaves["X"] - np.sin(angle) * leaves["Y"]
        turned["Y"] = np.sin(angle) * leaves["X"] + np.cos(angle) * leaves["Y"]
    return {leaf: values.astype(leaves[leaf].dtype) for leaf, values in turned.items()}


def put_together(events: Events, together: int) -> Events:
    """Events of which each has the objects of several, but one ``MissingET``."""
    n = len(events["MissingET"]) // together
    ends = together * np.arange(n + 1)
    made = {name: Jagged(jagged.offsets[ends], jagged.leaves) for name, jagged in events.items()}
    missing = {leaf: values[ends[:-1]] for leaf, values in events["MissingET"].leaves.items()}
    return {**made, "MissingET": Jagged(np.arange(n + 1), missing)}


def cut(events: Events, start: int, stop: int) -> Events:
    """A range of events."""
    found = {}
    for name, jagged in events.items():
        offsets = jagged.offsets[start : stop + 1]
        leaves = {leaf: values[offsets[0] : offsets[-1]] for leaf, values in jagged.leaves.items()}
        found[name] = Jagged(offsets - offsets[0], leaves)
    return found


def join(parts: list[Jagged]) -> Jagged:
    """Objects of one collection of several files."""
    counts = np.concatenate([part.counts() for part in parts])
    leaves = {leaf: np.concatenate([part.leaves[leaf] for part in parts]) for leaf in parts[0].leaves}
    return Jagged(np.concatenate([[0], np.cumsum(counts)]), leaves)
