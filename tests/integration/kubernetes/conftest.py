"""Gangs of tiny pods in a namespace of a real cluster.

All tests wait for the command TOPOSIEVE_TEST_IMAGES_READY, those too that need none of our images: to load these keeps
the nodes' disks busy, for longer than a gang may take to start.
"""

import asyncio
import json
import os
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import TaskDeferred
from kubernetes.client.exceptions import ApiException
from kubernetes.client.rest import RESTClientObject

from support.airflow_environment import CONFIG_FOLDER
from support.cluster import PATIENCE_S, Namespace, new_namespace, sick_nodes, wait_for
from support.failures import remember_failure
from support.kubernetes_gangs import TaskInstance, workers_heard
from support.proven_faults import digest, prove, proven
from toposieve_airflow.kubernetes.gang import trigger
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator

IMAGE = os.environ.get("TOPOSIEVE_TEST_IMAGE", "localhost/base:1")
FAULTS_VARIABLE = "TOPOSIEVE_TEST_FAULTS"
READY_VARIABLE = "TOPOSIEVE_TEST_IMAGES_READY"
DAYS = 14
"""In so many days each fault has had its turn: on a day that its name says, whatever other tests there are."""
PASSED = pytest.StashKey[bool]()

CONNECTION = {"conn_type": "kubernetes", "extra": {"kube_config_path": os.environ.get("KUBECONFIG")}}
os.environ["AIRFLOW_CONN_KUBERNETES_DEFAULT"] = json.dumps(CONNECTION)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the faults of other days that the code has borne, and all where no command does them, unless all are
    asked for."""
    for item in items:  # clients' connections end when they are collected, in the midst of whatever test
        item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning"))
    if config.getoption("--faults") == "all":
        return
    faults = [item for item in items if item.get_closest_marker("faults")]
    if FAULTS_VARIABLE in os.environ:
        today, known = datetime.now(UTC).toordinal() % DAYS, proven()
        others = [item for item in faults if zlib.crc32(item.name.encode()) % DAYS != today]
        faults = [item for item in others if known.get(item.nodeid) == digest(item.path)]
    config.hook.pytest_deselected(items=faults)
    items[:] = [item for item in items if item not in faults]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep which faults the code has borne, where all are asked for.

    A cluster that runs no pods any more when a test has failed is started anew, for the tests after it.
    """
    report = yield
    if report.failed and {FAULTS_VARIABLE, "KUBECONFIG"} <= os.environ.keys() and (sick := sick_nodes(IMAGE)):
        restart = subprocess.run([os.environ[FAULTS_VARIABLE], "restart"], capture_output=True, text=True)
        remember_failure(f"the cluster is started anew (exit code {restart.returncode}): {sick}\n{restart.stdout}")
    if report.when == "call":
        item.stash[PASSED] = report.passed
    asked = item.config.getoption("--faults") == "all" and item.get_closest_marker("faults")
    if report.when == "teardown" and report.passed and item.stash.get(PASSED, False) and asked:
        prove(item.nodeid, item.path)
    return report


def pytest_runtest_setup() -> None:
    images_are_there()


@cache
def images_are_there() -> None:
    """Wait for our images, before the first test."""
    if subprocess.run(os.environ.get(READY_VARIABLE, "true"), shell=True).returncode != 0:
        pytest.exit(f"the cluster has not got our images: {READY_VARIABLE} says so", returncode=1)


@dataclass
class Run:
    """A task that runs in a thread of its own; what it defers to, it waits for as Airflow would."""

    operator: TFSpawnerOperator
    task: TaskInstance
    lines: list[str] = field(default_factory=list)
    error: BaseException | None = None
    ended_at: float = 0.0
    deferrals: int = 0

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._execute, daemon=True)

    def _execute(self) -> None:
        with workers_heard(self.operator.log):
            try:
                self._run()
            except Exception as error:  # told to the test
                self.error = error
        self.ended_at = time.monotonic()

    def _run(self) -> None:
        go_on: Callable[[], Any] = partial(self.operator.execute, self.task.context())
        while True:
            try:
                return go_on()
            except TaskDeferred as deferred:
                self.deferrals += 1
                event, method = fired(deferred.trigger), getattr(self.operator, deferred.method_name)
                go_on = partial(method, self.task.context(), event, **deferred.kwargs)

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


@contextmanager
def unauthorized() -> Iterator[None]:
    """Let the API server know nobody while the block lasts, as when a token has lapsed."""

    def refuse(*_: Any, **__: Any) -> None:
        error = ApiException(status=401, reason="Unauthorized")
        error.body = b"{}"
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RESTClientObject, "request", refuse)
        yield


def fired(deferred_to: trigger.GangStartTrigger) -> dict[str, Any]:
    """What a trigger that has gone through the database tells in the end."""
    _, arguments = deferred_to.serialize()
    made = trigger.GangStartTrigger(**json.loads(json.dumps(arguments)))

    async def fire() -> dict[str, Any]:
        return (await anext(made.run())).payload

    return asyncio.run(fire())


@pytest.fixture(autouse=True)
def no_airflow_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "SETTLED_S", 0)


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """A namespace that takes only restricted pods."""
    with new_namespace("gangs") as made:
        yield made


@pytest.fixture
def slots(namespace: Namespace) -> Iterator[str]:
    """A resource of which one node has two."""
    name = namespace.core.list_node().items[0].metadata.name
    path = "/status/capacity/example.com~1slot"
    namespace.core.patch_node_status(name, [{"op": "add", "path": path, "value": "2"}])
    wait_for(lambda: "example.com/slot" in namespace.core.read_node(name).status.allocatable)
    yield "example.com/slot"
    namespace.core.patch_node_status(name, [{"op": "remove", "path": path}])


def new_run(operator: TFSpawnerOperator, run_id: str, try_number: int = 1, mortal: bool = False) -> Run:
    """One try of a task; a mortal one can :meth:`~Run.die`."""
    run = Run(operator, TaskInstance(run_id=run_id, task_id=operator.task_id, try_number=try_number))
    if mortal:
        operator._remove = lambda *_: None
    operator._cached_logger = Collector(run.lines)
    return run


def worker_pod() -> dict[str, Any]:
    """The pod that workers are made from, for a namespace without our chart; it asks for nothing."""
    pod: dict[str, Any] = yaml.safe_load((CONFIG_FOLDER / "gang-pod.yaml").read_text())
    del pod["spec"]["serviceAccountName"], pod["spec"]["containers"][0]["resources"]
    return pod


@pytest.fixture
def make_run(namespace: Namespace, request: pytest.FixtureRequest) -> Iterator[Callable[..., Run]]:
    """Make a task whose workers run a Python text; nothing of it may be left when the test ends."""

    def make(text: str, workers: int = 2, try_number: int = 1, mortal: bool = False, **options: Any) -> Run:
        settings = {
            "task_id": "train",
            "pod_template_dict": worker_pod(),
            "namespace": namespace.name,
            "image": IMAGE,
            "image_pull_policy": "IfNotPresent",
            "cmds": ["python3", "-u", "-c"],
            "arguments": [text],
            "workers": workers,
            "startup_timeout_seconds": 60,
            "poll_interval": 0.5,
        }
        operator = TFSpawnerOperator(**{**settings, **options})
        return new_run(operator, request.node.name, try_number, mortal)

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
