import shutil
from pathlib import Path

import pytest

from support.ui_results import CLASSES, metrics, write_day, write_manifest, write_report
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.ui.catalogue import Catalogue
from toposieve_airflow.ui.deployment import Deployment
from toposieve_airflow.ui.records import Records, Run
from toposieve_airflow.ui.results import Results

CHAIN, DAY = Run("topology_classifier", "manual__1"), Run("build_dataset", "scheduled__1")
COUNTS = {"events": 28, "lepton_pt": 20, "isolated_lepton": 17}


@pytest.fixture
def catalogue(base: Path, results: Results, session):
    """Makes a catalogue of what there is now."""
    site = Deployment(str(base), results, CLASSES, {"prepare": 3, "train": 1}, JobsEnvironment(""), {})
    return lambda: Catalogue(site, Records(session, {"topology_classifier", "build_dataset"}))


def test_reports_link_to_the_runs_that_made_them(rows, base: Path, catalogue) -> None:
    write_report(base, metrics("r"))
    rows.event("toposieve_report", CHAIN, {"report": "r"})
    assert [(each.report.report, each.runs) for each in catalogue().reports()] == [("r", [CHAIN])]
    assert catalogue().report("r").runs == [CHAIN]
    assert catalogue().report("gone") is None


def test_datasets_and_models_with_what_made_them(rows, base: Path, catalogue) -> None:
    write_manifest(base / "datasets" / "x", "prepare", [], inputs={"selected/2026-01-01": ""})
    write_manifest(base / "models" / "hlf" / "0a1b", "training", [], inputs={"datasets/x": ""}, code=0)
    (base / "models" / "hlf" / "unfinished").mkdir()
    rows.event("toposieve_dataset", CHAIN, {"dataset": "x"})
    rows.event("toposieve_model", CHAIN, {"model": "hlf", "run": "0a1b"})
    rows.event("toposieve_model", CHAIN)  # of a version that did not say which
    (dataset,), (model,) = catalogue().datasets(), catalogue().models()
    assert (dataset.name, dataset.made_from, dataset.other_code, dataset.runs) == ("x", ["2026-01-01"], "", [CHAIN])
    assert (model.name, model.made_from, model.other_code) == ("hlf/0a1b", ["x"], "train 0, now 1")


def test_a_day_of_which_there_is_nothing_is_none(base: Path, catalogue) -> None:
    write_day(base, "2026-01-01")
    assert catalogue().day("2026-01-01").events() == 30
    assert catalogue().day("2026-01-02") is None


def test_without_the_data_what_was_announced_is_shown(rows, base: Path, catalogue) -> None:
    shutil.rmtree(base)
    rows.event("toposieve_report", CHAIN, metrics("r", auc=0.7))
    rows.event("toposieve_report", CHAIN, metrics("r", auc=0.8))
    rows.event("toposieve_report", CHAIN, {"by": "hand"})
    rows.event("toposieve_dataset", CHAIN, {"dataset": "x"})
    rows.event("toposieve_model", CHAIN, {"model": "hlf", "run": "0a1b"})
    for counts in ({"events": 1}, COUNTS):
        for day in ("2026-01-01", "2026-01-02"):
            rows.event("toposieve_selected", DAY, {"cutflow": {"qcd": counts}}, key=day)
    found = catalogue()
    assert [(each.report.best_auc("qcd"), each.runs) for each in found.reports()] == [(0.8, [CHAIN])]
    assert found.report("r").report.best_auc("qcd") == 0.8
    assert [day.name for day in found.days()] == ["2026-01-02", "2026-01-01"]
    assert found.day("2026-01-01").selected_events("qcd") == 17
    assert found.day("2026-01-03") is None
    assert [(each.name, each.output, each.runs) for each in found.datasets()] == [("x", None, [CHAIN])]
    assert [(each.name, each.output, each.runs) for each in found.models()] == [("hlf/0a1b", None, [CHAIN])]
