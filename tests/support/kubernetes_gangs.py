"""Objects as Kubernetes would send them, and the context of a task, for tests of gangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

GANG = "train-0a1b2c3d-1"
OWNER = "0199-train"
LABELS = {"dag_id": "topology_classifier", "task_id": "train", "run_id": "manual__1", "try_number": "1"}


def job(*conditions: dict[str, str], suspend: bool = False, **metadata: Any) -> dict[str, Any]:
    """A Job as the API server describes it."""
    return {
        "metadata": {"name": GANG, "labels": LABELS, "uid": "1234", **metadata},
        "spec": {"suspend": suspend},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, reason: str = "", message: str = "", status: str = "True") -> dict[str, str]:
    """A condition of a Job or a pod."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:10Z",
    }


def pod(
    index: int,
    state: dict[str, Any] | None = None,
    *conditions: dict[str, str],
    phase: str = "Running",
    init: dict[str, dict[str, Any]] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """A worker's pod; ``state`` is its container's, ``init`` those of its init containers, by name."""
    statuses = [{"name": "base", "state": state}] if state else []
    return {
        "metadata": {
            "name": f"{GANG}-{index}-abcde",
            "labels": {"batch.kubernetes.io/job-completion-index": str(index)},
            **metadata,
        },
        "spec": {
            "nodeName": f"node-{index}",
            "containers": [{"name": "base", "resources": {"limits": {"memory": "64Mi"}}}],
        },
        "status": {
            "phase": phase,
            "containerStatuses": statuses,
            "initContainerStatuses": [{"name": name, "state": each} for name, each in (init or {}).items()],
            "conditions": list(conditions),
        },
    }


def running() -> dict[str, Any]:
    """State of a container that runs."""
    return {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """State of a container that does not run yet."""
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, at: str = "2026-01-01T00:00:10Z", reason: str = "Error") -> dict[str, Any]:
    """State of a container that has ended."""
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": at}}


def warning(about: str, reason: str, message: str, kind: str = "Pod") -> dict[str, Any]:
    """An event."""
    return {
        "metadata": {"name": f"{about}.{reason}"},
        "involvedObject": {"kind": kind, "name": about},
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-01-01T00:00:05Z",
    }


@dataclass
class TaskInstance:
    """As much of a task instance as the operator uses."""

    dag_id: str = "topology_classifier"
    task_id: str = "train"
    run_id: str = "manual__1"
    map_index: int = -1
    try_number: int = 1
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    xcoms: dict[str, Any] = field(default_factory=dict)
    pulled: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    """Task and key → what its instances have pushed."""
    state: str | None = "failed"
    """What Airflow says of it."""
    airflow: str = "ours"

    @property
    def id(self) -> UUID:
        """Another one for every try, and in every Airflow."""
        key = (self.airflow, self.dag_id, self.run_id, self.task_id, self.map_index, self.try_number)
        return uuid5(NAMESPACE_DNS, repr(key))

    def get_task_states(
        self, dag_id: str, map_index: int, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str | None]]:
        """The answer of Airflow, by run and task."""
        assert (dag_id, map_index, task_ids, run_ids) == (self.dag_id, self.map_index, [self.task_id], [self.run_id])
        suffix = f"_{self.map_index}" if self.map_index >= 0 else ""
        return {self.run_id: {f"{self.task_id}{suffix}": self.state}}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: list[str], key: str) -> list[Any]:
        return [value for task_id in task_ids for value in self.pulled.get((task_id, key), [])]

    def context(self) -> Any:
        """The context of this task instance."""
        return {"ti": self, "run_id": self.run_id, "dag": SimpleNamespace()}


class _Workers(logging.Handler):
    """Hands the lines of a thread's workers on to the logger of their task."""

    def __init__(self, log: Any) -> None:
        super().__init__(logging.INFO)
        self._log = log
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._log.info(record.getMessage())


@contextmanager
def workers_heard(log: Any) -> Iterator[None]:
    """Let a task's logger hear the workers, who log under names of their own; of this thread's task alone."""
    workers, handler = logging.getLogger("toposieve.worker"), _Workers(log)
    workers.setLevel(logging.INFO)
    workers.addHandler(handler)
    try:
        yield
    finally:
        workers.removeHandler(handler)
