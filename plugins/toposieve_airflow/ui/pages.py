"""The pages. Routes are plain functions, which run in threads: tasks report to the same event loop."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from toposieve_airflow.ui import formats
from toposieve_airflow.ui.catalogue import Catalogue, ListedReport
from toposieve_airflow.ui.deployment import Deployment, deployment
from toposieve_airflow.ui.records import Records, Run
from toposieve_airflow.ui.results import is_place
from toposieve_airflow.ui.tables import matches, page_of

DAG_ID = "topology_classifier"
"""Who may read the runs of this DAG may read all pages."""

TEMPLATES = Path(__file__).parent / "templates"
SCRIPT = (TEMPLATES / "page.js").read_text(encoding="utf-8")
_SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
PAGE_POLICY = (
    f"default-src 'none'; script-src 'sha256-{_SCRIPT_HASH}'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)
"""No script but the pages' own, whatever a name in a file pretends to be."""
REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; frame-ancestors 'self'"
"""No script at all in what lies under the base: the session's token can be read by any of this origin."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
}
"""Suffixes of the files that can be fetched."""

templates = Jinja2Templates(TEMPLATES)
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.globals |= {**{name: getattr(formats, name) for name in formats.__all__}, "script": SCRIPT}

router = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN, DAG_ID))])
get = partial(router.api_route, methods=["GET", "HEAD"], response_class=HTMLResponse)

Site = Annotated[Deployment, Depends(deployment)]


def readable_records(session: SessionDep, user: GetUserDep) -> Records:
    """Airflow's records of the DAGs that a user may read."""
    return Records(session, get_auth_manager().get_authorized_dag_ids(user=user, session=session))


ReadableRecords = Annotated[Records, Depends(readable_records)]


def catalogue_for(site: Site, records: ReadableRecords) -> Catalogue:
    """Results with the runs that a user may read."""
    return Catalogue(site, records)


All = Annotated[Catalogue, Depends(catalogue_for)]


def show(request: Request, site: Deployment, template: str, **content: Any) -> Response:
    """A page of a template; links start where Airflow has put this app, behind whatever prefix."""
    root = request.scope.get("root_path", "")
    place = {"root": root, "airflow": root.rpartition("/")[0], "base": site.base, "links": site.links}
    seen = {"here": site.results.are_here(), "why": site.results.why}
    policy = {"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"}
    return templates.TemplateResponse(request, template, {**place, **seen, **content}, headers=policy)


@get("/reports")
def reports(request: Request, site: Site, every: All, q: str = "", sort: str = "time", page: int = 1) -> Response:
    """All reports, filtered, sorted and paged."""
    listed = every.reports()
    found = sorted((each for each in listed if matches(q, _texts(each))), key=_order(sort), reverse=sort != "name")
    classes = list(dict.fromkeys(sample for each in listed for sample in each.report.classes))
    return show(request, site, "reports.html", page=page_of(found, page), classes=classes, q=q, sort=sort)


def _texts(listed: ListedReport) -> list[str]:
    report = listed.report
    days = report.configuration.dataset.partitions
    return [report.report, report.dataset, *report.models, *days, *report.code_versions.values()]


def _order(sort: str) -> Callable[[ListedReport], Any]:
    if sort == "name":
        return lambda each: each.report.report
    if sort == "time":
        return lambda each: each.time
    return lambda each: each.report.best_auc(sort)


@get("/compare")
def compare(request: Request, site: Site, every: All, report: Annotated[list[str], Query()]) -> Response:
    """Two reports side by side."""
    chosen = [found for found in map(every.report, report) if found is not None]
    if len(chosen) != 2:
        return show(request, site, "message.html", title="Comparison", message="Choose two reports in the list.")
    first, second = (each.report.configuration.values() for each in chosen)
    changed = {
        key: (first.get(key), second.get(key))
        for key in [*first, *(key for key in second if key not in first)]
        if first.get(key) != second.get(key)
    }
    models = list(dict.fromkeys(model for each in chosen for model in each.report.models))
    return show(request, site, "compare.html", chosen=chosen, models=models, changed=changed)


@get("/reports/{name}")
def report(name: str, request: Request, site: Site, every: All) -> Response:
    """One report, with what can be done with it."""
    listed = every.report(name)
    if listed is None:
        raise HTTPException(404)
    return show(request, site, "report.html", listed=listed, page_is_here=_page_is_here(site, name))


@get("/reports/{name}/{file:path}")
def report_file(name: str, file: str, request: Request, site: Site) -> Response:
    """A file of a report; out of a store, only what is a text."""
    if site.is_in_store and is_place(f"{name}/{file}") and Path(file).suffix in (".html", ".json"):
        return Response(site.read_text(f"reports/{name}/{file}"), headers=_headers(file))
    return _sandboxed(site.results.report_file(name, file), request)


@get("/firmware/{place:path}")
def firmware_file(place: str, request: Request, site: Site) -> Response:
    """A file of firmware, which is made where Airflow is."""
    return _sandboxed(site.results.firmware_file(place), request)


def _sandboxed(path: Path | None, request: Request) -> Response:
    if path is None or path.suffix not in TYPES:
        raise HTTPException(404)
    response = StaticFiles().file_response(path, path.stat(), request.scope)
    response.headers.update(_headers(path.name))
    return response


def _headers(name: str) -> dict[str, str]:
    return {
        "Content-Type": TYPES.get(Path(name).suffix, ""),
        "Content-Security-Policy": REPORT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


@get("/run", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))])
def run(request: Request, dag_id: str, run_id: str, site: Site, every: All, records: ReadableRecords) -> Response:
    """The tab of a run: its report, or why there is none."""
    of = Run(dag_id, run_id)
    state, name = records.state_of_evaluation(of), records.report_of(of)
    listed = every.report(name) if name else None
    if name and listed:
        return show(request, site, "report.html", listed=listed, page_is_here=_page_is_here(site, name), of_run=of)
    what = f"The report {name}" if name else "The report of this run"
    failed = records.failed_models(of)
    without = f", and the training of {', '.join(failed)} has failed" if failed else ""
    why = f"{what} is not there: evaluate is {state}{without}." if state else "This run makes no report."
    return show(request, site, "message.html", title="", message=why)


def _page_is_here(site: Deployment, name: str) -> bool:
    return site.is_in_store or site.results.report_file(name, "report.html") is not None


@get("/days")
def days(request: Request, site: Site, every: All, records: ReadableRecords, q: str = "", page: int = 1) -> Response:
    """All days from the first to the last, with their holes."""
    listed = every.days()
    found = [day for day in listed if matches(q, (day.name, day.state, day.remarks))]
    shown = {"page": page_of(found, page), "days": listed, "runs": records.runs_of_days(), "samples": site.samples}
    return show(request, site, "days.html", **shown, q=q)


@get("/days/{name}")
def day(name: str, request: Request, site: Site, every: All, records: ReadableRecords) -> Response:
    """One day: its cutflow, its bad files and the configuration."""
    found = every.day(name)
    if found is None:
        raise HTTPException(404)
    return show(request, site, "day.html", day=found, runs=records.runs_of_days().get(name, []))


@get("/datasets")
def datasets(request: Request, site: Site, every: All, q: str = "", page: int = 1) -> Response:
    """All datasets, with what they were made from."""
    found = [each for each in every.datasets() if matches(q, [each.name, *each.made_from])]
    return show(request, site, "datasets.html", page=page_of(found, page), q=q)


@get("/models")
def models(request: Request, site: Site, every: All, q: str = "", page: int = 1) -> Response:
    """All training runs, with the datasets that they were trained on."""
    found = [each for each in every.models() if matches(q, [each.name, *each.made_from])]
    return show(request, site, "models.html", page=page_of(found, page), q=q)


@get("/registry")
def registry(request: Request, site: Site, every: All, records: ReadableRecords) -> Response:
    """Models that were put forward, which is published, and who has decided so, when and why."""
    registered = every.registered()
    orders = [act.order for each in registered for act in each.acts.values() if act.order]
    shown = {"registered": registered, "firmware_page": site.results.firmware_page}
    return show(request, site, "registry.html", **shown, runs=records.runs_of_orders(orders))
