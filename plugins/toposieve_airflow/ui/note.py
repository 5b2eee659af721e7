"""The line that a report leaves in the note of the run that has made it."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import msgspec
from airflow.configuration import conf
from airflow.listeners.types import AssetEvent
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.utils.session import create_session
from sqlalchemy import select

from toposieve_airflow.runs.documents import Measured, Report
from toposieve_airflow.ui import REPORT_TAB
from toposieve_airflow.ui.records import Run

AUTHOR = "toposieve"
"""Who has written a note, as Airflow keeps it; one of anybody else stays as it is."""


def note_report(event: AssetEvent) -> None:
    """Write the note of the run that has announced a report, unless a person has written one.

    Raises:
        msgspec.ValidationError: The event is not one of ours.
    """
    if event.source_dag_id is None or event.source_run_id is None:  # a person's own event
        return
    run = Run(event.source_dag_id, event.source_run_id)
    text = line(run, msgspec.convert(event.extra, Report))
    with create_session() as session:
        found = session.scalars(select(DagRun).filter_by(dag_id=run.dag_id, run_id=run.run_id)).one()
        if found.dag_run_note is None:
            found.dag_run_note = DagRunNote(text, AUTHOR)  # type: ignore[no-untyped-call]
        elif found.dag_run_note.user_id == AUTHOR:
            found.dag_run_note.content = text


def line(run: Run, report: Report) -> str:
    """AUCs and a link to the run's tab, in Markdown; the link has no host, since a server may have several names."""
    prefix = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
    address = f"{prefix}/dags/{quote(run.dag_id)}/runs/{quote(run.run_id, safe='')}/plugin/{REPORT_TAB}"
    aucs = [
        f"{name} {' / '.join(_short(model.auc.get(sample, Measured())) for sample in report.classes)}"
        for name, model in report.models.items()
    ]
    return f"[Report]({address}): AUC {' / '.join(report.classes)}: {', '.join(aucs)}"


def _short(auc: Measured) -> str:
    return "–" if auc.value is None else f"{auc.value:.3f}"
