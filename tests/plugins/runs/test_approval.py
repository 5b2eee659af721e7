from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowSkipException

from toposieve_airflow.runs.approval import ApproveOperator, describe

COMPARISON = {
    "name": "topology",
    "version": 2,
    "label": "hlf",
    "published_version": 1,
    "after": 4,
    "newest": 3,
    "changes": [
        {"what": "AUC qcd", "candidate": 0.97, "published": None, "difference": None, "error": None},
        {"what": "AUC wjets", "candidate": 0.97, "published": 0.95, "difference": 0.02, "error": 0.0123},
    ],
    "worse_slices": ["ttbar: qcd where nJets is 0, 0.050 to 0.080"],
    "rules": [{"rule": "AUC qcd at least 0.9", "met": True, "found": "0.97"}],
}
STEP = {"arguments": ["--base", "b", "publish"]}


@pytest.fixture
def context() -> dict[str, Any]:
    xcoms: dict[str, Any] = {}
    instance = SimpleNamespace(xcoms=xcoms, xcom_push=lambda key, value: xcoms.__setitem__(key, value))
    return {"ti": instance, "task_instance": instance}


def approve(comparison: Any, *, by_rules: bool = False) -> ApproveOperator:
    return ApproveOperator(
        task_id="approve",
        comparison=comparison,
        step=STEP,
        by_rules=by_rules,
        params={"why": ""},
        response_timeout=timedelta(hours=1),
    )


def answer(option: str, why: str) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"why": why},
        "responded_at": datetime(2026, 1, 1, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }


def options(arguments: list[str]) -> list[str]:
    return arguments[len(STEP["arguments"]) :]


def test_an_approval_publishes_for_who_gave_it(context: dict[str, Any]) -> None:
    approve(COMPARISON).execute_complete(context, answer("Approve", "fewer QCD events"))
    chosen = ["--version", "2", "--after", "4", "--newest", "3", "--who", "ada", "--why", "fewer QCD events"]
    assert options(context["ti"].xcoms["publish"]["arguments"]) == chosen


def test_a_rejection_publishes_nothing(context: dict[str, Any]) -> None:
    approve(COMPARISON).execute_complete(context, answer("Reject", ""))
    assert context["ti"].xcoms == {}


def test_no_answer_in_time_is_a_rejection() -> None:
    assert approve(COMPARISON).defaults == ["Reject"]


def test_rules_publish_without_asking(context: dict[str, Any]) -> None:
    approve(COMPARISON, by_rules=True).execute(context)
    assert "rules" in options(context["ti"].xcoms["publish"]["arguments"])


@pytest.mark.parametrize(
    ("comparison", "reason"),
    [
        (None, "nothing to publish"),
        ({**COMPARISON, "published_version": 2}, "nothing to publish"),
        ({**COMPARISON, "rules": [{"rule": "AUC", "met": False, "found": "0.5"}]}, r"stays: not met are AUC \(0.5\)"),
    ],
)
def test_without_a_candidate_or_against_the_rules_the_rest_is_skipped(
    comparison: Any, reason: str, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowSkipException, match=reason):
        approve(comparison, by_rules=True).execute(context)
    assert context["ti"].xcoms == {}


def test_who_is_asked_sees_what_would_change(monkeypatch: pytest.MonkeyPatch, context: dict[str, Any]) -> None:
    monkeypatch.setattr(ApprovalOperator, "execute", lambda self, context: None)
    task = approve(COMPARISON)
    task.execute(context)
    assert task.subject == "Publish version 2 (hlf) of topology?"
    assert task.body == "\n".join(describe(COMPARISON))
    assert "| AUC qcd | 0.97 | n/a | n/a |\n| AUC wjets | 0.97 | 0.95 | 0.02 ± 0.012 |" in task.body
    assert "- worse: ttbar: qcd where nJets is 0, 0.050 to 0.080" in task.body
    assert context["ti"].xcoms == {}
