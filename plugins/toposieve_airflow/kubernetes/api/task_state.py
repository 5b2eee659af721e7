"""Ask Airflow what has become of a task, from within the task's own process."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from airflow.sdk import TaskInstanceState

ANSWER_S = 2.0
"""Seconds in which Airflow has to answer: it kills a task's process five seconds after it has told it to end."""

_OVER = {
    TaskInstanceState.SUCCESS,
    TaskInstanceState.FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.REMOVED,
    TaskInstanceState.RESTARTING,
}
"""What somebody has marked or cleared. In any other state this try goes on, or the next one follows it."""


def is_over(ti: Any) -> bool:
    """Whether Airflow says that nobody wants the work of this try any more: clearly, and in time.

    Args:
        ti: The task instance, as its context holds it.
    """
    answers: list[bool] = []

    def ask() -> None:
        run, index = ti.run_id, -1 if ti.map_index is None else ti.map_index
        key = ti.task_id if index < 0 else f"{ti.task_id}_{index}"
        with suppress(Exception):  # whatever it is, it is no answer
            states = ti.get_task_states(ti.dag_id, map_index=index, task_ids=[ti.task_id], run_ids=[run])
            answers.append(states.get(run, {}).get(key, TaskInstanceState.REMOVED) in _OVER)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    return answers == [True]
