"""The Spark stages, one after the other, on small files; and what they publish."""

from __future__ import annotations

from pathlib import Path

import ingest
import prepare_features
import select_events
from support.delphes_files import write_events
from support.events import random_events
from toposieve import schema
from toposieve.io.manifests import manifest_name, read_newest
from toposieve.io.store import Key

DAY = "2026-01-01"
DATASET = "small"
EVENTS = 60
INGEST = ("--partition", DAY, "--set", "entries_per_unit=15", "--set", "store_events=true")
SELECT = ("--partition", DAY)
PREPARE = ("--partitions", DAY, "--dataset", DATASET, "--set", "events_per_shard=8")
FOLDERS = {"ingest": f"events/{DAY}", "select": f"selected/{DAY}", "prepare": f"datasets/{DATASET}"}
UNITS = len(schema.SAMPLES) * EVENTS // 15


def write_raw(raw: Path) -> None:
    """Files of every sample."""
    for number, sample in enumerate(schema.SAMPLES):
        write_events(raw / sample / DAY / f"{sample}-0.root", random_events(seed=number, n=EVENTS, particles=10))


def run_ingest(base: str, raw: str) -> None:
    """In this process, on the session that is there."""
    ingest.main(ingest.arg_parser().parse_args(["--base", base, "--raw", raw, *INGEST]))


def run_select(base: str, raw: str) -> None:
    """In this process, on the session that is there."""
    select_events.main(select_events.arg_parser().parse_args(["--base", base, "--raw", raw, *SELECT]))


def run_prepare(base: str) -> None:
    """In this process, on the session that is there."""
    prepare_features.main(prepare_features.arg_parser().parse_args(["--base", base, *PREPARE]))


def published(folder: Key) -> dict[str, bytes]:
    """What a reader sees: the newest manifest, and all that it lists."""
    newest = read_newest(folder)
    assert newest is not None, f"{folder} has no manifest"
    found = {"manifest": (folder / manifest_name(newest.number)).read_bytes()}
    return found | {file.path: (folder / file.path).read_bytes() for file in newest.manifest.outputs()}
