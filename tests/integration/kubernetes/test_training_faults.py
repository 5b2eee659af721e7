"""Faults in real training: the next try ends with the results of an undisturbed run, and nothing is left behind."""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import V1Eviction, V1ObjectMeta, V1ResourceRequirements

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.charts import RELEASE
from support.cluster import OURS, Namespace
from support.cluster_training import TRAINING, write_small_dataset
from support.published import published_files
from support.releases import shared_folder, without
from support.rights import Right
from support.small_cluster import chart_profile, same_path, small_cluster
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.tasks import KubernetesTasks
from toposieve_airflow.profile import parse_profile
from toposieve_airflow.runs.params import ConfigurationSchema
from toposieve_airflow.runs.steps import Commands

from .conftest import Run, fault, new_run, wait_for
from .gang.test_failures import failed

LIMITS = {"cpu": "1", "memory": "2Gi"}
IMPATIENT: dict[str, Any] = {"startup_timeout_seconds": 8, "waiting_timeout": timedelta(seconds=1)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every pod sees, with a dataset in it."""
    made = shared_folder(tmp_path_factory.mktemp("storage"))
    write_small_dataset(made / "dataset")
    return made


@pytest.fixture(scope="module")
def namespace(folder: Path) -> Iterator[Namespace]:
    with small_cluster("training", same_path(folder)) as made:
        yield made


@dataclass
class Training:
    """The task ``train`` of the profile ``kubernetes``, with the rights that the chart gives, on a base of its own."""

    base: Path
    namespace: Namespace
    tasks: KubernetesTasks

    def start(self, try_number: int = 1, mortal: bool = False, **options: Any) -> Run:
        """Start a try, with ``options`` in place of the profile's."""
        params = {key: param.value for key, param in self.tasks.schema.stage_params(["training"]).items()}
        step = Commands(str(self.base), params | TRAINING, self.tasks.schema).train("d", "hlf", 60)
        kubeconfig = self.namespace.kubeconfig(f"{RELEASE}-runner", self.base / "kubeconfig")
        operator = TFSpawnerOperator(
            **self.tasks._gang("train") | {"config_file": str(kubeconfig), "step": step, "poll_interval": 0.5} | options
        )
        return new_run(operator, self.base.name, try_number, mortal).start()

    def in_epoch_2(self, **options: Any) -> Run:
        """A first try that is in the second epoch and has a checkpoint of it."""
        run = self.start(**options)
        run.wait_for_line("checkpoint at epoch 2")
        return run

    def pod(self, worker: int) -> str:
        return str(self.namespace.pod(worker).metadata.name)

    def results(self) -> dict[str, bytes]:
        """What the run has published: figures, history and weights."""
        (run,) = (self.base / "models" / "hlf").iterdir()
        files = published_files(run)
        with zipfile.ZipFile(files["model.keras"]) as model:
            weights = model.read("model.weights.h5")
        return {"weights": weights} | {name: files[name].read_bytes() for name in ("metrics.json", "history.json")}


@pytest.fixture(scope="module")
def make_training(folder: Path, namespace: Namespace) -> Callable[[str], Training]:
    profile = parse_profile(chart_profile(namespace), Path("test.yaml"), REPOSITORY)
    tasks = KubernetesTasks(profile, ConfigurationSchema.load(CONFIG_FOLDER))

    def make(name: str) -> Training:
        base = folder / name
        shutil.copytree(folder / "dataset", base / "datasets" / "d")
        base.chmod(0o777)
        return Training(base, namespace, tasks)

    return make


@pytest.fixture(scope="module")
def undisturbed(make_training: Callable[[str], Training]) -> dict[str, bytes]:
    """Results of a run without a fault."""
    training = make_training("undisturbed")
    assert training.start().finish().error is None
    return training.results()


def a_worker_killed(training: Training) -> Run:
    run = training.in_epoch_2()
    training.namespace.execute(training.pod(1), "sh", "-c", "kill -KILL -1")
    return run.finish()


def a_worker_deleted(training: Training) -> Run:
    run = training.in_epoch_2()
    training.namespace.core.delete_namespaced_pod(training.pod(1), training.namespace.name)
    return run.finish()


def the_chief_evicted(training: Training) -> Run:
    run = training.in_epoch_2()
    name, namespace = training.pod(0), training.namespace
    eviction = V1Eviction(metadata=V1ObjectMeta(name=name, namespace=namespace.name))
    namespace.core.create_namespaced_pod_eviction(name, namespace.name, eviction)
    return run.finish()


def a_node_cut_off(training: Training) -> Run:
    run = training.in_epoch_2()
    node = training.namespace.pod(1).spec.node_name
    with fault(("cut-node", node), ("heal-node", node)):
        run.finish()
        training.namespace.check_empty()
    training.namespace.wait_until_ready(node)
    return run


def a_kubelet_stopped(training: Training) -> Run:
    """The node's pods work on, though nobody hears of them any more."""
    run = training.in_epoch_2()
    node = training.namespace.pod(1).spec.node_name
    with fault(("stop-kubelet", node), ("start-kubelet", node)):
        run.finish()
    training.namespace.wait_until_ready(node)
    return run


def the_service_deleted(training: Training) -> Run:
    """The workers have found each other already."""
    run = training.in_epoch_2()
    (service,) = training.namespace.names("service", OURS)
    training.namespace.core.delete_namespaced_service(service, training.namespace.name)
    return run.finish()


def too_little_memory(training: Training) -> Run:
    return training.start(container_resources=V1ResourceRequirements(limits=LIMITS | {"memory": "200Mi"})).finish()


def no_node(training: Training) -> Run:
    return training.start(node_selector={"no-such": "node"}, **IMPATIENT).finish()


def no_image(training: Training) -> Run:
    return training.start(
        image="localhost/no-such-image:1", image_pull_policy="Never", broken_timeout_seconds=3
    ).finish()


def a_quota(training: Training) -> Run:
    core, namespace = training.namespace.core, training.namespace.name
    core.create_namespaced_resource_quota(namespace, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}})
    try:
        wait_for(lambda: core.read_namespaced_resource_quota("small", namespace).status.hard)
        return training.start(**IMPATIENT).finish()
    finally:
        core.delete_namespaced_resource_quota("small", namespace)


def a_right_missing(training: Training) -> Run:
    with without(training.namespace, "runner", Right("", "pods/log", "get")):
        return training.start().finish()


def the_task_killed(training: Training) -> Run:
    run = training.in_epoch_2()
    run.operator.on_kill()
    return run.finish()


def the_task_process_dead(training: Training) -> Run:
    training.in_epoch_2(mortal=True).die()
    run = training.start(try_number=2).finish()
    assert any(line.startswith("taking over gang") for line in run.lines)
    return run


def names_known_late(training: Training) -> Run:
    with fault(("stop-dns",), ("start-dns",)):
        run = training.start()
        run.wait_for_line("gang: waiting for")
    return run.finish()


def the_api_server_restarted(training: Training) -> Run:
    run = training.in_epoch_2()
    with fault(("stop-api",), ("start-api",)):
        run.wait_for_line("the API server does not answer")
    return run.finish()


@dataclass(frozen=True)
class Fault:
    """What happens to a first try.

    Args:
        happens: Makes the try and does it harm; returns it when it has ended.
        error: Part of the task's error; None if the try ends well all the same.
        retry: Whether Airflow is to try again by itself.
        resumes: Whether there is a checkpoint to go on from; None: that is a matter of time.
    """

    happens: Callable[[Training], Run]
    error: str | None = None
    retry: bool = True
    resumes: bool | None = False


QUICK = [Fault(a_worker_killed, "worker 1 failed with exit code 137 (ended by signal 9)", resumes=True)]
OTHERS = [
    Fault(a_worker_deleted, "worker 1 was deleted", resumes=True),
    Fault(the_chief_evicted, resumes=True),
    Fault(a_node_cut_off, resumes=True),
    Fault(a_kubelet_stopped, resumes=None),  # the training may be over before the node is missed
    Fault(the_service_deleted),
    Fault(too_little_memory, "was killed because it used more memory than its limit of 200Mi"),
    Fault(no_node, "no node can take it", retry=False),
    Fault(no_image, "its image is not on the node", retry=False),
    Fault(a_quota, "the namespace's quota leaves no room: exceeded quota: small", retry=False),
    Fault(a_right_missing, "lacks a right: the verb get on pods/log", retry=False),
    Fault(the_task_killed, "ended from outside", resumes=True),
    Fault(the_task_process_dead),
    Fault(names_known_late),
    Fault(the_api_server_restarted),
]
CASES = [
    *(pytest.param(each, id=each.happens.__name__) for each in QUICK),
    *(pytest.param(each, id=each.happens.__name__, marks=pytest.mark.faults) for each in OTHERS),
]


@pytest.mark.parametrize("case", CASES)
def test_a_fault_changes_no_result_and_leaves_nothing(
    case: Fault, make_training: Callable[[str], Training], undisturbed: dict[str, bytes]
) -> None:
    training = make_training(case.happens.__name__.replace("_", "-"))
    run = case.happens(training)
    training.namespace.check_empty()
    if case.error is not None:
        assert case.error in failed(run, retry=case.retry)
        run = training.start(try_number=2).finish()
        training.namespace.check_empty()
    assert run.error is None
    assert case.resumes in (None, any("resuming from" in line for line in run.lines))
    assert training.results() == undisturbed


@pytest.mark.faults
def test_two_gangs_that_race_for_one_node(
    make_training: Callable[[str], Training], slots: str, undisturbed: dict[str, bytes]
) -> None:
    """Neither can start while the other one holds a slot: one of them gives its own back, and waits."""
    resources = V1ResourceRequirements(requests={"cpu": "100m"}, limits=LIMITS | {slots: "1"})
    options = {"container_resources": resources}
    rivals = [make_training(f"rival-{number}") for number in range(2)]
    runs = [rival.start(startup_timeout_seconds=5, **options) for rival in rivals]
    assert [run.finish().error for run in runs] == [None, None]
    assert any("of 2 workers started within" in line for run in runs for line in run.lines)
    assert [rival.results() for rival in rivals] == [undisturbed, undisturbed]
    rivals[0].namespace.check_empty()
