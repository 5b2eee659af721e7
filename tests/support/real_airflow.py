"""A real Airflow with a profile of the test's own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.local.processes import end_sessions, free_ports
from toposieve_airflow.profile import PROFILE_VARIABLE, Profile, load_profile
from toposieve_demo.airflow_home import AirflowHome, LocalAirflow, check_port, components_for, local_airflow
from toposieve_demo.api import Api
from toposieve_demo.runs import wait_for_dag

DAGS = ("topology_classifier", "build_dataset", "simulate_events", "publish_model", "spawn_training")
SMALL_SIMULATION = {
    "simulation_selected_events": 24,
    "simulation_pileup": 0,
    "simulation_qcd_fast": True,
    "simulation_events_per_file": 40,
}
SMALL_TRAINING = {
    "models": ["hlf"],
    "workers": 2,
    "training_epochs": 2,
    "training_batch_size": 16,
    "evaluation_bootstrap_samples": 10,
}
RUN_TIMEOUT_S = 1200
POLL_S = 0.5
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 20


@dataclass(frozen=True)
class Home(AirflowHome):
    """An Airflow with settings on top of the local ones: environment variables of all its processes."""

    settings: Mapping[str, str] = field(default_factory=dict)

    def environment(self, profile: Profile) -> dict[str, str]:
        own = {"PYTHONPATH": str(REPOSITORY / "plugins")}  # wherever the environment's own link leads
        return {**super().environment(profile), **own, **self.settings}


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG in an Airflow."""

    airflow: LocalAirflow
    dag_id: str
    run_id: str

    def wait(self) -> str:
        """State of the run once it has ended."""
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while (state := self.airflow.api.run_state(self.dag_id, self.run_id)) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{self.dag_id} {self.run_id} is still {state}"
            time.sleep(POLL_S)
        return state

    def tasks(self, task_id: str) -> list[dict[str, Any]]:
        """Instances of a task."""
        tasks = [each for each in self.airflow.api.tasks(self.dag_id, self.run_id) if each["task_id"] == task_id]
        return sorted(tasks, key=lambda task: task["map_index"])

    def log(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Whole records in the log of the present try of a task instance, its triggers' among them."""
        instance = task["task_id"], task["map_index"], max(task["try_number"], 1)
        path = self.airflow.home.task_log(self.dag_id, self.run_id, *instance)
        parts = [part.read_text().splitlines(keepends=True) for part in path.parent.glob(f"{path.name}*")]
        return [json.loads(line) for lines in parts for line in lines if line.endswith("\n")]

    def lines(self, task: Mapping[str, Any]) -> list[str]:
        """Messages in the log of the present try of a task instance."""
        return [str(record.get("event")) for record in self.log(task)]

    def failures(self) -> str:
        """The ends of the logs of the tasks that have failed."""
        tasks = self.airflow.api.tasks(self.dag_id, self.run_id)
        return "\n".join(json.dumps(self.log(task))[-8000:] for task in tasks if task["state"] == "failed")

    def mark_failed(self, task: Mapping[str, Any]) -> None:
        """What the button in the UI does to a task instance."""
        path = f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task['task_id']}/{task['map_index']}"
        self.airflow.api.patch(path, {"new_state": "failed", "include_downstream": False})

    def clear(self, task_id: str, *map_indexes: int) -> None:
        """What the button in the UI does to these instances of a task, or to all of them."""
        body = {"dry_run": False, "dag_run_id": self.run_id, "only_failed": False}
        chosen = [[task_id, index] for index in map_indexes] or [task_id]
        self.airflow.api.post(f"/dags/{self.dag_id}/clearTaskInstances", {**body, "task_ids": chosen})


@dataclass
class RealAirflow:
    local: LocalAirflow
    profile: Profile

    @property
    def api(self) -> Api:
        return self.local.api

    @property
    def base(self) -> Path:
        return Path(self.profile.base)

    def start(self, dag_id: str, run_id: str, conf: dict[str, Any], partition_key: str | None = None) -> DagRun:
        """Trigger a DAG."""
        self.api.unpause(dag_id)
        self.api.trigger(dag_id, run_id, conf, partition_key)
        return DagRun(self.local, dag_id, run_id)

    def run(self, dag_id: str, run_id: str, conf: dict[str, Any], partition_key: str | None = None) -> str:
        """Trigger a DAG and wait for the end of its run; returns the run's state."""
        return self.start(dag_id, run_id, conf, partition_key).wait()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self.api.get(f"/dags/{dag_id}/dagRuns")["dag_runs"]

    def process(self, component: str) -> psutil.Process:
        """The first process of a component."""
        return psutil.Process(self.local.components[component].pid)

    def kill(self, component: str) -> None:
        """End a component and everything that it has started, without warning."""
        first = self.process(component)
        for process in [first, *first.children(recursive=True)]:
            process.kill()
        self.local.components[component].wait()

    @contextmanager
    def server_below(self, prefix: str) -> Iterator[str]:
        """A second API server, whose addresses begin with a path as behind a proxy; gives its URL."""
        home = replace(self.local.home, port=free_ports(1)[0])
        url = home.url + prefix
        environment = {**home.environment(self.profile), "AIRFLOW__API__BASE_URL": url}
        with home.log_file("second-api-server").open("a") as log:
            command = [sys.executable, "-m", "airflow", "api-server"]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while Api(url, "", "").health() is None:
                assert time.monotonic() < deadline
                time.sleep(POLL_S)
            yield url
        finally:
            end_sessions([process.pid], STOP_TIMEOUT_S)
            process.wait()

    def start_again(self, component: str) -> None:
        """Start a component that was killed; it ends with the others."""
        command = [sys.executable, "-m", "airflow", *components_for(self.profile)[component]]
        environment = self.local.home.environment(self.profile)
        with self.local.home.log_file(component).open("a") as log:
            again = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.local.components[component] = again


def processes_of(home: AirflowHome) -> list[str]:
    """Airflow's processes that live in a home, and those of the jobs that they have started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get("AIRFLOW_HOME") == str(home.folder):
                found.append(str(process))
    return found


@contextmanager
def real_airflow(
    folder: Path, profile: dict[str, Any], dags: Sequence[str] = DAGS, **settings: str
) -> Iterator[RealAirflow]:
    """Run Airflow in ``folder``; nothing of it may run when the block has ended.

    Args:
        folder: For its home and its profile.
        profile: Values of the profile.
        dags: What it has to know before the block begins.
        settings: Environment variables of all its processes.
    """
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    os.environ[PROFILE_VARIABLE] = str(folder / "profile.yaml")
    home = Home(folder / "home", free_ports(1)[0], settings)
    try:
        with local_airflow(home) as local:
            for dag_id in dags:
                wait_for_dag(local, dag_id)
            yield RealAirflow(local, load_profile(CONFIG_FOLDER))
        check_port(home.port)
        assert not processes_of(home)
    finally:
        del os.environ[PROFILE_VARIABLE]
