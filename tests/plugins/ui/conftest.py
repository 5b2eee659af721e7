"""The app with Airflow's simple auth manager and a database of its own, without a server or a browser."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.ui_results import CLASSES

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from sqlalchemy.orm import Session

    from support.airflow_records import Rows
    from toposieve_airflow.ui.results import Results

CODE_NUMBERS = {"ingest": 3, "select": 3, "prepare": 3, "train": 1, "evaluate": 3}


@pytest.fixture(scope="session")
def tables() -> None:
    """Airflow's tables, in the database of the tests' own Airflow."""
    import airflow.models
    from airflow import settings
    from airflow.models.base import Base

    airflow.models.import_all_models()
    Base.metadata.create_all(settings.engine)


@pytest.fixture
def session(tables: None) -> "Iterator[Session]":
    """A session of the database."""
    from airflow import settings

    with settings.Session() as session:
        yield session


@pytest.fixture
def rows(session: "Session") -> "Iterator[Rows]":
    """Writes what Airflow knows of runs; it is gone afterwards."""
    from support.airflow_records import Rows

    rows = Rows(session)
    yield rows
    rows.clear()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where the data lies."""
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def results(base: Path) -> "Results":
    from toposieve_airflow.ui.results import Results

    return Results(base)


@pytest.fixture
def anybody(tables: None, base: Path, results: "Results") -> "Iterator[TestClient]":
    """A client that has not logged in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # starlette's own, about the httpx that Airflow has
        from fastapi.testclient import TestClient
    from airflow.api_fastapi.app import create_auth_manager

    from toposieve_airflow.runs.jobs_environment import JobsEnvironment
    from toposieve_airflow.ui.app import app
    from toposieve_airflow.ui.deployment import Deployment, deployment

    create_auth_manager()
    site = Deployment(str(base), results, CLASSES, CODE_NUMBERS, JobsEnvironment("/no/such/python"), {})
    app.dependency_overrides[deployment] = lambda: site
    yield TestClient(app, follow_redirects=False)
    app.dependency_overrides.clear()


@pytest.fixture
def viewer(anybody: "TestClient") -> "TestClient":
    """A client of a user who may look at everything, and change nothing."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="viewer", role="viewer"))
    anybody.headers["Authorization"] = f"Bearer {token}"
    return anybody
