import threading
from typing import Any

import pytest

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.api import task_state
from toposieve_airflow.kubernetes.api.task_state import is_over


@pytest.mark.parametrize("map_index", [-1, 3])
def test_what_was_marked_is_over(map_index: int) -> None:
    assert is_over(TaskInstance(map_index=map_index, state="failed"))
    assert not is_over(TaskInstance(map_index=map_index, state="running"))


def test_what_was_deleted_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskInstance, "get_task_states", lambda *_, **__: {})
    assert is_over(TaskInstance())


def test_an_airflow_that_refuses_has_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("API server error")

    monkeypatch.setattr(TaskInstance, "get_task_states", fail)
    assert not is_over(TaskInstance())


def test_an_airflow_that_does_not_answer_in_time_has_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def answer(*_: Any, **__: Any) -> dict[str, Any]:
        asked.wait(1)
        return {}

    monkeypatch.setattr(task_state, "ANSWER_S", 0.05)
    monkeypatch.setattr(TaskInstance, "get_task_states", answer)
    assert not is_over(TaskInstance())
    asked.set()
