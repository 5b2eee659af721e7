from types import SimpleNamespace
from typing import Any

import pytest

from support.ui_results import metrics
from toposieve_airflow.runs.assets import MODEL, REPORT

# Airflow itself uses a deprecated name of pathspec.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

CHAIN = ("topology_classifier", "manual__2026-01-01T00:00:00+00:00")
ADDRESS = "/dags/topology_classifier/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00/plugin/toposieve-report"
NOTE = f"[Report]({ADDRESS}): AUC qcd / ttbar / wjets: hlf 0.875 / 0.875 / 0.875, inclusive 0.875 / 0.875 / 0.875"


def emit(extra: dict[str, Any], asset: Any = REPORT, run: tuple[str | None, str | None] = CHAIN) -> None:
    """Tell Airflow's listeners of an event, as its API server does once a task has succeeded."""
    from airflow.listeners.listener import get_listener_manager
    from airflow.listeners.types import AssetEvent

    source = {"source_dag_id": run[0], "source_run_id": run[1], "source_task_id": "evaluate", "source_map_index": -1}
    event = AssetEvent(SimpleNamespace(name=asset.name), extra, **source, source_aliases=[], partition_key=None)
    get_listener_manager().hook.on_asset_event_emitted(asset_event=event)


def extra(auc: float) -> dict[str, Any]:
    return metrics("r", auc=auc, models=["hlf", "inclusive"])


def test_a_report_leaves_a_line_which_the_next_one_replaces(rows) -> None:
    rows.run(CHAIN)
    emit(extra(0.5))
    emit(extra(0.875))
    assert rows.note(CHAIN) == NOTE


@pytest.mark.parametrize("user", ["admin", None])  # without a user: with the run's trigger
def test_what_a_person_has_written_stays(rows, user: str | None) -> None:
    rows.run(CHAIN, note="do not delete", user=user)
    emit(extra(0.875))
    assert rows.note(CHAIN) == "do not delete"


@pytest.mark.parametrize("other", [{"asset": MODEL}, {"run": (None, None)}])
def test_nothing_else_writes_a_note(rows, other: dict[str, Any]) -> None:
    rows.run(CHAIN)
    emit(extra(0.875), **other)
    assert rows.note(CHAIN) is None


def test_a_model_without_an_auc_of_a_class(rows) -> None:
    rows.run(CHAIN)
    emit(metrics("r", classes=["qcd", "other"], auc=0.97634))
    assert rows.note(CHAIN) == f"[Report]({ADDRESS}): AUC qcd / other: hlf 0.976 / –"


def test_the_link_begins_where_airflow_does(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://host/below/here/")
    rows.run(CHAIN)
    emit(extra(0.875))
    assert f"[Report](/below/here{ADDRESS})" in rows.note(CHAIN)
