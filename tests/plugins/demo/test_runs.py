import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.profile import Profile, load_profile
from toposieve_demo import demo, runs
from toposieve_demo.airflow_home import AirflowHome, LocalAirflow, LocalAirflowError
from toposieve_demo.api import Api, ApiError

STARTED = datetime(2026, 1, 1, 12, tzinfo=UTC)


class FakeApi(Api):
    """An Airflow in which a run has these tasks and ends at once."""

    url = "http://127.0.0.1:8080"

    def __init__(self, tasks: list[dict[str, Any]], state: str, answers: dict[str, Any] | None = None) -> None:
        self.given = tasks
        self.state = state
        self.answers = {
            "/dags": {"dags": [{"dag_id": dag_id} for dag_id in (runs.DAG_ID, runs.PUBLISHING_DAG_ID)]},
            f"/dags/{runs.DAG_ID}": {"is_paused": True},
            f"/dags/{runs.PUBLISHING_DAG_ID}": {"is_paused": True},
            "dagRuns": {"dag_runs": []},
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


class Ended:
    """A component's process that has ended, or runs if it has no exit code."""

    def __init__(self, code: int | None) -> None:
        self.returncode = code

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def home(tmp_path: Path) -> AirflowHome:
    return AirflowHome(tmp_path, 1)


@pytest.fixture
def make_airflow(home: AirflowHome):
    def make(api: Api, **exit_codes: int | None) -> LocalAirflow:
        return LocalAirflow(home, api, {name: Ended(code) for name, code in exit_codes.items()}, STARTED)

    return make


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "POLL_S", 0.0)


@pytest.fixture
def profile() -> Profile:
    return load_profile(CONFIG_FOLDER)


def task(task_id: str, state: str, map_index: int = -1) -> dict[str, Any]:
    times = {"start_date": "2026-01-01T12:00:00Z", "end_date": "2026-01-01T12:00:30Z"}
    return {"task_id": task_id, "state": state, "map_index": map_index, "try_number": 1, **times}


def run_demo(airflow: LocalAirflow, profile: Profile, **params: Any) -> str | None:
    return runs.run_chain(airflow, profile, {**demo.CONF, **params}, demo.RUN_PREFIX)


def test_params_of_the_command_line_win(make_airflow, profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    api = FakeApi([], "failed")
    run_demo(make_airflow(api), profile, workers=4)
    ((_, body),) = [sent for sent in api.sent if sent[0] == f"/dags/{runs.DAG_ID}/dagRuns"]
    assert body["conf"] == {**demo.CONF, "workers": 4}
    assert body["dag_run_id"] in capsys.readouterr().out


def test_failed_task_ends_the_demo_with_its_error_and_log(
    make_airflow, home: AirflowHome, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(FakeApi):
        def trigger(self, dag_id: str, run_id: str, conf: Any, partition_key: str | None = None) -> None:
            self.log = home.task_log(dag_id, run_id, "ingest", 0, 1)
            self.log.parent.mkdir(parents=True)
            entry = {"event": "Task failed", "error_detail": [{"exc_value": "a.root: no tree Delphes"}]}
            self.log.write_text(json.dumps(entry))

    api = Failing([task("select", "upstream_failed"), task("ingest", "failed", 0)], "failed")
    assert run_demo(make_airflow(api), profile) is None
    shown = capsys.readouterr()
    assert "error: task ingest failed: a.root: no tree Delphes" in shown.err
    assert f"log: {api.log}" in shown.err
    assert shown.out.index("ingest") < shown.out.index("select")


def test_success_ends_with_table_report_and_command(
    make_airflow, profile: Profile, tmp_path: Path, make_script, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = profile.model_copy(update={"python": Path(make_script("import sys; print('table of', sys.argv[-1])"))})
    api = FakeApi([task("plan", "success")], "success", results(tmp_path))
    assert run_demo(make_airflow(api), profile) == str(tmp_path)
    shown = capfd.readouterr().out
    assert f"table of {tmp_path / 'metrics.json'}" in shown
    assert f"report: {tmp_path / 'report.html'}" in shown
    assert f"make airflow, then {api.url}/dags/topology_classifier/runs/" in shown
    assert shown.splitlines()[-1] == "model: version 2 (hlf) of topology, published by the rules"


def results(report: Path, **changes: Any) -> dict[str, Any]:
    """What the tasks of a demo have told others."""
    comparison = {"name": "topology", "version": 2, "label": "hlf", "published_version": 1, "rules": []}
    return {
        "evaluate": {"value": {"outputs": [str(report)]}},
        "return_value": {"value": json.dumps({**comparison, **changes})},
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"published_version": 2}, "published before"),
        (
            {"rules": [{"rule": "AUC qcd at least 0.9", "met": False, "found": "0.8"}]},
            "not published, for not met are AUC qcd at least 0.9 (0.8)",
        ),
    ],
)
def test_what_the_rules_make_of_the_best_model_is_said(
    make_airflow, profile: Profile, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    api = FakeApi([], "success", results(tmp_path, **changes))
    decision = runs._decide(make_airflow(api), profile, str(tmp_path / "r"), demo.RUN_PREFIX)
    assert decision == f"model: version 2 (hlf) of topology, {said}"
    ((_, body),) = [sent for sent in api.sent if sent[0] == f"/dags/{runs.PUBLISHING_DAG_ID}/dagRuns"]
    assert body["conf"] == {"report": "r"}
    assert api.sent[-1] == (f"/dags/{runs.PUBLISHING_DAG_ID}", {"is_paused": True})


@pytest.mark.parametrize("by_rules", [True, False])
def test_where_people_decide_the_demo_asks_nobody_and_a_failing_decision_fails_it(
    make_airflow, profile: Profile, tmp_path: Path, make_script, by_rules: bool
) -> None:
    class Failing(FakeApi):
        def run_state(self, dag_id: str, run_id: str) -> str:
            return "failed" if dag_id == runs.PUBLISHING_DAG_ID else "success"

    approval = profile.approval.model_copy(update={"by_rules": by_rules})
    profile = profile.model_copy(update={"python": Path(make_script("")), "approval": approval})
    report = run_demo(make_airflow(Failing([], "success", results(tmp_path))), profile)
    assert report == (None if by_rules else str(tmp_path))


def test_mapped_tasks_are_not_shown_by_their_number(make_airflow, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [task("plan", "success"), {**task("ingest", "running", 0), "rendered_map_index": None}]
    runs.follow(make_airflow(FakeApi(tasks, "success")), runs.DAG_ID, "demo_1")
    shown = capsys.readouterr().out
    assert "plan" in shown
    assert "ingest" not in shown


def test_paths_are_shown_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs.from_here(tmp_path / "work" / "reports") == "work/reports"
    assert runs.from_here("/elsewhere/work") == "/elsewhere/work"
    assert runs.from_here("s3://lhc/work") == "s3://lhc/work"


def test_runs_that_were_cut_off_are_closed_first(make_airflow, profile: Profile) -> None:
    earlier = [{"dag_run_id": "demo_old"}, {"dag_run_id": "manual__mine"}]
    api = FakeApi([], "failed", {f"/dags/{runs.DAG_ID}/dagRuns": {"dag_runs": earlier}})
    run_demo(make_airflow(api), profile)
    closed = [path for path, body in api.sent if body == {"state": "failed"}]
    assert closed == [f"/dags/{runs.DAG_ID}/dagRuns/demo_old"]


def test_interrupted_run_is_closed(make_airflow, profile: Profile) -> None:
    class Interrupted(FakeApi):
        def run_state(self, dag_id: str, run_id: str) -> str:
            raise KeyboardInterrupt

    api = Interrupted([], "running")
    with pytest.raises(KeyboardInterrupt):
        run_demo(make_airflow(api), profile)
    assert [body for _, body in api.sent[-2:]] == [{"state": "failed"}, {"is_paused": True}]


@pytest.mark.parametrize("was_paused", [True, False])
def test_dag_is_paused_again_unless_it_was_not(make_airflow, profile: Profile, was_paused: bool) -> None:
    api = FakeApi([], "failed", {f"/dags/{runs.DAG_ID}": {"is_paused": was_paused}})
    run_demo(make_airflow(api), profile)
    assert (api.sent[-1] == (f"/dags/{runs.DAG_ID}", {"is_paused": True})) is was_paused


def test_a_component_that_has_ended_ends_the_demo(make_airflow, home: AirflowHome) -> None:
    airflow = make_airflow(FakeApi([], "running"), scheduler=9)
    with pytest.raises(LocalAirflowError, match=f"Airflow's scheduler ended with exit code 9: see {home.folder}/logs"):
        runs.follow(airflow, runs.DAG_ID, "demo_1")


class Unsteady(FakeApi):
    """Fails so many times before each answer."""

    def __init__(self, failures: int, error: Exception) -> None:
        super().__init__([], "success")
        self.failures, self.error = failures, error
        self.calls = 0

    def run_state(self, dag_id: str, run_id: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return self.state


@pytest.mark.parametrize("error", [ApiError(500, "busy"), URLError("refused"), TimeoutError("timed out")])
def test_some_failures_of_the_api_are_borne(make_airflow, error: Exception) -> None:
    airflow = make_airflow(Unsteady(runs.API_TRIES - 1, error))
    assert runs.follow(airflow, runs.DAG_ID, "demo_1") == "success"


def test_an_api_that_keeps_failing_ends_the_demo(make_airflow) -> None:
    airflow = make_airflow(Unsteady(runs.API_TRIES, ApiError(500, "out of memory")))
    with pytest.raises(runs.RunError, match=r"5 times in a row: Airflow answers 500: out of memory; see .*api-server"):
        runs.follow(airflow, runs.DAG_ID, "demo_1")


def airflow_with_import_error(make_airflow, timestamp: str) -> LocalAirflow:
    problem = {"filename": "dags/x.py", "stack_trace": "ProfileError: base: missing key", "timestamp": timestamp}
    answers = {"/dags": {"dags": []}, "/importErrors": {"import_errors": [problem]}}
    return make_airflow(FakeApi([], "failed", answers))


def test_broken_dag_file_is_reported(make_airflow) -> None:
    airflow = airflow_with_import_error(make_airflow, "2026-01-01T12:00:03Z")
    with pytest.raises(runs.RunError, match=r"dags/x\.py cannot be imported:\nProfileError: base: missing key"):
        runs.wait_for_dag(airflow, runs.DAG_ID)


def test_import_error_of_an_earlier_start_is_no_reason_to_stop(make_airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PARSE_TIMEOUT_S", 0)
    airflow = airflow_with_import_error(make_airflow, "2026-01-01T11:59:59Z")
    with pytest.raises(runs.RunError, match="has not found the DAG"):
        runs.wait_for_dag(airflow, runs.DAG_ID)
