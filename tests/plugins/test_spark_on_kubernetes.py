from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.config import ConfigException

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow import spark_job, spark_on_kubernetes
from toposieve_airflow.jobs_environment import JobsEnvironment
from toposieve_airflow.spark_on_kubernetes import SparkOnKubernetesOperator, run_labels
from toposieve_airflow.steps import Step
from toposieve_airflow.tf_spawner.cluster import Refused
from toposieve_airflow.tf_spawner.diagnosis import Failure, Remedy
from toposieve_airflow.tf_spawner.operator import TFSpawnerOperator


class Pods:
    """Keeps what is asked of it, in order."""

    def __init__(self, asked: list[str]) -> None:
        self._asked = asked

    def delete_pods(self, selector: str) -> None:
        self._asked.append(f"delete {selector}")

    def remove_pods(self, selector: str) -> None:
        self._asked.append(f"remove {selector}")


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def operator(
    step: Step, jobs: JobsEnvironment, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> SparkOnKubernetesOperator:
    made = SparkOnKubernetesOperator(
        task_id="ingest", namespace="here", kubernetes_conn_id="a", startup_timeout_s=1, step=step, jobs=jobs
    )
    monkeypatch.setattr(made, "_pods", lambda: Pods(asked))
    monkeypatch.setattr(spark_job, "end_children", lambda: asked.append("end spark-submit"))
    return made


@pytest.fixture
def submit(operator: SparkOnKubernetesOperator, monkeypatch: pytest.MonkeyPatch) -> Callable[[Failure | None], None]:
    """Run the operator; spark-submit ends badly, and this is known of the driver."""

    class Watch:
        failure: Failure | None = None

        def __init__(self, *arguments: Any) -> None:
            pass

        def __enter__(self) -> "Watch":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait_for_end(self) -> None:
            type(self).failure = failures[0]

        def in_words(self, failure: Failure) -> str:
            return f"the driver {failure.why}"

    def fail(self: object, context: object) -> None:
        raise AirflowException("spark-submit says so")

    def run(failure: Failure | None) -> None:
        failures.append(failure)
        operator.submit(TaskInstance(task_id="ingest").context())

    failures: list[Failure | None] = []
    monkeypatch.setattr(spark_on_kubernetes, "DriverWatch", Watch)
    monkeypatch.setattr(spark_job.SparkJobOperator, "submit", fail)
    return run


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_pods_carry_the_run_as_gangs_do_and_the_try(operator: SparkOnKubernetesOperator, role: str) -> None:
    task = TaskInstance(task_id="ingest", run_id="manual__2026-01-01T00:00:00+00:00", try_number=3)
    operator.name_pods(task.context())
    start = f"spark.kubernetes.{role}.label."
    labels = {key.removeprefix(start): value for key, value in operator.conf.items() if key.startswith(start)}
    of_gangs = TFSpawnerOperator._get_ti_pod_labels(task.context())
    for key in ("dag_id", "run_id", "try_number"):
        assert labels[key] == of_gangs[key]
    assert run_labels(task.context()) == {key: of_gangs[key] for key in ("dag_id", "run_id")}


def test_pods_of_another_airflow_have_other_names_and_labels(operator: SparkOnKubernetesOperator) -> None:
    found = []
    for instance in ("ours", "theirs"):
        operator.instance = instance
        operator.name_pods(TaskInstance().context())
        assert operator.conf["spark.kubernetes.driver.label.toposieve/instance"] == instance
        found.append((operator.conf["spark.kubernetes.driver.pod.name"], operator._selector))
    assert all(ours != theirs for ours, theirs in zip(*found, strict=True))


def test_a_try_has_the_selector_of_its_task(operator: SparkOnKubernetesOperator) -> None:
    selectors = set()
    for try_number in (1, 2):
        operator.name_pods(TaskInstance(try_number=try_number).context())
        selectors.add(operator._selector)
    assert len(selectors) == 1


def test_a_kill_first_asks_for_the_end_of_the_pods(operator: SparkOnKubernetesOperator, asked: list[str]) -> None:
    operator.name_pods(TaskInstance().context())
    operator.on_kill()
    selector = f"{operator._selector},try_number=1"
    assert asked == [f"delete {selector}", "end spark-submit", f"remove {selector}"]


def test_a_kill_removes_the_pods_though_the_provider_finds_no_cluster_around_it(
    operator: SparkOnKubernetesOperator, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise ConfigException("Service host/port is not set.")

    monkeypatch.setattr(spark_job.SparkJobOperator, "on_kill", fail)
    operator.name_pods(TaskInstance().context())
    operator.on_kill()
    selector = f"{operator._selector},try_number=1"
    assert asked == [f"delete {selector}", f"remove {selector}"]


def test_a_kill_before_the_start_has_no_pods_to_end(operator: SparkOnKubernetesOperator, asked: list[str]) -> None:
    operator.on_kill()
    assert asked == ["end spark-submit"]


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (None, AirflowException, "spark-submit says so"),
        (Failure("was evicted"), AirflowException, "the driver was evicted"),
        (Failure("cannot start", remedy=Remedy.NONE), AirflowFailException, "the driver cannot start"),
    ],
)
def test_what_is_known_of_the_driver_decides(
    submit: Callable[[Failure | None], None],
    operator: SparkOnKubernetesOperator,
    asked: list[str],
    failure: Failure | None,
    kind: type[AirflowException],
    words: str,
) -> None:
    with pytest.raises(AirflowException) as caught:
        submit(failure)
    assert type(caught.value) is kind
    assert str(caught.value) == words
    assert asked == [f"remove {operator._selector}", f"remove {operator._selector},try_number=1"]


def test_a_missing_right_is_no_reason_for_a_retry(
    operator: SparkOnKubernetesOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Pods, selector: str) -> None:
        raise Refused("runner lacks a right")

    monkeypatch.setattr(Pods, "remove_pods", refuse)
    with pytest.raises(AirflowFailException, match="lacks a right"):
        operator.submit(TaskInstance().context())
