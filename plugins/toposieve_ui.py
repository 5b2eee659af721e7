"""Results in Airflow's UI: the one file here that Airflow looks into for plugins.

Every process of Airflow loads it, each task too, so the pages themselves are imported by the first request for one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from toposieve_airflow.ui import REPORT_TAB

Message = MutableMapping[str, Any]

PREFIX = "toposieve"
ICONS = {"icon": f"{PREFIX}/icon.svg", "icon_dark_mode": f"{PREFIX}/icon-dark.svg"}


@cache
def pages() -> Any:
    """The app, imported once."""
    from toposieve_airflow.ui.app import app

    return app


async def lazy_pages(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The app, imported when it is first asked for."""
    await pages()(scope, receive, send)


VIEWS = [
    {
        "name": "Toposieve",
        "href": f"{PREFIX}/reports",
        "url_route": "toposieve",
        "destination": "nav",
        "nav_top_level": True,
        **ICONS,
    },
    {
        "name": "Report",
        "href": f"{PREFIX}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
        "url_route": REPORT_TAB,
        "destination": "dag_run",
        **ICONS,
    },
]
"""The entry in the navigation, and the tab on each run; addresses without a leading slash work behind a prefix too."""

APPS = [{"name": "toposieve", "app": lazy_pages, "url_prefix": f"/{PREFIX}"}]


class ReportNotes:
    """Writes the note of a run that has made a report; Airflow's API server calls it."""

    @hookimpl
    def on_asset_event_emitted(self, asset_event: Any) -> None:
        """Take what a task, or a person, has announced."""
        from toposieve_airflow.runs import assets

        if asset_event.asset.name == assets.REPORT.name:
            from toposieve_airflow.ui.note import note_report

            note_report(asset_event)


LISTENERS: list[object] = [ReportNotes()]


class ToposievePlugin(AirflowPlugin):
    """What Airflow takes from here."""

    name = "toposieve"
    fastapi_apps = APPS
    external_views = VIEWS
    listeners = LISTENERS
