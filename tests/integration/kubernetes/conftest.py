"""A namespace of a real cluster, whichever KUBECONFIG names, and gangs of tiny pods in it."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubernetes import client, config

import support.airflow_environment  # noqa: F401  makes the settings that airflow reads when it is imported
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.naming import short_hash
from toposieve_airflow.tf_spawner.manifests import GANG_LABEL, MANAGED_BY
from toposieve_airflow.tf_spawner.operator import TFSpawnerOperator

IMAGE = os.environ.get("TOPOSIEVE_TEST_IMAGE", "localhost/base:1")
FAULTS_VARIABLE = "TOPOSIEVE_TEST_FAULTS"
POLL_S = 0.2
PATIENCE_S = 60
GONE_S = 5
"""Seconds in which Kubernetes deletes a Service after the Job that owned it."""

OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())

CONNECTION = {"conn_type": "kubernetes", "extra": {"kube_config_path": os.environ.get("KUBECONFIG")}}
os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps(CONNECTION)


@dataclass
class Namespace:
    """What tests ask and do to the cluster, past the operator."""

    name: str
    core: client.CoreV1Api
    batch: client.BatchV1Api

    def objects(self) -> list[str]:
        """Names of everything that carries our labels."""
        lists = (
            self.batch.list_namespaced_job(self.name, label_selector=OURS),
            self.core.list_namespaced_pod(self.name, label_selector=OURS),
            self.core.list_namespaced_service(self.name, label_selector=OURS),
        )
        return [f"{type(each).__name__} {each.metadata.name}" for one in lists for each in one.items]

    def check_empty(self, seconds: float = GONE_S) -> None:
        """Check that nothing is left of any gang; what is left is removed, for the next test."""
        try:
            wait_for(lambda: not self.objects(), seconds)
        finally:
            self.sweep()

    def sweep(self) -> None:
        """Remove every gang."""
        for job in self.batch.list_namespaced_job(self.name, label_selector=OURS).items:
            self.batch.delete_namespaced_job(job.metadata.name, self.name, propagation_policy="Background")
        wait_for(lambda: not self.objects())

    def pod(self, worker: int) -> Any:
        """The pod of a worker, once it runs."""
        selector = f"{OURS},batch.kubernetes.io/job-completion-index={worker}"

        def find() -> Any:
            pods = self.core.list_namespaced_pod(self.name, label_selector=selector).items
            return next((pod for pod in pods if pod.status.phase == "Running"), None)

        return wait_for(find)


def wait_for(found: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What a function finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"{found} found nothing in {seconds} s"
        time.sleep(POLL_S)
    return result


@dataclass
class Run:
    """A task that runs in a thread of its own."""

    operator: TFSpawnerOperator
    task: TaskInstance
    lines: list[str] = field(default_factory=list)
    error: BaseException | None = None
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._execute, daemon=True)

    def _execute(self) -> None:
        try:
            self.operator.execute(self.task.context())
        except Exception as error:  # told to the test
            self.error = error
        self.ended_at = time.monotonic()

    def start(self) -> "Run":
        self._thread.start()
        return self

    def finish(self, seconds: float = PATIENCE_S) -> "Run":
        """Wait for the end."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the task does not end; its log:\n" + "\n".join(self.lines)
        return self

    def die(self) -> None:
        """End the task of a mortal run as if its process had been killed: nothing is cleaned up."""
        self.operator._feed.cancel(RuntimeError("killed"))
        self.finish()

    def wait_for_line(self, text: str, seconds: float = PATIENCE_S) -> None:
        """Wait for a line of the task's log."""
        wait_for(lambda: any(text in line for line in self.lines) or not self._thread.is_alive(), seconds)
        assert any(text in line for line in self.lines), f"ended ({self.error}) without {text!r}: {self.lines}"

    def worker_lines(self, worker: int) -> list[str]:
        start = f"[worker {worker}] "
        return [line.removeprefix(start) for line in self.lines if line.startswith(start)]


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """A namespace that takes only restricted pods."""
    config.load_kube_config(os.environ["KUBECONFIG"])
    core = client.CoreV1Api()
    name = f"toposieve-test-{short_hash([os.getpid(), time.time()])}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    wait_for(lambda: core.list_namespaced_service_account(name).items)
    yield Namespace(name, core, client.BatchV1Api())
    core.delete_namespace(name)


@pytest.fixture
def make_run(namespace: Namespace, request: pytest.FixtureRequest) -> Iterator[Callable[..., Run]]:
    """Make a task whose workers run a Python text; nothing of it may be left when the test ends."""

    def make(text: str, workers: int = 2, try_number: int = 1, mortal: bool = False, **options: Any) -> Run:
        settings = {
            "task_id": "train",
            "namespace": namespace.name,
            "image": IMAGE,
            "image_pull_policy": "IfNotPresent",
            "cmds": ["python3", "-u", "-c"],
            "arguments": [text],
            "workers": workers,
            "startup_timeout_seconds": 60,
        }
        operator = TFSpawnerOperator(**{**settings, **options})
        task = TaskInstance(run_id=request.node.name, task_id=operator.task_id, try_number=try_number)
        run = Run(operator, task)
        if mortal:
            operator._remove = lambda gang: None
        operator._cached_logger = Collector(run.lines)
        return run

    yield make
    namespace.check_empty()


class Collector:
    """A logger that keeps its lines."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def info(self, message: str, *arguments: Any) -> None:
        self._lines.append(str(message) % arguments if arguments else str(message))
        print(f"{time.strftime('%H:%M:%S')} {self._lines[-1]}")

    warning = error = exception = debug = info


@contextmanager
def fault(cut: tuple[str, ...], heal: tuple[str, ...]) -> Iterator[None]:
    """Do something to the cluster itself, and undo it."""
    assert FAULTS_VARIABLE in os.environ, f"set {FAULTS_VARIABLE} to a command like .ci/cluster-fault"
    command = os.environ[FAULTS_VARIABLE]
    subprocess.run([command, *cut], check=True)
    try:
        yield
    finally:
        subprocess.run([command, *heal], check=True)


def gang_label(pod: Any) -> str:
    return str(pod.metadata.labels[GANG_LABEL])
