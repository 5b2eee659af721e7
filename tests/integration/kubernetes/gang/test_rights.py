"""The rights that the operators need, no more and no less: without any one of them the task fails and names it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowFailException
from kubernetes import client

from support.cluster import pod_spec
from support.kubernetes_gangs import TaskInstance
from support.rights import GANG, SCRIPT, SPARK_OPERATOR, Right, rules
from toposieve_airflow.kubernetes.api import watching
from toposieve_airflow.kubernetes.api.ownership import DIGEST_LABEL
from toposieve_airflow.kubernetes.spark.driver import DriverWatch
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

from ..conftest import IMAGE, Namespace, Run, fault, wait_for
from .test_failures import COUNT, STEPS, WAIT

FORCE = Right("", "pods", "delete")
"""Only a pod that its node no longer ends is deleted by force."""

ADOPT, REMOVE = Right("batch", "jobs", "patch"), Right("batch", "jobs", "delete")
"""Needed for what an earlier try has left; what cannot be removed in the end is left to the next try."""


@pytest.fixture
def account(namespace: Namespace, tmp_path: Path) -> Callable[..., str]:
    """A kubeconfig of a service account that has all rights but one."""

    def make(needed: list[Right], missing: Right | None = None, name: str | None = None) -> str:
        name = name or f"without-{missing or 'nothing'}-{len(needed)}"
        meta = {"metadata": {"name": name}}
        rights = client.RbacAuthorizationV1Api(namespace.core.api_client)
        namespace.core.create_namespaced_service_account(namespace.name, meta)
        rights.create_namespaced_role(namespace.name, {**meta, "rules": rules(set(needed) - {missing})})
        binding = {
            **meta,
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}],
            "roleRef": {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
        }
        rights.create_namespaced_role_binding(namespace.name, binding)
        return str(namespace.kubeconfig(name, tmp_path / "kubeconfig"))

    return make


def test_these_rights_are_enough(make_run, account: Callable[..., str]) -> None:
    run: Run = make_run("print('up')", config_file=account(GANG)).start().finish()
    assert run.error is None
    assert run.worker_lines(1) == ["up"]


@pytest.mark.parametrize("missing", [right for right in GANG if right not in (FORCE, ADOPT, REMOVE)], ids=str)
def test_without_one_of_them_the_task_fails_and_names_it(
    make_run, account: Callable[..., str], missing: Right, namespace: Namespace
) -> None:
    run: Run = make_run("import time; time.sleep(2)", config_file=account(GANG, missing)).start().finish()
    check_names(run.error, missing)
    namespace.sweep()  # without the right to delete or to look, something is left


@pytest.fixture
def script(tmp_path: Path) -> dict[str, str]:
    """A script, and variables for it."""
    for name, text in (("mine.py", "print('up')"), ("env", "A=b")):
        (tmp_path / name).write_text(text)
    return {"script": str(tmp_path / "mine.py"), "environment_file": str(tmp_path / "env")}


@pytest.mark.parametrize("missing", [None, *SCRIPT], ids=str)
def test_a_script_needs_two_more(
    make_run, account: Callable[..., str], script: dict[str, str], missing: Right | None, namespace: Namespace
) -> None:
    name = f"script-without-{missing or 'nothing'}"
    options = {"cmds": [], "arguments": [], "config_file": account([*GANG, *SCRIPT], missing, name), **script}
    run: Run = make_run("", **options).start().finish()
    if missing is None:
        assert run.error is None
    else:
        check_names(run.error, missing)


@pytest.mark.parametrize(("missing", "text"), [(ADOPT, WAIT), (REMOVE, "print('other work')")], ids=str)
def test_without_the_right_to_what_an_earlier_try_has_left_the_next_one_fails_and_names_it(
    make_run, account: Callable[..., str], missing: Right, text: str, namespace: Namespace
) -> None:
    left: Run = make_run(WAIT, mortal=True).start()
    uid = namespace.pod(0).metadata.uid
    left.die()
    run: Run = make_run(text, try_number=2, config_file=account(GANG, missing)).start().finish()
    check_names(run.error, missing)
    assert namespace.pod(0).metadata.uid == uid
    namespace.sweep()


def test_without_the_right_to_delete_jobs_what_was_done_is_done_and_the_right_is_named(
    make_run, account: Callable[..., str], namespace: Namespace
) -> None:
    run: Run = make_run("print('up')", config_file=account(GANG, REMOVE, "no-end")).start().finish()
    assert run.error is None
    assert any(in_words_of(REMOVE) in line for line in run.lines)
    namespace.sweep()


def test_rights_that_are_taken_away_for_a_while_cost_a_running_gang_nothing(
    make_run, account: Callable[..., str], namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCH_S", 1)  # what is open already is not refused
    rbac = client.RbacAuthorizationV1Api(namespace.core.api_client)
    run: Run = make_run(COUNT, config_file=account(GANG, None, "for-a-while")).start()
    run.wait_for_line("[worker 1] step 1")
    binding = rbac.read_namespaced_role_binding("for-a-while", namespace.name)
    binding.metadata.resource_version = None
    rbac.delete_namespaced_role_binding("for-a-while", namespace.name)
    run.wait_for_line("trying again: HTTP 403")
    rbac.create_namespaced_role_binding(namespace.name, binding)
    assert run.finish().error is None
    for worker in range(2):
        assert run.worker_lines(worker) == [f"step {i}" for i in range(STEPS)]
    assert any("the API server answers again" in line for line in run.lines)


@pytest.mark.faults
def test_without_the_right_to_delete_pods_that_of_a_lost_node_is_named(
    make_run, account: Callable[..., str], namespace: Namespace
) -> None:
    run: Run = make_run("import time; time.sleep(600)", config_file=account(GANG, FORCE)).start()
    node = namespace.pod(1).spec.node_name
    with fault(("cut-node", node), ("heal-node", node)):
        check_names(run.finish().error, FORCE)
    namespace.wait_until_ready(node)


SPARK_ADOPT = Right("", "pods", "patch")


@pytest.mark.parametrize(
    "missing", [right for right in SPARK_OPERATOR if right.resource == "pods" and right != SPARK_ADOPT], ids=str
)
def test_without_one_of_them_a_spark_task_fails_before_it_submits(
    spark_operator: SparkOnKubernetesOperator, left_driver: str, account: Callable[..., str], missing: Right
) -> None:
    connect(account(SPARK_OPERATOR, missing))
    with pytest.raises(AirflowFailException) as refused:
        spark_operator.submit(TaskInstance().context())
    check_names(refused.value, missing)


def test_without_the_right_to_adopt_what_an_earlier_try_has_left_a_spark_task_fails_and_names_it(
    spark_operator: SparkOnKubernetesOperator, left_driver: str, account: Callable[..., str], namespace: Namespace
) -> None:
    metadata = {"labels": {"spark-role": "driver", DIGEST_LABEL: spark_operator._digest}}
    namespace.core.patch_namespaced_pod("left", namespace.name, {"metadata": metadata})
    connect(account(SPARK_OPERATOR, SPARK_ADOPT))
    with pytest.raises(AirflowFailException) as refused:
        spark_operator.submit(TaskInstance().context())
    check_names(refused.value, SPARK_ADOPT)


def test_a_driver_whose_log_may_not_be_read_is_said_to_be_one(
    spark_operator: SparkOnKubernetesOperator, left_driver: str, account: Callable[..., str]
) -> None:
    (missing,) = [right for right in SPARK_OPERATOR if right.resource == "pods/log"]
    connect(account(SPARK_OPERATOR, missing))
    lines: list[str] = []
    with DriverWatch(spark_operator._pods(), left_driver, lines.append, lambda: None):
        wait_for(lambda: any(in_words_of(missing) in line for line in lines))


def check_names(error: BaseException | None, missing: Right) -> None:
    assert isinstance(error, AirflowFailException)
    assert in_words_of(missing) in str(error)


def in_words_of(missing: Right) -> str:
    return f"lacks a right: the verb {missing.verb} on {missing.resource}"


@pytest.fixture
def spark_operator(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> SparkOnKubernetesOperator:
    """An operator of a Spark job that a driver of an earlier try stands in the way of."""
    options = {"namespace": namespace.name, "kubernetes_conn_id": "limited", "step": None, "startup_timeout_s": 60}
    options["jobs"] = JobsEnvironment("python")
    operator = SparkOnKubernetesOperator(task_id="ingest", **options)
    operator.name_pods(TaskInstance().context())
    return operator


@pytest.fixture
def left_driver(spark_operator: SparkOnKubernetesOperator, namespace: Namespace) -> Iterator[str]:
    """What an earlier try has left: a pod that takes its time to end; its selector."""
    selector = spark_operator._selector
    assert selector is not None
    key, value = selector.split("=")
    spec = pod_spec(IMAGE, command=["sleep", "60"])
    pod = {"metadata": {"name": "left", "labels": {key: value}}, "spec": spec}
    namespace.core.create_namespaced_pod(namespace.name, pod)
    yield selector
    namespace.core.delete_namespaced_pod("left", namespace.name, grace_period_seconds=0)
    wait_for(lambda: not namespace.core.list_namespaced_pod(namespace.name, label_selector=selector).items)


def connect(kubeconfig: str) -> None:
    extra = {"kube_config_path": kubeconfig}
    os.environ["AIRFLOW_CONN_LIMITED"] = json.dumps({"conn_type": "kubernetes", "extra": extra})
