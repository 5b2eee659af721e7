"""The operator of Spark jobs on a cluster: what a failure says, and that nothing stays behind."""

import json
import multiprocessing
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.charts import RELEASE
from support.cluster import CONTAINER_SECURITY, OURS, PATIENCE_S, Namespace, wait_for
from support.kubernetes_gangs import TaskInstance
from support.small_cluster import chart_profile
from toposieve_airflow.contract.step import STEP_VERSION
from toposieve_airflow.kubernetes.api import watching
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.spark import driver as spark_driver
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.kubernetes.tasks import KubernetesTasks
from toposieve_airflow.kubernetes.teardown import RunTeardownOperator
from toposieve_airflow.profile import parse_profile
from toposieve_airflow.runs.params import ConfigurationSchema

from ..conftest import IMAGE, Collector, fault, new_run, unauthorized

OWN_BASE = ("--base", "/data/simulated")
SLOW = {"samples": ["wjets"], "selected_events": 100_000, "pileup": 0.0}


@pytest.fixture(autouse=True)
def environment(namespace: Namespace) -> Iterator[None]:
    """Connections and Java for spark-submit here; what a task adds to its process's environment goes again."""
    before = dict(os.environ)
    java = subprocess.run(
        [REPOSITORY / ".venv-jobs/bin/python", "-m", "toposieve.spark.java"], capture_output=True, text=True, check=True
    )
    host = f"k8s://{namespace.core.api_client.configuration.host}"
    connection = {"conn_type": "spark", "host": host, "extra": {"deploy-mode": "cluster"}}
    os.environ["JAVA_HOME"] = java.stdout.strip()
    os.environ["AIRFLOW_CONN_SPARK_KUBERNETES"] = json.dumps(connection)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tasks(namespace: Namespace) -> KubernetesTasks:
    """The tasks of the chart's profile."""
    profile = parse_profile(chart_profile(namespace), Path("test.yaml"), REPOSITORY)
    return KubernetesTasks(profile, ConfigurationSchema.load(CONFIG_FOLDER))


@pytest.fixture
def make_operator(tasks: KubernetesTasks, namespace: Namespace) -> Iterator[Callable[..., SparkOnKubernetesOperator]]:
    """Make the operator of a job; nothing of it may be left when the test ends."""

    def make(task_id: str, *arguments: str, config: dict[str, Any], **conf: str) -> SparkOnKubernetesOperator:
        command = ["--base", "/data", "--config", json.dumps(config), *arguments]
        step = {"inputs": [], "outputs": [], "config": {}, "files": [], "arguments": command}
        step |= {"version": STEP_VERSION, "label": "", "workers": 1, "run_in_log": False}
        options = tasks._spark(task_id)
        operators.append(SparkOnKubernetesOperator(**options | {"conf": options["conf"] | conf}, step=step))
        return operators[-1]

    operators: list[SparkOnKubernetesOperator] = []
    yield make
    for operator in operators:  # the provider's hook leaves the pipe open, which is a warning in a long-lived process
        if operator._hook is not None and operator._hook._submit_sp is not None:
            operator._hook._submit_sp.stdout.close()
    wait_for(lambda: not namespace.names("pod", OURS))


def context(task_id: str, **instance: Any) -> dict[str, Any]:
    return TaskInstance(task_id=task_id, **instance).context()


def started(namespace: Namespace, operator: SparkOnKubernetesOperator) -> tuple[threading.Thread, list[BaseException]]:
    """The operator at work in a thread, its executor running; and the error that it ends with."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            operator.execute(context(operator.task_id))
        except AirflowException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: namespace.names("pod", f"{OURS},spark-role=executor") or not thread.is_alive())
    assert thread.is_alive(), errors
    return thread, errors


def test_bad_input_is_said_in_the_jobs_own_words_and_not_retried_though_a_side_car_runs_on(
    make_operator, tasks: KubernetesTasks, tmp_path: Path
) -> None:
    template = "spark.kubernetes.driver.podTemplateFile"
    pod = yaml.safe_load(Path(tasks._spark("ingest")["conf"][template]).read_text(encoding="utf-8"))
    side_car = {"name": "side-car", "image": IMAGE, "command": ["sleep", "600"], "securityContext": CONTAINER_SECURITY}
    pod["spec"]["containers"].append(side_car)
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    operator = make_operator("ingest", "--partition", "2030-01-01", config={}, **{template: str(tmp_path / "pod.yaml")})
    with pytest.raises(AirflowFailException, match="2030-01-01"):
        operator.execute(context("ingest"))


def test_an_image_that_does_not_exist_is_no_reason_to_wait(make_operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_driver, "BROKEN_S", 3.0)
    name = {"spark.kubernetes.container.image": "localhost/no-such-image:1"}
    operator = make_operator("ingest", "--partition", "2026-01-01", config={}, **name)
    with pytest.raises(AirflowException, match="the driver cannot start: its image cannot be pulled"):
        operator.execute(context("ingest"))


def test_a_driver_that_vanishes_fails_the_task(make_operator, namespace: Namespace) -> None:
    thread, errors = started(namespace, make_operator("simulate", *OWN_BASE, "--partition", "2026-02-01", config=SLOW))
    (driver,) = namespace.names("pod", f"{OURS},spark-role=driver")
    namespace.core.delete_namespaced_pod(driver, namespace.name, grace_period_seconds=0)
    thread.join(60)
    assert [type(error) for error in errors] == [AirflowException]


def test_a_driver_that_no_node_can_take_is_given_up_with_the_reason(make_operator) -> None:
    cores = {"spark.kubernetes.driver.request.cores": "1000"}
    operator = make_operator("ingest", "--partition", "2026-01-01", config={}, **cores)
    operator.startup_timeout_s = 10
    with pytest.raises(AirflowException, match=r"not started within 10 s: no node can take it: .*Insufficient cpu"):
        operator.execute(context("ingest"))


def test_a_gang_may_write_but_not_to_raw_data(tasks: KubernetesTasks) -> None:
    write = ["sh", "-c", "touch /data/by-a-gang && ls /data/raw && touch /data/raw/by-a-gang"]
    operator = TFSpawnerOperator(**tasks._gang("train") | {"image": IMAGE, "cmds": write, "jobs": None})
    run = new_run(operator, "raw").start().finish()
    assert {"wjets", "touch: cannot touch '/data/raw/by-a-gang': Read-only file system"} <= set(run.lines)


@pytest.mark.faults
def test_a_driver_whose_node_is_cut_off_is_given_up(make_operator, namespace: Namespace) -> None:
    thread, errors = started(namespace, make_operator("simulate", *OWN_BASE, "--partition", "2026-02-05", config=SLOW))
    (driver,) = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{OURS},spark-role=driver").items
    with fault(("cut-node", driver.spec.node_name), ("heal-node", driver.spec.node_name)):
        thread.join(PATIENCE_S)
        assert "the driver was lost with its node" in str(errors[0])
        assert not namespace.names("pod", f"{OURS},spark-role=driver")


def test_a_driver_whose_executors_never_come_is_given_up_with_the_reason(make_operator) -> None:
    cores = {"spark.kubernetes.executor.request.cores": "1000"}
    operator = make_operator("simulate", *OWN_BASE, "--partition", "2026-02-03", config=SLOW, **cores)
    operator.startup_timeout_s = 20
    with pytest.raises(AirflowException, match=r"no executor within 20 s: no node can take it: .*Insufficient cpu"):
        operator.execute(context("simulate"))


def test_the_next_try_takes_over_the_driver_of_a_killed_process_and_the_teardown_removes_what_it_leaves(
    make_operator, namespace: Namespace
) -> None:
    def left_by(try_number: int) -> str:
        operator = make_operator("simulate", *OWN_BASE, "--partition", "2026-02-04", config=SLOW)
        work = multiprocessing.get_context("fork").Process(
            target=operator.execute, args=(context("simulate", try_number=try_number),)
        )
        work.start()
        labels = f"{OURS},try_number={try_number},spark-role=driver"
        wait_for(lambda: namespace.names("pod", labels) and namespace.names("pod", f"{OURS},spark-role=executor"))
        work.kill()
        work.join()
        (driver,) = namespace.core.list_namespaced_pod(namespace.name, label_selector=labels).items
        return str(driver.metadata.uid)

    assert left_by(1) == left_by(2)
    teardown = RunTeardownOperator(
        task_id="clean_up", namespace=namespace.name, kubernetes_conn_id="kubernetes_default"
    )
    teardown.execute(TaskInstance(task_id="clean_up", run_id="another").context())
    assert namespace.names("pod", f"{OURS},spark-role=executor")
    teardown.execute(context("clean_up"))
    assert not namespace.names("pod", OURS)


def test_lapsed_credentials_cost_a_driver_nothing_and_killing_the_task_removes_it_with_its_executors(
    make_operator, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCH_S", 1)  # what is open already is not refused
    operator, lines = make_operator("simulate", *OWN_BASE, "--partition", "2026-02-02", config=SLOW), list[str]()
    operator._cached_logger = Collector(lines)
    thread, errors = started(namespace, operator)
    with unauthorized():
        wait_for(lambda: any("trying again: HTTP 401" in line for line in lines))
    wait_for(lambda: any("the API server answers again" in line for line in lines))
    assert thread.is_alive(), errors
    (executor,) = namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{OURS},spark-role=executor").items
    assert executor.spec.service_account_name == f"{RELEASE}-training"
    assert not any(volume.projected for volume in executor.spec.volumes), "a token that nobody needs"
    operator.on_kill()
    thread.join(60)
    assert "ended from outside" in str(errors[0])
    assert not namespace.names("pod", OURS)
