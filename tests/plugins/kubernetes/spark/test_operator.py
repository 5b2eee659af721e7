from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from support import kubernetes_gangs as objects
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.step import Step
from toposieve_airflow.kubernetes.api.cluster import Refused, StillThere
from toposieve_airflow.kubernetes.api.ownership import OWNER_ANNOTATION, run_labels
from toposieve_airflow.kubernetes.api.pod_state import Failure, Remedy
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.spark import operator as module
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.local import spark_job
from toposieve_airflow.runs.jobs_environment import JobsEnvironment


class Pods:
    """Pods of a cluster without one; keeps what is asked of it, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.there: list[dict[str, Any]] = []
        self.changes: list[Callable[[], None]] = []  # before a driver is adopted
        self.failure: Exception | None = None

    def drivers(self, selector: str) -> list[dict[str, Any]]:
        wanted = dict(part.split("=") for part in selector.split(","))
        return [each for each in self.there if wanted.items() <= each["metadata"]["labels"].items()]

    def adopt_driver(self, driver: dict[str, Any], ownership: dict[str, Any]) -> bool:
        self.asked.append(f"adopt {driver['metadata']['name']}")
        if self.changes:
            self.changes.pop()()
            return False
        for each in self.there:
            for key, value in ownership.items():
                each["metadata"][key] |= value
        return bool(self.there)

    def remove_pods(self, selector: str, owner: str | None = None) -> None:
        self.asked.append(f"remove {selector}")
        if owner is not None and self.failure is not None:
            raise self.failure


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def operator(
    step: Step, jobs: JobsEnvironment, pods: Pods, monkeypatch: pytest.MonkeyPatch
) -> SparkOnKubernetesOperator:
    made = new_operator(step, jobs)
    monkeypatch.setattr(SparkOnKubernetesOperator, "_pods", lambda self, **_: pods)
    monkeypatch.setattr(module, "end_children", lambda: pods.asked.append("end spark-submit"))
    return made


def new_operator(step: Step, jobs: JobsEnvironment, **options: Any) -> SparkOnKubernetesOperator:
    given = {"namespace": "here", "kubernetes_conn_id": "a", "startup_timeout_s": 1, "step": step, "jobs": jobs}
    return SparkOnKubernetesOperator(task_id="ingest", **given, **options)


def left(operator: SparkOnKubernetesOperator, state: dict[str, Any], **instance: Any) -> dict[str, Any]:
    """The driver that a try has left."""
    operator.name_pods(TaskInstance(task_id="ingest", **instance).context())
    conf = dict(operator.conf or {})
    labels = {
        key.removeprefix(start): value
        for start in ["spark.kubernetes.driver.label."]
        for key, value in conf.items()
        if key.startswith(start)
    }
    owner = {OWNER_ANNOTATION: conf[f"spark.kubernetes.driver.annotation.{OWNER_ANNOTATION}"]}
    name = conf["spark.kubernetes.driver.pod.name"]
    return objects.pod(0, state, name=name, labels=labels, annotations=owner, namespace="here")


@pytest.fixture
def submit(operator: SparkOnKubernetesOperator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the operator; this is known of the driver in the end, and of spark-submit."""

    class Watch:
        failure: Failure | None = None

        def __init__(self, pods: Pods, selector: str, *arguments: Any) -> None:
            pods.asked.append(f"follow {selector}")

        def wait(self) -> None:
            type(self).failure = failures[0]
            if killed:
                operator.on_kill()

        def cancel(self) -> None:
            pass

        def __enter__(self) -> "Watch":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def wait_for_end(self) -> None:
            type(self).failure = failures[0]

        def in_words(self, failure: Failure) -> str:
            return f"the driver {failure.why}"

    def start(self: SparkOnKubernetesOperator, context: Any) -> None:
        self._pods().asked.append("spark-submit")
        if errors:
            raise errors[0]

    def run(
        failure: Failure | None = None, error: Exception | None = None, kill: bool = False, **instance: Any
    ) -> None:
        failures.append(failure)
        errors.extend([error] if error else [])
        killed.extend([True] if kill else [])
        operator.submit(TaskInstance(task_id="ingest", **instance).context())

    failures: list[Failure | None] = []
    errors: list[Exception] = []
    killed: list[bool] = []
    monkeypatch.setattr(module, "DriverWatch", Watch)
    monkeypatch.setattr(spark_job.SparkJobOperator, "submit", start)
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
    assert run_labels(task) == {key: of_gangs[key] for key in ("dag_id", "run_id")}


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


def test_work_is_known_by_what_its_pod_template_says(step: Step, jobs: JobsEnvironment, tmp_path: Path) -> None:
    digests = []
    for place, text in (("one", "kind: Pod"), ("other", "kind: Pod"), ("third", "kind: Pod\nspec: {}")):
        template = tmp_path / place / "spark-pod.yaml"
        template.parent.mkdir()
        template.write_text(text)
        operator = new_operator(step, jobs)
        operator.conf = {**(operator.conf or {}), "spark.kubernetes.driver.podTemplateFile": str(template)}
        operator.name_pods(TaskInstance().context())
        digests.append(operator._digest)
    assert digests[0] == digests[1] != digests[2]


TASK = "toposieve/task=eb3b2537"
OWN = f"{TASK},toposieve/driver=ingest-eb3b2537-1"
SECOND = f"{TASK},toposieve/driver=ingest-eb3b2537-2"


def test_a_driver_is_made_followed_and_removed(submit: Callable[..., None], pods: Pods) -> None:
    submit()
    assert pods.asked == [f"remove {TASK}", f"follow {OWN}", "spark-submit", f"remove {OWN}"]


@pytest.mark.parametrize("state", [objects.running(), objects.waiting("ContainerCreating"), objects.terminated(0)])
def test_the_next_try_takes_the_driver_over(
    submit: Callable[..., None],
    operator: SparkOnKubernetesOperator,
    pods: Pods,
    step: Step,
    jobs: JobsEnvironment,
    state: dict[str, Any],
) -> None:
    pods.there = [left(new_operator(step, jobs), state)]
    submit(try_number=2)
    others = f"{TASK},toposieve/driver!=ingest-eb3b2537-1"
    assert pods.asked == ["adopt ingest-eb3b2537-1-driver", f"remove {others}", f"follow {OWN}", f"remove {OWN}"]


@pytest.mark.parametrize(
    ("state", "options"),
    [
        (objects.terminated(1), {}),
        (objects.running(), {"application": "another.py"}),
        (objects.running(), {"conf": {"spark.executor.cores": "8"}}),
    ],
)
def test_a_driver_that_has_failed_or_does_other_work_is_removed_first(
    submit: Callable[..., None],
    pods: Pods,
    step: Step,
    jobs: JobsEnvironment,
    state: dict[str, Any],
    options: dict[str, Any],
) -> None:
    pods.there = [left(new_operator(step, jobs, **options), state)]
    submit(try_number=2)
    assert pods.asked == [f"remove {TASK}", f"follow {SECOND}", "spark-submit", f"remove {SECOND}"]


@pytest.mark.parametrize("other", [{"airflow": "another"}, {"try_number": 2}])
def test_a_driver_of_no_earlier_try_is_left_alone(
    submit: Callable[..., None], pods: Pods, step: Step, jobs: JobsEnvironment, other: dict[str, Any]
) -> None:
    pods.there = [left(new_operator(step, jobs), objects.running(), **other)]
    with pytest.raises(AirflowFailException, match="-driver is there already and is another task's"):
        submit()
    assert pods.asked == []


def test_a_driver_that_fails_while_it_is_taken_over_is_made_anew(
    submit: Callable[..., None], pods: Pods, step: Step, jobs: JobsEnvironment
) -> None:
    pods.there = [left(new_operator(step, jobs), objects.running())]
    pods.changes = [lambda: pods.there[0].update(left(new_operator(step, jobs), objects.terminated(1)))]
    submit(try_number=2)
    assert pods.asked[1:] == [f"remove {TASK}", f"follow {SECOND}", "spark-submit", f"remove {SECOND}"]


@pytest.mark.parametrize("failure", [StillThere("pod x"), Refused("a right is missing")])
def test_what_cannot_be_removed_does_not_undo_a_success(
    submit: Callable[..., None], pods: Pods, failure: Exception
) -> None:
    pods.failure = failure
    submit()
    assert pods.asked[-1] == f"remove {OWN}"


@pytest.mark.parametrize(("state", "wanted"), [("failed", False), ("restarting", False), ("running", True)])
def test_a_killed_task_removes_its_driver_only_if_airflow_says_that_it_was_marked_or_cleared(
    submit: Callable[..., None], pods: Pods, state: str, wanted: bool
) -> None:
    with pytest.raises(AirflowException, match="ended from outside"):
        submit(kill=True, state=state)
    end = [] if wanted else [f"remove {OWN}"]
    assert pods.asked == [f"remove {TASK}", f"follow {OWN}", "spark-submit", "end spark-submit", *end]


@pytest.mark.parametrize(
    ("failure", "error", "kind", "words"),
    [
        (None, AirflowException("spark-submit says so"), AirflowException, "spark-submit says so"),
        (Failure("was evicted"), AirflowException("it says so"), AirflowException, "the driver was evicted"),
        (Failure("was evicted"), None, AirflowException, "the driver was evicted"),
        (Failure("cannot start", remedy=Remedy.NONE), None, AirflowFailException, "the driver cannot start"),
    ],
)
def test_what_is_known_of_the_driver_decides(
    submit: Callable[..., None],
    pods: Pods,
    failure: Failure | None,
    error: Exception | None,
    kind: type[AirflowException],
    words: str,
) -> None:
    with pytest.raises(AirflowException) as caught:
        submit(failure, error)
    assert type(caught.value) is kind
    assert str(caught.value) == words
    assert pods.asked[-1] == f"remove {OWN}"


def test_spark_submit_does_not_wait_for_the_driver_nor_for_its_exit_code(
    operator: SparkOnKubernetesOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.name_pods(TaskInstance().context())
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "k8s://https://here"}')
    hook = operator._get_hook()
    assert hook._conf["spark.kubernetes.submission.waitAppCompletion"] == "false"
    monkeypatch.setattr(hook, "_build_spark_submit_command", lambda application: ["true"])
    hook.submit("job.py")
    hook._submit_sp.stdout.close()  # the provider leaves it open


def test_a_missing_right_is_no_reason_for_a_retry(
    operator: SparkOnKubernetesOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Pods, selector: str, owner: str | None = None) -> None:
        raise Refused("runner lacks a right")

    monkeypatch.setattr(Pods, "remove_pods", refuse)
    with pytest.raises(AirflowFailException, match="lacks a right"):
        operator.submit(TaskInstance().context())
