import os
from pathlib import Path

import pytest

from support.ui_results import metrics, unit, write_act, write_manifest, write_report, write_version
from toposieve_airflow.ui.results import Results

HOSTILE = ["..", ".", "", "r/..", "r\0", "a b", ".hidden", "x" * 300, "..%2fr"]


def test_reports_and_when_they_were_written(base: Path, results: Results) -> None:
    folder = write_report(base, metrics("r", auc=0.75))
    os.utime(folder / "metrics.json", (0, 86400))
    (written,) = results.reports()
    assert written.report.models["hlf"].auc["qcd"].value == 0.75
    assert written.time.isoformat() == "1970-01-02T00:00:00+00:00"


def test_a_report_that_is_written_again_is_read_again(base: Path, results: Results) -> None:
    folder = write_report(base, metrics("r", auc=0.75))
    results.reports()
    (folder / "metrics.json").write_text((folder / "metrics.json").read_text().replace("0.75", "0.875"))
    assert results.report("r").report.best_auc("qcd") == 0.875


@pytest.mark.parametrize("text", ["", "{", "[]", '{"report": 1}', "\xff"])
def test_what_is_no_report_is_left_out(text: str, base: Path, results: Results) -> None:
    write_report(base, metrics("good"))
    (write_report(base, metrics("bad")) / "metrics.json").write_bytes(text.encode("latin-1"))
    assert [written.report.report for written in results.reports()] == ["good"]


def test_without_a_base_there_is_nothing(tmp_path: Path) -> None:
    results = Results(tmp_path / "none")
    assert not results.are_here()
    assert (results.reports(), results.names("events"), results.output("events", "d")) == ([], [], None)


def test_a_file_of_a_report(base: Path, results: Results) -> None:
    folder = write_report(base, metrics("r"))
    (folder / "0a1b").mkdir()
    (folder / "0a1b" / "auc.png").write_bytes(b"png")
    assert results.report_file("r", "report.html") == folder / "report.html"
    assert results.report_file("r", "0a1b/auc.png") == folder / "0a1b" / "auc.png"
    assert results.report_file("r", "0a1b") is None


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_leads_elsewhere(name: str, base: Path, results: Results) -> None:
    write_report(base, metrics("r"))
    (base / "report.html").write_text("secret")
    assert results.report_file(name, "report.html") is None
    assert results.report_file("r", name) is None
    assert results.report_file("r", f"{name}/report.html") is None
    assert results.report(name) is None
    assert results.output("events", name) is None


def test_no_link_is_followed_below_the_reports(base: Path, results: Results) -> None:
    folder = write_report(base, metrics("r"))
    (base / "secret.html").write_text("secret")
    (folder / "link.html").symlink_to(base / "secret.html")
    (folder / "beside.html").symlink_to(folder / "report.html")
    (base / "reports" / "folder").symlink_to(base)
    for name, file in (("r", "link.html"), ("r", "beside.html"), ("folder", "secret.html")):
        assert results.report_file(name, file) is None


def test_a_base_behind_a_link_is_the_deployments_own_choice(base: Path, tmp_path: Path) -> None:
    write_report(base, metrics("r"))
    (tmp_path / "link").symlink_to(base)
    assert Results(tmp_path / "link").report_file("r", "report.html") == base / "reports" / "r" / "report.html"


def test_the_newest_manifest_counts(base: Path, results: Results) -> None:
    folder = base / "events" / "d"
    for number, events in ((1, 10), (2, 20), (1_000_000, 30)):
        write_manifest(folder, "ingest", [unit("qcd/d/a.root", {"events": events})], number)
    assert results.output("events", "d").events("events") == 30


@pytest.mark.parametrize("newest", ["", "{", '{"swept": "2026-01-01", "was": "ingest"}'])
def test_a_stub_or_what_is_left_half_written_does_not_count(newest: str, base: Path, results: Results) -> None:
    folder = base / "events" / "d"
    write_manifest(folder, "ingest", [unit("qcd/d/a.root", {"events": 10})])
    (folder / "manifest-000002.json").write_text(newest)
    assert results.output("events", "d").events("events") == 10


def test_a_manifest_of_before_numbers_is_the_oldest(base: Path, results: Results) -> None:
    folder = base / "events" / "d"
    write_manifest(folder, "ingest", [unit("qcd/d/a.root", {"events": 10})])
    (folder / "manifest-000001.json").rename(folder / "manifest.json")
    assert results.output("events", "d").events("events") == 10
    write_manifest(folder, "ingest", [unit("qcd/d/a.root", {"events": 20})])
    assert results.output("events", "d").events("events") == 20


def test_the_last_act_says_what_is_published(base: Path, results: Results) -> None:
    for number in (1, 2, 1_000_000):
        write_version(base, number)
    assert results.registered()[0].published is None
    for number, version in ((1, 1), (2, 2), (1_000_000, 1)):
        write_act(base, number, version)
    (registered,) = results.registered()
    assert (registered.name, registered.published, registered.classes) == ("topology", 1, ["qcd", "ttbar", "wjets"])
    assert (list(registered.versions), list(registered.acts)) == ([1, 2, 1_000_000], [1, 2, 1_000_000])
    assert registered.versions[1].made_of("reports") == ["r"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1"}'])
def test_what_is_no_record_of_the_registry_is_left_out(text: str, base: Path, results: Results) -> None:
    write_version(base, 1)
    write_act(base, 1, 1)
    for kind in ("versions", "published"):
        for name in ("000002.json", "3.json", "000003.json.part"):
            (base / "registry" / "topology" / kind / name).write_text(text)
    (base / "registry" / ".hidden").mkdir()
    (registered,) = results.registered()
    assert (list(registered.versions), list(registered.acts)) == ([1], [1])


def test_names_are_folders(base: Path, results: Results) -> None:
    for name in ("b", "a", "_records", ".hidden"):
        (base / "models" / name).mkdir(parents=True)
    (base / "models" / "file").touch()
    assert results.names("models") == ["a", "b"]
