"""Rows of Airflow's database, with as little in them as the pages look at."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import delete, insert, select, text
from sqlalchemy.orm import Session

DAGS = ("topology_classifier", "build_dataset", "publish_model")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Rows:
    """Writes rows, each a minute after the one before; what they refer to need not be there."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._time = START
        session.execute(text("PRAGMA foreign_keys=OFF"))
        self._add(DagBundleModel, name="dags-folder")
        for dag_id in DAGS:
            session.add(DagModel(dag_id=dag_id, bundle_name="dags-folder"))

    def event(
        self, asset: str, run: tuple[str, str], extra: Mapping[str, Any] | None = None, key: str | None = None
    ) -> None:
        """What a task of a run has announced."""
        known = self._session.scalar(select(AssetModel.id).where(AssetModel.name == asset))
        if known is None:
            self._add(AssetModel, name=asset, uri=f"toposieve://{asset}", group="asset")
            known = self._session.scalar(select(AssetModel.id).where(AssetModel.name == asset))
        self._add(
            AssetEvent,
            asset_id=known,
            source_dag_id=run[0],
            source_run_id=run[1],
            extra=dict(extra or {}),
            partition_key=key,
            timestamp=self._time,
        )

    def planned(self, run: tuple[str, str], key: str, value: Any) -> None:
        """What the plan of a run has under a key."""
        of_run = {"dag_run_id": hash(run) % 10**6, "dag_id": run[0], "run_id": run[1]}
        self._add(XComModel, **of_run, task_id="plan", key=key, value=value, timestamp=self._time)

    def task(self, run: tuple[str, str], task_id: str, state: str | None, map_index: int = -1) -> None:
        """State of a task of a run."""
        of_run = {"dag_id": run[0], "run_id": run[1], "task_id": task_id, "map_index": map_index}
        self._add(TaskInstance, **of_run, id=uuid4(), state=state, pool="")

    def run(self, run: tuple[str, str], note: str | None = None, user: str | None = None) -> None:
        """A run, and its note."""
        times = {"run_after": self._time, "logical_date": None}
        self._add(DagRun, id=1, dag_id=run[0], run_id=run[1], run_type="manual", **times)
        if note is not None:
            self._add(DagRunNote, dag_run_id=1, content=note, user_id=user)

    def note(self, run: tuple[str, str]) -> str | None:
        """Note of a run."""
        self._session.expire_all()
        return self._session.scalars(select(DagRun).filter_by(dag_id=run[0], run_id=run[1])).one().note

    def clear(self) -> None:
        """Remove every row."""
        self._session.rollback()
        for model in (DagRunNote, DagRun, XComModel, TaskInstance, AssetEvent, AssetModel, DagModel, DagBundleModel):
            self._session.execute(delete(model.__table__))
        self._session.commit()

    def _add(self, model: Any, **values: Any) -> None:
        self._session.execute(insert(model.__table__).values(**values))
        self._session.commit()
        self._time += timedelta(minutes=1)
