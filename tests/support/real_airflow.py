"""A real Airflow with a profile of the test's own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.local.airflow_home import AirflowHome, LocalAirflow, check_port, local_airflow
from toposieve_airflow.local.api import Api
from toposieve_airflow.local.demo import wait_for_dag
from toposieve_airflow.processes import free_ports
from toposieve_airflow.profiles import PROFILE_VARIABLE, Profile, load_profile

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
    "preparation_streams": 2,
    "evaluation_bootstrap_samples": 10,
}
RUN_TIMEOUT_S = 1200
POLL_S = 0.5


@dataclass
class RealAirflow:
    local: LocalAirflow
    profile: Profile

    @property
    def api(self) -> Api:
        return self.local.api

    @property
    def base(self) -> Path:
        return self.profile.base

    def run(self, dag_id: str, run_id: str, conf: dict[str, Any], partition_key: str | None = None) -> str:
        """Trigger a DAG and wait for the end of its run; returns the run's state."""
        self.api.unpause(dag_id)
        self.api.trigger(dag_id, run_id, conf, partition_key)
        return self.wait(dag_id, run_id)

    def wait(self, dag_id: str, run_id: str) -> str:
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while (state := self.api.run_state(dag_id, run_id)) not in ("success", "failed"):
            assert time.monotonic() < deadline, f"{dag_id} {run_id} is still {state}"
            time.sleep(POLL_S)
        return state

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self.api.get(f"/dags/{dag_id}/dagRuns")["dag_runs"]


def processes_of(home: AirflowHome) -> list[str]:
    """Airflow's processes that live in a home, and those of the jobs that they have started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get("AIRFLOW_HOME") == str(home.folder):
                found.append(str(process))
    return found


@contextmanager
def real_airflow(folder: Path, profile: dict[str, Any]) -> Iterator[RealAirflow]:
    """Run Airflow in ``folder`` with the values of a profile; nothing of it may run when the block has ended."""
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    os.environ[PROFILE_VARIABLE] = str(folder / "profile.yaml")
    home = AirflowHome(folder / "home", free_ports(1)[0])
    try:
        with local_airflow(home) as local:
            for dag_id in ("topology_classifier", "build_dataset", "simulate_events"):
                wait_for_dag(local, dag_id)
            yield RealAirflow(local, load_profile(CONFIG_FOLDER))
        check_port(home.port)
        assert not processes_of(home)
    finally:
        del os.environ[PROFILE_VARIABLE]
