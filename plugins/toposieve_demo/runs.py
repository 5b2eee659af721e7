"""Runs of the DAGs in the local Airflow: started, shown until they end, and what is said then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toposieve_airflow.profile import Profile
from toposieve_airflow.ui import REPORT_TAB
from toposieve_demo.airflow_home import SERVER, AirflowHome, LocalAirflow
from toposieve_demo.api import Api, ApiError
from toposieve_demo.progress import Display, TaskLine, errors, has_name, task_line

DAG_ID = "topology_classifier"
PUBLISHING_DAG_ID = "publish_model"
PARSE_TIMEOUT_S = 120
POLL_S = 1.0
API_TRIES = 5
TASK_ORDER = (
    "plan",
    "simulated_days",
    "simulate",
    "ingest",
    "select",
    "prepare",
    "searches",
    "tune",
    "searched",
    "train",
    "trees",
    "train_trees",
    "trained",
    "evaluate",
    "candidate",
    "approve",
    "publish",
    "export",
    "firmware",
    "make_firmware",
    "scored_days",
    "score",
)


class RunError(Exception):
    """A run cannot be started or followed; the message says why."""


def run_chain(airflow: LocalAirflow, profile: Profile, conf: Mapping[str, Any], prefix: str) -> str | None:
    """Run the whole chain, let the rules decide on its best model unless people are to, and show how it ends.

    Args:
        airflow: Where to run it.
        profile: The deployment profile.
        conf: The run's params that differ from the defaults.
        prefix: Of the run's name; earlier runs of this prefix that were cut off are closed.

    Returns:
        The folder of its report; None if it has failed.

    Raises:
        RunError: The DAG cannot be imported, or the API fails several times in a row.
        LocalAirflowError: A part of Airflow has ended.
    """
    run_id = _run(airflow, profile, DAG_ID, conf, prefix)
    if run_id is None:
        return None
    report = str(_pull(airflow.api, DAG_ID, run_id, "plan", "evaluate")["outputs"][0])
    decision = _decide(airflow, profile, report, prefix) if profile.approval.by_rules else ""
    _show_result(airflow.api, profile, run_id, report)
    if decision:
        print(decision)
    return None if decision is None else report


def _run(airflow: LocalAirflow, profile: Profile, dag_id: str, conf: Mapping[str, Any], prefix: str) -> str | None:
    """Trigger a DAG and follow its run to the end; returns the run's name, or None where it has failed, and says why.

    Raises:
        RunError: The DAG cannot be imported, or the API fails several times in a row.
        LocalAirflowError: A part of Airflow has ended.
    """
    wait_for_dag(airflow, dag_id)
    with airflow.api.unpaused(dag_id):
        _end_earlier_runs(airflow.api, dag_id, prefix)
        run_id = prefix + datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S")
        airflow.api.trigger(dag_id, run_id, conf)
        print(f"run {run_id} of {dag_id}; data in {from_here(profile.base)}\n", flush=True)
        try:
            state = follow(airflow, dag_id, run_id)
        except BaseException:
            with suppress(ApiError, OSError):  # the API may be what has failed
                airflow.api.end_run(dag_id, run_id)
            raise
    if state == "success":
        return run_id
    report_failure(airflow, dag_id, run_id)
    return None


def _decide(airflow: LocalAirflow, profile: Profile, report: str, prefix: str) -> str | None:
    """Let the rules decide on the best model of a report; returns what became of it, or None where that has failed."""
    print(flush=True)
    run_id = _run(airflow, profile, PUBLISHING_DAG_ID, {"report": report.rpartition("/")[2]}, prefix)
    if run_id is None:
        return None
    found = _pull(airflow.api, PUBLISHING_DAG_ID, run_id, "candidate", "return_value")
    unmet = [f"{rule['rule']} ({rule['found']})" for rule in found["rules"] if not rule["met"]]
    if found["version"] == found["published_version"]:
        outcome = "published before"
    else:
        outcome = f"not published, for not met are {'; '.join(unmet)}" if unmet else "published by the rules"
    return f"model: version {found['version']} ({found['label']}) of {found['name']}, {outcome}"


def wait_for_dag(airflow: LocalAirflow, dag_id: str) -> None:
    """Wait until Airflow knows a DAG.

    Raises:
        RunError: Its file cannot be imported, or it does not appear.
        LocalAirflowError: A part of Airflow has ended.
    """
    deadline = time.monotonic() + PARSE_TIMEOUT_S
    while dag_id not in {dag["dag_id"] for dag in airflow.api.get("/dags")["dags"]}:
        airflow.check()
        for problem in airflow.api.get("/importErrors")["import_errors"]:
            # An older one may be mended: its file has not been read again yet.
            if datetime.fromisoformat(problem["timestamp"]) >= airflow.started:
                raise RunError(f"{problem['filename']} cannot be imported:\n{problem['stack_trace']}")
        if time.monotonic() > deadline:
            raise RunError(f"Airflow has not found the DAG {dag_id} after {PARSE_TIMEOUT_S} s")
        time.sleep(0.5)


def follow(airflow: LocalAirflow, dag_id: str, run_id: str) -> str:
    """Show a run's tasks until it has ended; returns its state.

    Raises:
        RunError: The API fails several times in a row.
        LocalAirflowError: A part of Airflow has ended.
    """
    display = Display(sys.stdout)
    while True:
        state, lines = _progress(airflow, dag_id, run_id)
        display.update(lines, time.monotonic())
        if state in ("success", "failed"):
            return state
        time.sleep(POLL_S)


def _progress(airflow: LocalAirflow, dag_id: str, run_id: str) -> tuple[str, list[TaskLine]]:
    """State and tasks of a run; a busy machine may delay or spoil an answer."""
    problem: Exception | None = None
    for _ in range(API_TRIES):
        airflow.check()
        try:
            state = airflow.api.run_state(dag_id, run_id)
            return state, _lines(airflow, dag_id, run_id)
        except (ApiError, OSError) as error:
            problem = error
        time.sleep(POLL_S)
    log = airflow.home.log_file(SERVER)
    raise RunError(f"Airflow's API has failed {API_TRIES} times in a row: {problem}; see {log}")


def _lines(airflow: LocalAirflow, dag_id: str, run_id: str) -> list[TaskLine]:
    now = datetime.now(UTC)
    tasks = _tasks(airflow.api, dag_id, run_id)
    return [task_line(task, _log(airflow.home, dag_id, run_id, task), now) for task in tasks if has_name(task)]


def _tasks(api: Api, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    tasks = api.tasks(dag_id, run_id)
    order = {name: number for number, name in enumerate(TASK_ORDER)}
    return sorted(tasks, key=lambda task: (order.get(task["task_id"], len(order)), task["map_index"]))


def _log(home: AirflowHome, dag_id: str, run_id: str, task: Mapping[str, Any]) -> Path:
    return home.task_log(dag_id, run_id, task["task_id"], task["map_index"], max(task["try_number"], 1))


def _end_earlier_runs(api: Api, dag_id: str, prefix: str) -> None:
    """Close runs of this prefix that were cut off, so that they do not go on beside the next one."""
    for run in api.get(f"/dags/{dag_id}/dagRuns", state=["running", "queued"])["dag_runs"]:
        if run["dag_run_id"].startswith(prefix):
            api.end_run(dag_id, run["dag_run_id"])


def report_failure(airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
    """Print the errors of a run's failed tasks, and where their logs are."""
    for task in _tasks(airflow.api, dag_id, run_id):
        if task["state"] == "failed":
            log = _log(airflow.home, dag_id, run_id, task)
            print(f"\nerror: task {task['task_id']} failed: " + "\n".join(errors(log)), file=sys.stderr)
            print(f"log: {from_here(log)}", file=sys.stderr)


def _show_result(api: Api, profile: Profile, run_id: str, report: str) -> None:
    print(flush=True)
    print_table(profile, "table", f"{report}/metrics.json")
    print(f"\nreport: {from_here(f'{report}/report.html')}")
    print(f"in Airflow's UI: make airflow, then {api.url}/dags/{DAG_ID}/runs/{run_id}/plugin/{REPORT_TAB}")


def print_table(profile: Profile, module: str, *arguments: str) -> None:
    """Run a module of the evaluation that makes a table.

    Raises:
        RunError: It fails.
    """
    command = [str(profile.python), "-m", f"toposieve.evaluation.{module}", *arguments]
    if code := subprocess.run(command, env={**os.environ, **profile.job_environment()}).returncode:
        raise RunError(f"{' '.join(command)} ended with {code}")


def from_here(location: Path | str) -> str:
    """A path that is shorter to read, and to type, from the current folder; a URL as it is."""
    return str(location).removeprefix(f"{Path.cwd()}{os.sep}")


def _pull(api: Api, dag_id: str, run_id: str, task_id: str, key: str) -> dict[str, Any]:
    """What a task has told others."""
    value = api.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}")["value"]
    return dict(json.loads(value) if isinstance(value, str) else value)
