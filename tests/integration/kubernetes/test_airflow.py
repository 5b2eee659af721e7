"""Gangs in a real Airflow: mapped, killed from the UI, cleared, and taken over when Airflow itself dies."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.local.airflow_home import AirflowHome, LocalAirflow, local_airflow
from toposieve_airflow.local.api import Api
from toposieve_airflow.local.demo import wait_for_dag
from toposieve_airflow.processes import free_ports
from toposieve_airflow.profiles import Profile, load_profile

from .conftest import CONNECTION, IMAGE, Namespace, wait_for

pytestmark = pytest.mark.faults

LONG = 60
"""Steps of half a second."""


@dataclass(frozen=True)
class Home(AirflowHome):
    """An Airflow that runs the DAG beside this file, and soon notices that a task's process is gone."""

    namespace: str = ""

    def environment(self, profile: Profile) -> dict[str, str]:
        return {
            **super().environment(profile),
            "PYTHONPATH": str(REPOSITORY / "plugins"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(CONNECTION),
            "TOPOSIEVE_TEST_NAMESPACE": self.namespace,
            "TOPOSIEVE_TEST_IMAGE": IMAGE,
        }


@dataclass
class GangsDag:
    """The DAG ``gangs`` in an Airflow."""

    airflow: LocalAirflow
    namespace: Namespace

    @property
    def api(self) -> Api:
        return self.airflow.api

    @property
    def home(self) -> AirflowHome:
        return self.airflow.home

    @property
    def scheduler(self) -> psutil.Process:
        return psutil.Process(self.airflow.components["scheduler"].pid)

    def start(self, run_id: str, steps: int) -> "GangsDag":
        self.run_id = run_id
        self.api.trigger("gangs", run_id, {"steps": steps})
        return self

    def wait(self) -> str:
        """State of the run once it has ended."""
        return str(wait_for(lambda: self._ended(), 240))

    def _ended(self) -> str | None:
        state = self.api.run_state("gangs", self.run_id)
        return state if state in ("success", "failed") else None

    def state(self, task_id: str) -> str:
        (task,) = [each for each in self.api.tasks("gangs", self.run_id) if each["task_id"] == task_id]
        return str(task["state"])

    def tries(self) -> list[int]:
        return [each["try_number"] for each in self.api.tasks("gangs", self.run_id) if each["task_id"] == "train"]

    def lines(self, map_index: int, try_number: int) -> list[str]:
        """Messages of a task's log."""
        path = self.home.task_log("gangs", self.run_id, "train", map_index, try_number)
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [str(record.get("event")) for record in records]

    def wait_for_line(self, text: str) -> None:
        """Wait until both gangs of the first try have logged something."""
        for index in range(2):
            wait_for(lambda index=index: any(text in line for line in self.lines(index, 1)), 120)


@pytest.fixture(scope="module")
def airflow(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    home = Home(tmp_path_factory.mktemp("airflow"), free_ports(1)[0], namespace.name)
    with local_airflow(home) as airflow:
        wait_for_dag(airflow, "gangs")
        airflow.api.unpause("gangs")
        yield airflow


@pytest.fixture
def gangs(airflow: LocalAirflow, namespace: Namespace) -> Iterator[GangsDag]:
    yield GangsDag(airflow, namespace)
    namespace.check_empty()


def steps(lines: list[str], worker: int) -> list[str]:
    start = f"[worker {worker}] step "
    return [line.removeprefix(start) for line in lines if line.startswith(start)]


def test_mapped_gangs(gangs: GangsDag) -> None:
    assert gangs.start("mapped", 4).wait() == "success"
    for index in range(2):
        assert steps(gangs.lines(index, 1), 1) == ["0", "1", "2", "3"]
    xcom = gangs.api.get(
        "/dags/gangs/dagRuns/mapped/taskInstances/train/xcomEntries/gang", map_index=1, deserialize=True
    )
    assert xcom["value"]["workers"] == {"0": "terminated", "1": "terminated"}


def test_marked_failed_while_it_runs(gangs: GangsDag) -> None:
    gangs.start("marked", LONG).wait_for_line("step 2")
    for index in range(2):
        body = {"new_state": "failed", "include_downstream": False}
        gangs.api.patch(f"/dags/gangs/dagRuns/marked/taskInstances/train/{index}", body)
    wait_for(lambda: not gangs.namespace.objects(), 30)
    assert gangs.wait() == "failed"
    assert gangs.tries() == [1, 1]
    assert gangs.state("clean_up") == "success"


def test_cleared_while_it_runs(gangs: GangsDag) -> None:
    gangs.start("cleared", 20).wait_for_line("step 2")
    body = {
        "dry_run": False,
        "dag_run_id": "cleared",
        "task_ids": ["train"],
        "only_failed": False,
        "only_running": True,
    }
    gangs.api.post("/dags/gangs/clearTaskInstances", body)
    assert gangs.wait() == "success"
    assert gangs.tries() == [2, 2]
    assert steps(gangs.lines(0, 2), 1) == [str(i) for i in range(20)]


def test_a_task_process_that_dies_is_followed_by_one_that_takes_over(gangs: GangsDag) -> None:
    gangs.start("crashed", LONG).wait_for_line("step 2")
    _kill(task for executor in gangs.scheduler.children() for task in executor.children())
    assert gangs.wait() == "success"
    _assert_taken_over(gangs)


def test_a_scheduler_that_dies_with_its_tasks(gangs: GangsDag) -> None:
    gangs.start("orphaned", LONG).wait_for_line("step 2")
    _kill([gangs.scheduler, *gangs.scheduler.children(recursive=True)])
    with (gangs.home.folder / "logs" / "second-scheduler.log").open("w") as log:
        command = [sys.executable, "-m", "airflow", "scheduler", "--skip-serve-logs"]
        environment = gangs.home.environment(load_profile(CONFIG_FOLDER))
        second = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            assert gangs.wait() == "success"
        finally:
            os.killpg(second.pid, signal.SIGTERM)
            second.wait(30)
    _assert_taken_over(gangs)


def _assert_taken_over(gangs: GangsDag) -> None:
    for index, try_number in enumerate(gangs.tries()):
        lines = gangs.lines(index, try_number)
        assert any(line.startswith("taking over gang") for line in lines)
        assert steps(lines, 1) == [str(i) for i in range(LONG)]


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        process.kill()
