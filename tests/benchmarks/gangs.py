"""Training gangs of both profiles in turns, each as the task of a process of its own; prints what they took as JSON.

Runs in Airflow's environment, whose operators start the gangs; ``benchmarks.pods`` starts it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.cluster import Namespace
from support.kubernetes_gangs import TaskInstance, workers_heard
from support.releases import shared_folder
from support.small_cluster import MEMORY, chart_profile, same_path, small_cluster, workers_with
from toposieve_airflow.contract.step import STEP_VERSION
from toposieve_airflow.kubernetes.gang.manifests import GANG_LABEL
from toposieve_airflow.profile import parse_profile
from toposieve_airflow.runs.params import ConfigurationSchema

WORKERS, EPOCHS, TURNS = 2, 15, 3
FIRST_STEP = "first step done"


class Place(NamedTuple):
    """Where gangs run."""

    profile: dict[str, Any]
    namespace: Namespace | None = None


def main(dataset: Path) -> None:
    """Run the gangs, and print the times of each."""
    with tempfile.TemporaryDirectory(prefix="toposieve-gangs-") as folder, cluster(Path(folder)) as remote:
        places = {"local": Place(local_profile(Path(folder) / "local")), "kubernetes": remote}
        for place in places.values():
            shutil.copytree(dataset, Path(place.profile["base"]) / "datasets" / dataset.name)
        times: dict[str, list[dict[str, float]]] = {name: [] for name in places}
        for turn in range(1, TURNS + 1):
            for name, place in places.items():
                times[name].append(run_gang(place, dataset.name, turn))
                print(name, times[name][-1], file=sys.stderr, flush=True)
    print(json.dumps(times))


@contextmanager
def cluster(folder: Path) -> Iterator[Place]:
    """A namespace with our chart, where a worker gets the cores that it would have on this machine."""
    base = shared_folder(folder)
    worker = {"cpu": str(max(1, len(os.sched_getaffinity(0)) // WORKERS))} | MEMORY
    with small_cluster("bench", same_path(base), pods=workers_with(worker, worker)) as namespace:
        yield Place(chart_profile(namespace), namespace)


def local_profile(base: Path) -> dict[str, Any]:
    """The profile ``local`` with other data."""
    values: dict[str, Any] = yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())
    return values | {"base": str(base)}


def run_gang(place: Place, dataset: str, seed: int) -> dict[str, float]:
    """Train, and tell how long it took to the first step and for an epoch after the first."""
    started = time.time()
    news, own_end = multiprocessing.Pipe(duplex=False)
    task = multiprocessing.get_context("spawn").Process(target=run_task, args=(place.profile, dataset, seed, own_end))
    task.start()
    own_end.close()  # an end of the task without news is then an end of file
    times = {"first_step_s": news.recv() - started}
    if place.namespace is not None:
        times["container_start_s"] = container_start_s(place.namespace)
    task.join()
    (timing,) = Path(place.profile["base"]).glob("models/*/*/timing.json")
    times["epoch_s"] = statistics.median(json.loads(timing.read_text())["epoch_seconds"][1:])
    timing.unlink()
    return times


def container_start_s(namespace: Namespace) -> float:
    """Seconds from the first pod's creation until the last container of the gang ran, as Kubernetes tells them."""
    pods = namespace.core.list_namespaced_pod(namespace.name, label_selector=GANG_LABEL).items
    started = [pod.status.container_statuses[0].state.running.started_at for pod in pods]
    return float((max(started) - min(pod.metadata.creation_timestamp for pod in pods)).total_seconds())


def run_task(profile: dict[str, Any], dataset: str, seed: int, news: Connection) -> None:
    """Run a gang to its end as an Airflow task would; ``news`` gets the time of the first step."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": os.environ["KUBECONFIG"]}}
    os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps(connection)
    module = import_module(f"toposieve_airflow.{profile['operators']}.tasks")
    schema = ConfigurationSchema.load(CONFIG_FOLDER)
    tasks = module.TASKS(parse_profile(profile, Path("bench.yaml"), REPOSITORY), schema)
    operator = tasks.gang_operator(**tasks._gang("train"), step=step(profile["base"], dataset, seed))
    operator._cached_logger = FirstStep(news)
    with workers_heard(operator.log):
        operator.execute(TaskInstance(run_id=f"seed-{seed}").context())


def step(base: str, dataset: str, seed: int) -> dict[str, Any]:
    """What the task does."""
    config = {"epochs": EPOCHS, "patience": EPOCHS, "seed": seed}
    return {
        "version": STEP_VERSION,
        "arguments": ["--base", base, "--dataset", dataset, "--config", json.dumps(config)],
        "inputs": [],
        "outputs": [],
        "config": {},
        "files": [],
        "label": "",
        "run_in_log": False,
        "workers": WORKERS,
    }


class FirstStep:
    """A task's logger that tells when the first step is done."""

    def __init__(self, news: Connection) -> None:
        self._news: Connection | None = news

    def info(self, message: str, *arguments: Any) -> None:
        text = str(message) % arguments if arguments else str(message)
        print(text, file=sys.stderr, flush=True)
        if self._news is not None and FIRST_STEP in text:
            self._news.send(time.time())
            self._news = None

    warning = error = exception = debug = info


if __name__ == "__main__":
    main(Path(sys.argv[1]))
