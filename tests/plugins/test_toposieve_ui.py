import json
import subprocess
import sys
from typing import Any

import pytest

from support.airflow_environment import ENVIRONMENT, REPOSITORY

# Airflow itself uses a deprecated name of pathspec, and starlette warns of the httpx that Airflow has.
pytestmark = [
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using `httpx`"),
]

LIMIT_S = 0.05

MEASURE = """
import json, sys, time
import airflow.plugins_manager
before = set(sys.modules)
started = time.process_time()
import toposieve_ui
ours = [name for name in set(sys.modules) - before if name.startswith("toposieve")]
print(json.dumps([time.process_time() - started, sorted(ours)]))
"""


@pytest.fixture(scope="module")
def plugin() -> dict[str, Any]:
    """What Airflow's own loader says of the plugin: one that is not as it should be is dropped with a warning."""
    from airflow.api_fastapi.core_api.datamodels.plugins import PluginResponse
    from airflow.plugins_manager import get_plugin_info

    plugins = {each["name"]: each for each in get_plugin_info()}
    return PluginResponse.model_validate(plugins["toposieve"]).model_dump()


def test_airflow_lists_the_tab_and_the_navigation(plugin: dict[str, Any]) -> None:
    views = {view["name"]: view["destination"] for view in plugin["external_views"]}
    assert views == {"Toposieve": "nav", "Report": "dag_run"}
    assert [(app["name"], app["url_prefix"]) for app in plugin["fastapi_apps"]] == [("toposieve", "/toposieve")]


def test_no_address_begins_at_the_root_which_a_path_prefix_moves(plugin: dict[str, Any]) -> None:
    addresses = [view[key] for view in plugin["external_views"] for key in ("href", "icon", "icon_dark_mode")]
    assert all(address.startswith("toposieve/") for address in addresses)


def test_every_address_is_a_page_or_an_icon(plugin: dict[str, Any]) -> None:
    from toposieve_airflow.ui.app import app

    paths = {f"toposieve{route.path}" for route in app.routes}  # type: ignore[attr-defined]
    for view in plugin["external_views"]:
        assert {view["href"].partition("?")[0], view["icon"], view["icon_dark_mode"]} <= paths


def test_no_process_pays_for_pages_that_it_does_not_show() -> None:
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY / "plugins")}
    command = [sys.executable, "-c", MEASURE]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, modules = json.loads(result.stdout.splitlines()[-1])
    assert modules == ["toposieve_airflow", "toposieve_airflow.ui", "toposieve_ui"]
    assert seconds < LIMIT_S


def test_the_first_request_imports_the_pages(plugin: dict[str, Any]) -> None:
    from fastapi.testclient import TestClient

    import toposieve_ui

    assert TestClient(toposieve_ui.lazy_pages).get("/icon.svg").status_code == 200
