import json
from pathlib import Path
from typing import Any

import pytest

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.local import demo
from toposieve_airflow.local.airflow_home import AirflowHome
from toposieve_airflow.local.api import Api
from toposieve_airflow.profiles import Profile, load_profile


class FakeApi(Api):
    """An Airflow in which a run has these tasks and ends at once."""

    def __init__(self, tasks: list[dict[str, Any]], state: str, answers: dict[str, Any] | None = None) -> None:
        self.given = tasks
        self.state = state
        self.answers = {
            "/dags": {"dags": [{"dag_id": demo.DAG_ID}]},
            f"/dags/{demo.DAG_ID}/dagRuns": {"dag_runs": []},
            **(answers or {}),
        }
        self.sent: list[tuple[str, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        return self.answers[path] if path in self.answers else self.answers[path.rpartition("/")[2]]

    def post(self, path: str, body: Any) -> Any:
        self.sent.append((path, body))

    patch = post

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self.given

    def run_state(self, dag_id: str, run_id: str) -> str:
        return self.state


@pytest.fixture
def home(tmp_path: Path) -> AirflowHome:
    return AirflowHome(tmp_path, 1)


@pytest.fixture
def profile() -> Profile:
    return load_profile(CONFIG_FOLDER)


def task(task_id: str, state: str, map_index: int = -1) -> dict[str, Any]:
    times = {"start_date": "2026-01-01T12:00:00Z", "end_date": "2026-01-01T12:00:30Z"}
    return {"task_id": task_id, "state": state, "map_index": map_index, "try_number": 1, **times}


def test_params_of_the_command_line_win(
    home: AirflowHome, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    api = FakeApi([], "failed")
    demo._demo(api, home, profile, {**demo.CONF, "workers": 4})
    path, body = api.sent[-1]
    assert path.endswith(f"{demo.DAG_ID}/dagRuns")
    assert body["conf"] == {**demo.CONF, "workers": 4}
    assert body["dag_run_id"] in capsys.readouterr().out


def test_failed_task_ends_the_demo_with_its_error_and_log(
    home: AirflowHome, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(FakeApi):
        def trigger(self, dag_id: str, run_id: str, conf: Any, partition_key: str | None = None) -> None:
            self.log = home.task_log(dag_id, run_id, "ingest", 0, 1)
            self.log.parent.mkdir(parents=True)
            entry = {"event": "Task failed", "error_detail": [{"exc_value": "a.root: no tree Delphes"}]}
            self.log.write_text(json.dumps(entry))

    api = Failing([task("select", "upstream_failed"), task("ingest", "failed", 0)], "failed")
    assert demo._demo(api, home, profile, demo.CONF) == 1
    shown = capsys.readouterr()
    assert "error: task ingest failed: a.root: no tree Delphes" in shown.err
    assert f"log: {api.log}" in shown.err
    assert shown.out.index("ingest") < shown.out.index("select")


def test_success_ends_with_table_report_and_command(
    home: AirflowHome, profile: Profile, tmp_path: Path, make_script, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = profile.model_copy(update={"python": Path(make_script("import sys; print('table of', sys.argv[-1])"))})
    api = FakeApi([task("plan", "success")], "success", {"evaluate": {"value": {"outputs": [str(tmp_path)]}}})
    assert demo._demo(api, home, profile, demo.CONF) == 0
    shown = capfd.readouterr().out
    assert f"table of {tmp_path / 'metrics.json'}" in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    assert "make airflow" in shown


def test_runs_that_were_cut_off_are_closed_first(home: AirflowHome, profile: Profile) -> None:
    runs = [{"dag_run_id": "demo_old"}, {"dag_run_id": "manual__mine"}]
    api = FakeApi([], "failed", {f"/dags/{demo.DAG_ID}/dagRuns": {"dag_runs": runs}})
    demo._demo(api, home, profile, demo.CONF)
    closed = [path for path, body in api.sent if body == {"state": "failed"}]
    assert closed == [f"/dags/{demo.DAG_ID}/dagRuns/demo_old"]


def test_interrupted_run_is_closed(home: AirflowHome, profile: Profile) -> None:
    class Interrupted(FakeApi):
        def run_state(self, dag_id: str, run_id: str) -> str:
            raise KeyboardInterrupt

    api = Interrupted([], "running")
    with pytest.raises(KeyboardInterrupt):
        demo._demo(api, home, profile, demo.CONF)
    assert api.sent[-1][1] == {"state": "failed"}


def test_broken_dag_file_is_reported() -> None:
    problem = {"filename": "dags/x.py", "stack_trace": "ProfileError: base: missing key"}
    api = FakeApi([], "failed", {"/dags": {"dags": []}, "/importErrors": {"import_errors": [problem]}})
    with pytest.raises(demo.DemoError, match=r"dags/x\.py cannot be imported:\nProfileError: base: missing key"):
        demo.wait_for_dag(api, demo.DAG_ID)
