import errno
import re
from pathlib import Path

import pytest

from support.ui_results import metrics, write_report

PAGES = ["/reports", "/reports/r", "/reports/r/report.html", "/compare", "/run", "/days", "/days/d"]
PAGES += ["/datasets", "/models", "/registry", "/firmware/d/hlf/r/firmware.html"]
OPEN = ["/icon.svg", "/icon-dark.svg"]
OF_A_BROWSER = {"accept": "text/html,*/*;q=0.8"}


def test_every_page_is_tested_for_rights(anybody) -> None:
    files = {"{file:path}": "report.html", "{place:path}": "d/hlf/r/firmware.html"}
    paths = [re.sub(r"{\w+:path}", lambda found: files[found[0]], route.path) for route in anybody.app.routes]
    assert {*PAGES, *OPEN} <= {path.format(name=name) for path in paths for name in "rd"}
    assert len(paths) == len(PAGES) + len(OPEN)


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nobody_sees_a_page_without_a_session(anybody, path: str, method: str) -> None:
    assert anybody.request(method, path).status_code == 401
    assert anybody.request(method, path, headers={"Authorization": "Bearer nonsense"}).status_code == 403


@pytest.mark.parametrize("path", OPEN)
def test_the_icon_is_open(anybody, path: str) -> None:
    response = anybody.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/svg+xml")


def test_a_browser_without_a_session_goes_to_the_login_and_comes_back(anybody) -> None:
    response = anybody.get("/days?q=2026", headers={**OF_A_BROWSER, "sec-fetch-dest": "document"})
    assert response.status_code == 307
    assert response.headers["location"].endswith("/auth/login?next=http%3A%2F%2Ftestserver%2Fdays%3Fq%3D2026")


def test_a_frame_without_a_session_says_so(anybody) -> None:
    response = anybody.get("/days", headers={**OF_A_BROWSER, "sec-fetch-dest": "iframe"})
    assert response.status_code == 401
    assert "reload the page" in response.text


def test_who_may_not_read_the_runs_of_the_dag_sees_nothing(viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    asked = []

    def refuse(**of: object) -> bool:
        asked.append((of["method"], of["access_entity"].name, of["details"].id))
        return False

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse)
    for path in PAGES:
        assert viewer.get(path).status_code == 403
    assert set(asked) == {("GET", "RUN", "topology_classifier")}


def test_the_tab_asks_for_the_plan_of_its_own_dag(viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.api_fastapi.app import get_auth_manager

    def refuse_xcoms_of_other_dags(**of: object) -> bool:
        return (of["access_entity"].name, of["details"].id) != ("XCOM", "other")

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", refuse_xcoms_of_other_dags)
    assert viewer.get("/run?dag_id=other&run_id=r").status_code == 403
    assert viewer.get("/run?dag_id=topology_classifier&run_id=r").status_code == 200


def test_a_wrong_profile_is_said(viewer) -> None:
    from toposieve_airflow.profile import ProfileError
    from toposieve_airflow.ui.app import app
    from toposieve_airflow.ui.deployment import deployment

    def wrong() -> None:
        raise ProfileError("local.yaml: bsae: unknown key")

    app.dependency_overrides[deployment] = wrong
    response = viewer.get("/days")
    assert (response.status_code, response.text) == (500, "local.yaml: bsae: unknown key")


def test_what_cannot_be_read_is_said(viewer, base, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_report(base, metrics("r"))

    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    response = viewer.get("/reports")
    assert response.status_code == 500
    assert response.text.startswith(f"{folder}/metrics.json: Permission denied: let the user of Airflow's API server")
