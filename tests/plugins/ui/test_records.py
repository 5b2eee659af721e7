import json

import pytest

from toposieve_airflow.ui.records import RUNS_SHOWN, Records, Run, newest_runs

CHAIN, DAY = Run("topology_classifier", "manual__1"), Run("build_dataset", "scheduled__1")


@pytest.fixture
def records(session) -> Records:
    return Records(session, {"topology_classifier", "build_dataset"})


def test_events_of_an_asset_the_newest_first(rows, records: Records) -> None:
    rows.event("toposieve_report", CHAIN, {"report": "a"})
    rows.event("toposieve_model", CHAIN)
    rows.event("toposieve_report", CHAIN, {"report": "b"}, key="2026-01-01")
    events = records.events("toposieve_report")
    assert [(event.run, event.extra, event.partition) for event in events] == [
        (CHAIN, {"report": "b"}, "2026-01-01"),
        (CHAIN, {"report": "a"}, None),
    ]


def test_runs_of_days_by_their_plans(rows, records: Records) -> None:
    rows.planned(DAY, "return_value", ["2026-01-02"])
    rows.planned(CHAIN, "return_value", json.dumps(["2026-01-01", "2026-01-02"]))  # as some versions keep it
    rows.planned(Run("build_dataset", "skipped"), "return_value", None)
    assert records.runs_of_days() == {"2026-01-01": [CHAIN], "2026-01-02": [CHAIN, DAY]}


def test_runs_that_publish_are_known_by_their_names(rows, session) -> None:
    rows.run(Run("publish_model", "first"))
    assert Records(session, {"publish_model"}).runs_of_orders(["first", "gone"]) == {
        "first": [Run("publish_model", "first")]
    }
    assert Records(session, {"topology_classifier"}).runs_of_orders(["first"]) == {}


def test_the_report_that_a_run_plans(rows, records: Records) -> None:
    rows.planned(CHAIN, "evaluate", {"label": "r", "outputs": ["/data/reports/r"]})
    assert records.report_of(CHAIN) == "r"
    assert records.report_of(DAY) is None


@pytest.mark.parametrize(("state", "said"), [("running", "running"), (None, "waiting")])
def test_state_of_the_evaluation(state: str | None, said: str, rows, records: Records) -> None:
    rows.task(CHAIN, "evaluate", state)
    rows.task(DAY, "select", "success")
    assert records.state_of_evaluation(CHAIN) == said
    assert records.state_of_evaluation(DAY) is None


def test_a_dag_that_a_user_may_not_read_leaves_no_trace(rows, session) -> None:
    rows.event("toposieve_selected", DAY, key="2026-01-01")
    rows.planned(DAY, "return_value", ["2026-01-01"])
    records = Records(session, {"topology_classifier"})
    assert (records.events("toposieve_selected"), records.runs_of_days()) == ([], {})


def test_the_newest_runs_each_once() -> None:
    pairs = [("r", Run("d", str(number // 2))) for number in range(20)]
    assert newest_runs(pairs) == {"r": [Run("d", str(number)) for number in range(RUNS_SHOWN)]}
