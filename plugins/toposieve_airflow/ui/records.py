"""What Airflow's own database knows of runs: which have made what, and what their tasks have announced."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, NamedTuple

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

PUBLISHING_DAG_ID = "publish_model"
PLAN, EVALUATE = "plan", "evaluate"
TRAININGS = ("train", "train_trees")
FAILED = (TaskInstanceState.FAILED, TaskInstanceState.UPSTREAM_FAILED)
MOST_RECORDS = 5000
"""Records that are looked through, the newest first."""
RUNS_SHOWN = 3


class Run(NamedTuple):
    """A DAG run."""

    dag_id: str
    run_id: str


class Event(NamedTuple):
    """What a task has announced."""

    run: Run
    partition: str | None
    extra: dict[str, Any]
    time: datetime


Runs = dict[str, list[Run]]
"""Name of a result → the newest runs that made it, or found it made."""


class Records:
    """Airflow's records, as far as a user may read them.

    Args:
        session: Of the database.
        dag_ids: The DAGs that the user may read.
    """

    def __init__(self, session: Session, dag_ids: Collection[str]) -> None:
        """Ask nothing yet."""
        self._session = session
        self._dag_ids = dag_ids

    def events(self, asset: str) -> list[Event]:
        """What was announced of an asset, the newest first."""
        columns = (AssetEvent.source_dag_id, AssetEvent.source_run_id, AssetEvent.partition_key)
        query = (
            select(*columns, AssetEvent.extra, AssetEvent.timestamp)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetModel.name == asset, AssetEvent.source_dag_id.in_(self._dag_ids))
            .order_by(AssetEvent.timestamp.desc())
            .limit(MOST_RECORDS)
        )
        rows = self._session.execute(query)
        return [Event(Run(dag_id, run_id), key, extra or {}, time) for dag_id, run_id, key, extra, time in rows]

    def runs_of_days(self) -> Runs:
        """Day → the runs that have it in their plan."""
        query = _planned("return_value").where(XComModel.dag_id.in_(self._dag_ids)).limit(MOST_RECORDS)
        found = self._session.execute(query)
        return newest_runs((day, Run(each.dag_id, each.run_id)) for each in found for day in _value(each) or ())

    def runs_of_orders(self, orders: Iterable[str]) -> Runs:
        """Name of a run that publishes models → the run, of those that are there."""
        query = select(DagRun.dag_id, DagRun.run_id).where(
            DagRun.dag_id == PUBLISHING_DAG_ID, DagRun.dag_id.in_(self._dag_ids), DagRun.run_id.in_(list(orders))
        )
        return {run_id: [Run(dag_id, run_id)] for dag_id, run_id in self._session.execute(query)}

    def report_of(self, run: Run) -> str | None:
        """Name of the report that a run makes by its plan, or None where it has none, or no plan yet."""
        step = self._plan(run, EVALUATE)
        return None if step is None else str(step["label"])

    def failed_models(self, run: Run) -> list[str]:
        """Models of a run whose training has failed."""
        return [label for task in TRAININGS for label in self._failed(run, task)]

    def _failed(self, run: Run, task: str) -> list[str]:
        """Labels of the instances of a task that have failed."""
        query = select(TaskInstance.map_index).where(
            TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id, TaskInstance.task_id == task
        )
        failed = set(self._session.scalars(query.where(TaskInstance.state.in_(FAILED))))
        return [str(step["label"]) for index, step in enumerate(self._plan(run, task) or ()) if index in failed]

    def _plan(self, run: Run, key: str) -> Any:
        """What the plan of a run has under a key, or None where there is none, or no plan yet."""
        query = _planned(key).where(XComModel.dag_id == run.dag_id, XComModel.run_id == run.run_id)
        found = self._session.execute(query).first()
        return None if found is None else _value(found)

    def state_of_evaluation(self, run: Run) -> str | None:
        """State of a run's task ``evaluate``; None where it has no such task, "waiting" where it has not begun."""
        query = select(TaskInstance.task_id, TaskInstance.state).where(
            TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id, TaskInstance.task_id == EVALUATE
        )
        found = self._session.execute(query).first()
        return None if found is None else str(found.state or "waiting")


def newest_runs(pairs: Iterable[tuple[str, Run]]) -> Runs:
    """The newest runs of each result, from all of them, the newest first."""
    runs: Runs = {}
    for name, run in pairs:
        known = runs.setdefault(name, [])
        if run not in known and len(known) < RUNS_SHOWN:
            known.append(run)
    return runs


def _planned(key: str) -> Select[tuple[str, str, Any]]:
    """What plans have under a key, the newest first."""
    return (
        select(XComModel.dag_id, XComModel.run_id, XComModel.value)
        .where(XComModel.task_id == PLAN, XComModel.key == key)
        .order_by(XComModel.timestamp.desc())
    )


def _value(xcom: Any) -> Any:
    value = XComModel.deserialize_value(xcom)
    return json.loads(value) if isinstance(value, str) else value
