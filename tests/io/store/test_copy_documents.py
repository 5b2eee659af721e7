"""The copy of what says what there is, made of every kind of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.ui_results import metrics, write_day, write_report
from toposieve import copy_documents
from toposieve.io.store import Key


def test_documents_are_copied_once(root: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, copy = tmp_path / "made", tmp_path / "copy"
    write_report(base, metrics("r"))
    write_day(base, "2026-01-01")
    documents = {str(path.relative_to(base)): path.read_bytes() for path in base.rglob("*.json")}
    for name, content in documents.items():
        (root / name).write_bytes(content)
    (root / "selected" / "2026-01-01" / "part.parquet").write_bytes(b"data")
    assert copy_documents.main([str(root), str(copy)]) == 0
    assert {str(path.relative_to(copy)): path.read_bytes() for path in copy.rglob("*.*")} == documents
    for name in documents:
        stat = (root / name).stat()
        assert stat is not None
        assert (copy / name).stat().st_mtime == pytest.approx(stat.modified, abs=1e-3)
    monkeypatch.setattr(copy_documents, "_write", None)
    assert copy_documents.main([str(root), str(copy)]) == 0
