"""What the plans count, where no Spark is needed to see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toposieve.config import DecisionConfig, IngestConfig
from toposieve.cost import Work
from toposieve.io.publication import Publication
from toposieve.io.raw import FoundFile
from toposieve.io.store import Key
from toposieve.todo import Works, decide_raw_work, ingest_work

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
