import json
from pathlib import Path

import pytest

from support.ui_results import metrics, unit, write_act, write_manifest, write_report, write_version
from toposieve import copy_documents
from toposieve.io.store.file import FileStore

DAY = "selected/2026-01-01"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base with one of each kind, and with what is no document."""
    base = tmp_path / "base"
    write_report(base, metrics("r"))
    for folder in ("events/2026-01-01", DAY, "datasets/d", "models/hlf/0a1b"):
        write_manifest(base / folder, "some", [unit("qcd/1.root", {})], number=1)
        write_manifest(base / folder, "some", [], number=2)
    for number in (1, 2):
        write_version(base, number)
        write_act(base, number, number)
    (base / "registry" / "topology" / "files" / "0a1b").mkdir(parents=True)
    (base / "registry" / "topology" / "files" / "0a1b" / "000001.json").write_text("{}")
    (base / "models" / "hlf" / "0a1b" / "metrics.json").write_text("{}")
    (base / DAY / "part.parquet").write_text("data")
    (base / DAY / "deeper").mkdir()
    (base / DAY / "deeper" / "manifest-000009.json").write_text("{}")
    return base


def copy(base: Path) -> dict[str, str]:
    """Copy, and return what is in the copy."""
    folder = base.parent / "copy"
    assert copy_documents.main([str(base), str(folder)]) == 0
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*") if path.is_file()}


def test_metrics_newest_manifests_and_records_of_the_registry_are_copied(base: Path) -> None:
    names = [
        "datasets/d/manifest-000002.json",
        "events/2026-01-01/manifest-000002.json",
        "models/hlf/0a1b/manifest-000002.json",
        *(f"registry/topology/{kind}/{number:06d}.json" for kind in ("published", "versions") for number in (1, 2)),
        "reports/r/metrics.json",
        "selected/2026-01-01/manifest-000002.json",
    ]
    assert copy(base) == {name: (base / name).read_text() for name in names}
    for name in names:
        assert (base.parent / "copy" / name).stat().st_mtime == pytest.approx((base / name).stat().st_mtime, abs=1e-3)


@pytest.mark.parametrize("stub", ["", json.dumps({"swept": "2026-01-01", "was": "3 units"})])
def test_of_stubs_it_goes_back_to_what_was_before(base: Path, stub: str) -> None:
    (base / DAY / "manifest-000002.json").write_text(stub)
    assert [name for name in copy(base) if name.startswith(DAY)] == [f"{DAY}/manifest-000001.json"]


def test_what_is_gone_is_removed(base: Path) -> None:
    copy(base)
    (base / "reports" / "r" / "metrics.json").unlink()
    write_manifest(base / DAY, "some", [], number=3)
    again = copy(base)
    assert [name for name in again if name.startswith(("reports", DAY))] == [f"{DAY}/manifest-000003.json"]
    assert not (base.parent / "copy" / "reports" / "r").exists()


def test_only_what_has_changed_is_fetched_again(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(base)
    (base / "reports" / "r" / "metrics.json").write_text("changed")
    fetched, fetch = [], FileStore.fetch
    monkeypatch.setattr(FileStore, "fetch", lambda self, key: fetched.append(key) or fetch(self, key))
    assert copy(base)["reports/r/metrics.json"] == "changed"
    assert fetched == ["reports/r/metrics.json"]


def test_a_base_without_anything(tmp_path: Path) -> None:
    assert copy(tmp_path / "empty") == {}
    assert copy_documents.main(["ftp://host/x", str(tmp_path)]) == 2
