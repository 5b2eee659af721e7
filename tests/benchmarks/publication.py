"""Publication of a folder as large as the full sample's: 40,000 units, each with a file and a record."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.inputs import Bench
from benchmarks.table import Figure
from toposieve.io.manifests import Manifest, OutputFile, Unit, in_order
from toposieve.io.names import RECORDS, unit_name
from toposieve.io.publication import Publication
from toposieve.io.store import root_key

UNITS = 40_000
EVENTS = 250
BYTES = b"x" * 100
PUBLISHING_GOAL, NOTHING_GOAL = 10.0, 20.0


def durations(bench: Bench) -> list[Figure]:
    """Publishing all units, and a run with nothing to do after it."""
    folder = bench.base / "events" / "many"
    manifest = _manifest([_make_unit(folder, number) for number in range(UNITS)])
    key, start = root_key("--base", str(folder)), time.monotonic()
    with Publication(key) as publication:
        publication.publish(manifest)
    published = time.monotonic()
    with Publication(key) as publication:
        assert len(publication.reusable(manifest.config_hash, manifest.code)) == UNITS
    return [
        Figure(f"publish {UNITS:,} units", published - start, "s", must=PUBLISHING_GOAL, at_most=True),
        Figure(f"find {UNITS:,} units done", time.monotonic() - published, "s", must=NOTHING_GOAL, at_most=True),
    ]


def _make_unit(folder: Path, number: int) -> Unit:
    source = f"qcd/many/qcd-{number:06d}.root"
    file = OutputFile(path=unit_name(source, "bench"), bytes=len(BYTES), checksum="01234567")
    unit = Unit(
        source=source,
        source_bytes=1,
        source_checksum="01234567",
        entry_start=0,
        entry_stop=EVENTS,
        counts={"events": EVENTS},
        outputs=(file,),
    )
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    (folder / file.path).write_bytes(BYTES)
    (folder / RECORDS / f"{file.path}.json").write_text(unit.model_dump_json(), encoding="utf-8")
    return unit


def _manifest(units: list[Unit]) -> Manifest:
    return Manifest(stage="ingest", config_hash="bench", config={}, code=1, units=in_order(units), code_version="bench")
