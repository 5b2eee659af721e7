"""What the plans count, where no Spark is needed to see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.delphes_files import write_events
from support.events import random_events
from toposieve import todo
from toposieve.config import DecisionConfig, IngestConfig, SelectionConfig
from toposieve.cost import Work
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import SourceFile
from toposieve.io.manifests import Manifest, OutputFile, Unit
from toposieve.io.publication import Publication
from toposieve.io.raw import FoundFile, Ingested
from toposieve.io.store import Key
from toposieve.spark.ingestion import UNIT_BYTES
from toposieve.todo import Works, branches, decide_raw_work, ingest_work, select_work

DAY = "2026-01-01"


@pytest.fixture
def base(tmp_path: Path) -> Key:
    return Key(str(tmp_path))


def _ingest(base: Key, files: list[FoundFile], publication: Publication) -> Works:
    return ingest_work(base / "raw", files, publication, IngestConfig(store_events=True), recompute=False)


def _decide(base: Key, files: list[FoundFile], publication: Publication) -> Works:
    return decide_raw_work(base / "raw", files, base / "events", publication, DecisionConfig(), recompute=False)


@pytest.mark.parametrize("plan", [_ingest, _decide])
def test_no_file_is_compared_with_every_other(
    base: Key, plan: Callable[[Key, list[FoundFile], Publication], Works], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise AssertionError("40,000 files would be compared 800 million times")

    files = [FoundFile(f"qcd/{DAY}/{number}.root", 17_000, "v1") for number in range(3)]
    monkeypatch.setattr(FoundFile, "__eq__", refuse)
    works = plan(base, files, Publication(base / "out").look())
    assert works["ingest"] == Work(3, 3, 0, 51_000)


# --- what selection reads --------------------------------------------------------------------------------------------

EVENTS, STORED_BYTES = random_events(seed=3, n=12, particles=10), 1_000


def _ingested(base: Key, *, stored: bool, units: int = 3, file: str = f"qcd/{DAY}/a.root") -> Ingested:
    """A file of twelve events in some units, whose events are stored or not."""
    outputs = (OutputFile(path="a.parquet", bytes=STORED_BYTES, checksum="00"),) if stored else ()
    kept = tuple(
        Unit(
            source=file,
            source_bytes=70_000,
            source_checksum="00",
            entry_start=start,
            entry_stop=start + 4,
            counts={"events": 4},
            outputs=outputs,
        )
        for start in range(0, 4 * units, 4)
    )
    manifest = Manifest(stage="ingest", config_hash="1f", config={}, code=1, units=kept, code_version="v1")
    return Ingested(base / "raw", base / "events", manifest)


def _select(base: Key, ingested: Ingested) -> Work:
    return select_work(ingested, Publication(base / "selected"), SelectionConfig(), recompute=False)["select"]


def test_every_unit_parses_its_file(base: Key, tmp_path: Path) -> None:
    write_events(tmp_path / "raw" / "qcd" / DAY / "a.root", EVENTS)
    one, three = (_select(base, _ingested(base, stored=False, units=units)) for units in (1, 3))
    assert (three.files, three.units, three.bytes, three.branches) == (1, 3, 70_000, 3 * one.branches)
    file = FoundFile(f"qcd/{DAY}/a.root", 3 * 17_000, "v1")
    config = IngestConfig(store_events=True, entries_per_unit=1)
    store = ingest_work(base / "raw", [file], Publication(base / "events"), config, recompute=False)["store events"]
    assert (store.units, store.branches) == (3, 3 * one.branches)
    assert one.branches > 0


def test_units_of_large_events_are_more_as_ingest_cuts_them(base: Key) -> None:
    known = SourceFile("qcd/a.root", base, 3 * UNIT_BYTES, "v1", "1a", 900, "Muon", ())
    large = FoundFile(known.id, known.bytes, "v1")
    assert todo._read_all(base, [large], {known.id: known}, IngestConfig()).units == 3


def test_units_of_few_events_share_a_task(base: Key) -> None:
    assert _select(base, _ingested(base, stored=True)).tasks == 1
    files = [FoundFile(f"qcd/{DAY}/{number}.root", 170_000, "v1") for number in range(100)]
    works = _decide(base, files, Publication(base / "out"))
    assert (works["select"].units, works["select"].tasks, works["decide"].tasks) == (100, 2, 2)


def test_where_events_are_stored_no_root_file_is_read(base: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("toposieve.todo.open_root")
    work = _select(base, _ingested(base, stored=True))
    assert (work.files, work.units, work.events, work.bytes, work.branches) == (1, 3, 12, 3 * STORED_BYTES, 0)


def test_files_that_are_gone_are_not_all_asked_for(base: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gone(key: Key) -> None:
        asked.append(key)
        raise InvalidInputError("gone")

    monkeypatch.setattr(todo, "open_root", gone)
    assert branches(base, [f"qcd/{DAY}/{number}.root" for number in range(100)]) == 0
    assert len(asked) == todo.FILES_TRIED
