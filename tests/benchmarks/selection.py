"""ROOT → selected features through Spark, against a per-event Python loop over the same arrays."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import uproot

from benchmarks.jobs import run_job
from benchmarks.measure import measured
from benchmarks.simulation import PARTITION, simulate
from benchmarks.table import Row
from support.reference import reference_select
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.io.manifests import read_manifest
from toposieve.io.names import SIMULATED
from toposieve.io.store import root_key

SAMPLE = "ttbar"
COPIES = 16
"""Each simulated file is read this often, under another name: enough events to measure, little to simulate."""
UUID_PLACE, UUID_BYTES = 47, 16
"""Where the header of a ROOT file has its identity: the same file under two names is no input."""
LOOP_FILES = 2
GOAL = 2000.0


def rows(base: Path) -> list[Row]:
    """The Spark jobs, warm, and the loop."""
    simulate(base, SAMPLE)
    loop = _loop_row(sorted(_simulated(base))[:LOOP_FILES])
    _copy_files(base, "warm-up", 1)
    _copy_files(base, "measured", COPIES)
    _ingest_and_select(base, "warm-up")
    with measured() as usage:
        _ingest_and_select(base, "measured")
    events = read_manifest(root_key("--base", str(base)) / "selected" / "measured").total("events")
    return [loop, Row("ROOT → selected, ingest + select on Spark", events, usage, loop.rate, GOAL)]


def _simulated(base: Path) -> Iterable[Path]:
    return (base / "raw" / SAMPLE / PARTITION / SIMULATED).glob("*.root")


def _copy_files(base: Path, partition: str, copies: int) -> None:
    target = base / "raw" / SAMPLE / partition
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(_simulated(base)):
        for copy in range(copies):
            with shutil.copy(path, target / f"{path.stem}-{copy}.root").open("r+b") as stream:
                stream.seek(UUID_PLACE)
                stream.write(copy.to_bytes(UUID_BYTES, "big"))


def _ingest_and_select(base: Path, partition: str) -> None:
    run_job("ingest", base, "--partition", partition, "--samples", SAMPLE)
    run_job("select_events", base, "--partition", partition)


def _loop_row(paths: Sequence[Path]) -> Row:
    config, events = SelectionConfig(), 0
    with measured() as usage:
        for path in paths:
            tree = uproot.open(path)[schema.TREE_NAME]
            leaves = {
                collection: {leaf: tree[f"{collection}.{leaf}"].array().to_list() for leaf in names}
                for collection, names in schema.DELPHES_LEAVES.items()
            }
            for entry in range(tree.num_entries):
                event = {name: {leaf: values[entry] for leaf, values in of.items()} for name, of in leaves.items()}
                reference_select(event, config, 1)
            events += tree.num_entries
    return Row("ROOT → selected, per-event Python loop", events, usage)
