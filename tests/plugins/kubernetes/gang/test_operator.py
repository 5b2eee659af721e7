import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import certifi
import pytest
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    AirflowTaskTimeout,
    ErrorType,
    TaskDeferred,
)
from airflow.sdk.execution_time.comms import ErrorResponse
from airflow.serialization.serialized_objects import DagSerialization
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config
from kubernetes_asyncio.config import incluster_config as asynchronous_config

from support.kubernetes_gangs import TaskInstance, condition
from toposieve_airflow.contract.step import STEP_VERSION
from toposieve_airflow.kubernetes.api.cluster import Refused, RefusedForNow, StillThere
from toposieve_airflow.kubernetes.api.ownership import Manifest
from toposieve_airflow.kubernetes.gang import operator as module
from toposieve_airflow.kubernetes.gang.manifests import Gang
from toposieve_airflow.kubernetes.gang.operator import PAUSE_S, TFSpawnerOperator
from toposieve_airflow.kubernetes.gang.supervision import GangFailed, GangHeld, Limits

FAILED = condition("FailureTarget", "PodFailurePolicy")


class Cluster:
    """Notes what is asked of a cluster."""

    def __init__(self) -> None:
        self.jobs: list[Manifest] = []
        self.created: list[str] = []
        self.services: list[str] = []
        self.removed: list[str] = []
        self.owners: list[str] = []  # who adopts, or removes what is theirs
        self.adoptions: list[Callable[[Manifest], Manifest | None]] = []
        self.failure: Exception | None = None
        self.limits: list[Limits] = []
        self.loses_node = False
        self.signals: dict[str, Callable[[], None]] = {}
        self.is_patient = False
        self.patience: list[bool] = []  # when Jobs are looked for, made, adopted and followed

    def as_of(self, task: TFSpawnerOperator, is_patient: bool | None = None) -> "Cluster":
        self.is_patient = task._is_patient if is_patient is None else is_patient
        return self

    def find_jobs(self, selector: str) -> list[Manifest]:
        self.patience.append(self.is_patient)
        self.signals.get("find", lambda: None)()
        return self.jobs

    def create_job(self, job: Manifest) -> Manifest:
        self.patience.append(self.is_patient)
        self.signals.get("create", lambda: None)()
        self.created.append(job["metadata"]["name"])
        return job

    def create_service(self, gang: Gang, job: Manifest) -> None:
        self.services.append(gang.name)

    def adopt(self, gang: Gang, job: Manifest) -> Manifest | None:
        self.patience.append(self.is_patient)
        self.owners.append(gang.owner)
        return self.adoptions.pop(0)(job) if self.adoptions else job

    def remove(self, selector: str, owner: str) -> bool:
        self.owners.append(owner)
        self.removed.append(selector.removeprefix("toposieve/gang="))
        if self.failure:
            raise self.failure
        return self.loses_node


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(TFSpawnerOperator, "_cluster", lambda self, gang, **options: made.as_of(self, **options))
    monkeypatch.setattr(KubernetesHook, "is_in_cluster", False)
    return made


@pytest.fixture
def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run one try of a task, after a trigger if there is an event; the gang ends as told. Returns the gang's name."""

    def make(
        outcome: BaseException | None = None,
        try_number: int = 1,
        event: dict[str, Any] | None = None,
        deferred_try: int | None = None,
        killed: Sequence[str] = (),
        instance: dict[str, Any] | None = None,
        until: float = 0.0,
        **options: Any,
    ) -> str:
        followed: list[str] = []

        def supervise(self: TFSpawnerOperator, gang: Gang, limits: Limits, context: Any) -> list[str]:
            followed.append(gang.name)
            cluster.limits.append(limits)
            cluster.patience.append(self._is_patient)
            cluster.signals.get("follow", lambda: None)()
            self._stop_if_killed()
            if outcome:
                raise outcome
            return []

        monkeypatch.setattr(TFSpawnerOperator, "_supervise", supervise)
        task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", workers=2, **options)
        cluster.signals = {when: task.on_kill for when in killed}
        context = TaskInstance(try_number=try_number, **(instance or {})).context()
        task.go_on(context, event, deferred_try or try_number, until) if event else task.execute(context)
        return followed[0]

    return make


def owner(try_number: int) -> str:
    return f"{TaskInstance(try_number=try_number).id}/{try_number}"


def left(name: str, *conditions: dict[str, str], like: dict[str, Any] | None = None, **instance: Any) -> Manifest:
    """A Job that an earlier try has left; ``like`` are the options of the operator that made it."""
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", **{"workers": 2, **(like or {})})
    job = module.job_manifest(*task.pod_and_gang(TaskInstance(**instance).context()))
    job["metadata"]["name"] = name
    return {**job, "status": {"conditions": list(conditions)}}


def test_a_gang_is_made_followed_and_removed(run: Callable[..., str], cluster: Cluster) -> None:
    name = run()
    assert cluster.created == cluster.services == cluster.removed == [name]


def test_the_same_work_is_taken_over_by_the_next_try(run: Callable[..., str], cluster: Cluster) -> None:
    cluster.jobs = [left("train-old-1")]
    assert run(try_number=2) == "train-old-1"
    assert cluster.created == []
    assert cluster.services == cluster.removed == ["train-old-1"]
    assert cluster.owners == [owner(2)] * 2


@pytest.mark.parametrize("then", [[], [left("train-old-1", FAILED)]])
def test_work_that_ends_while_it_is_taken_over_is_made_anew(
    run: Callable[..., str], cluster: Cluster, then: list[Manifest]
) -> None:
    def change(job: Manifest) -> None:
        cluster.jobs = then

    cluster.jobs, cluster.adoptions = [left("train-old-1")], [change]
    assert run(try_number=2) == cluster.created[0]
    assert cluster.removed == [*(["train-old-1"] if then else []), *cluster.created]


@pytest.mark.parametrize("other", [{"airflow": "another"}, {"try_number": 2}])
def test_work_of_no_earlier_try_is_left_alone(run: Callable[..., str], cluster: Cluster, other: dict[str, Any]) -> None:
    cluster.jobs = [left("train-old-1", **other)]
    with pytest.raises(AirflowFailException, match="train-old-1 is there already and is another task's"):
        run()
    assert cluster.created == cluster.removed == cluster.owners == []


def test_a_gang_in_a_queue_keeps_its_place_when_the_tasks_process_dies(
    run: Callable[..., str], cluster: Cluster
) -> None:
    cluster.jobs = [left("train-old-1", like={"gang_queue": "training"})]
    assert run(try_number=2, gang_queue="training") == "train-old-1"


def test_a_gang_in_a_queue_whose_deferred_task_was_cleared_is_removed(
    run: Callable[..., str], cluster: Cluster
) -> None:
    cluster.jobs = [left("train-old-1", like={"gang_queue": "training"})]
    with pytest.raises(TaskDeferred):
        run(try_number=2, gang_queue="training", deferrable=True)
    assert cluster.removed == ["train-old-1"]
    assert len(cluster.created) == 1


@pytest.mark.parametrize("job", [left("train-old-1", FAILED), left("train-old-1", like={"workers": 3})])
def test_anything_else_that_was_left_is_removed_first(run: Callable[..., str], cluster: Cluster, job: Manifest) -> None:
    cluster.jobs = [job]
    name = run(try_number=2)
    assert cluster.removed == ["train-old-1", name]
    assert cluster.owners == [owner(1), owner(2)]
    assert cluster.created == [name]


@pytest.mark.parametrize(
    ("failure", "expected"), [(Refused("a right is missing"), AirflowFailException), (StillThere("pod"), StillThere)]
)
def test_what_was_left_and_cannot_be_removed_is_in_the_way(
    run: Callable[..., str], cluster: Cluster, failure: Exception, expected: type[Exception]
) -> None:
    cluster.jobs, cluster.failure = [left("train-old-1", FAILED)], failure
    with pytest.raises(expected):
        run(try_number=2)
    assert cluster.created == []


@pytest.mark.parametrize("jobs", [[], [left("train-old-1", FAILED)]])
def test_after_a_trigger_its_gang_is_followed_and_no_other_made(
    run: Callable[..., str], cluster: Cluster, jobs: list[Manifest]
) -> None:
    cluster.jobs = jobs
    event = {"gang": "train-old-1", "in_time": True}
    assert run(try_number=2, event=event, deferrable=True) == "train-old-1"
    assert cluster.created == []
    assert cluster.removed == ["train-old-1"]


def test_a_new_try_that_airflow_resumes_as_the_old_one_makes_its_own_gang(
    run: Callable[..., str], cluster: Cluster
) -> None:
    event = {"gang": "train-old-1", "in_time": True}
    name = run(try_number=2, event=event, deferred_try=1)
    assert cluster.created == cluster.removed == [name] != ["train-old-1"]


def test_refusals_pass_only_of_what_has_worked_before(run: Callable[..., str], cluster: Cluster) -> None:
    def patience(**options: Any) -> list[bool]:
        cluster.patience = []
        with suppress(TaskDeferred):
            run(**options)
        return cluster.patience

    look, make, adopt, follow = False, False, False, False
    assert patience() == [look, make, follow]
    assert patience(outcome=EVICTED) == [look, make, follow, True, True]
    assert patience(outcome=NO_ROOM, event=LATE, until=time.time() + 60) == [True, True, True]
    assert patience(try_number=2) == [True, look, make, follow]
    cluster.jobs = [left("train-old-1")]
    assert patience(try_number=2) == [True, look, adopt, True]


def test_a_gang_of_which_nothing_is_known_is_left_to_the_next_try(run: Callable[..., str], cluster: Cluster) -> None:
    with pytest.raises(RefusedForNow):
        run(RefusedForNow(ApiException(status=401)))
    assert cluster.removed == []


def test_a_trigger_asks_from_within_the_cluster_if_the_task_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(TFSpawnerOperator, "_cluster", lambda self, gang, **_: Cluster())
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text(certifi.contents() if name == "ca.crt" else "secret")
    for config in (incluster_config, asynchronous_config):
        monkeypatch.setattr(config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
        monkeypatch.setattr(config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    for name, value in {"HOST": "10.0.0.1", "PORT": "443"}.items():
        monkeypatch.setenv(f"KUBERNETES_SERVICE_{name}", value)
    task = TFSpawnerOperator(
        task_id="train", namespace="toposieve", image="a", deferrable=True, kubernetes_conn_id=None
    )
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(TaskInstance().context())

    async def host() -> str:
        async with deferred.value.trigger._hook().get_conn() as client:
            return str(client.configuration.host)

    assert asyncio.run(host()) == "https://10.0.0.1:443"


NO_ROOM = GangHeld("no node can take it", is_suspended=False, has_run=False)
EVICTED = GangHeld("worker 1 was evicted", is_suspended=False, has_run=True)
SENT_BACK = GangHeld("its queue has suspended it again", is_suspended=True, has_run=True)
LATE = {"gang": "train-old-1", "in_time": False}


@pytest.mark.parametrize("held", [NO_ROOM, EVICTED])
def test_a_gang_without_a_place_waits_as_a_new_one_and_costs_no_try(
    run: Callable[..., str], cluster: Cluster, held: GangHeld
) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        run(held)
    first, again = cluster.created
    assert cluster.removed == [first]
    assert again == f"{first}r2"
    assert deferred.value.trigger.gang["name"] == again
    assert deferred.value.kwargs["try_number"] == 1


@pytest.mark.parametrize("gives_back", [True, False])
def test_a_gang_that_gives_places_back_leaves_them_to_others_for_a_while(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, gives_back: bool
) -> None:
    pauses: list[tuple[float, float]] = []
    monkeypatch.setattr("random.uniform", lambda *range_s: pauses.append(range_s) or 0.0)
    with pytest.raises(TaskDeferred):
        run(GangHeld("only 1 of 2 workers started", is_suspended=False, has_run=False, gives_back=gives_back))
    assert pauses == [PAUSE_S] * gives_back


def test_a_gang_whose_queue_takes_its_place_back_stays(run: Callable[..., str], cluster: Cluster) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        run(SENT_BACK)
    assert cluster.removed == []
    assert [deferred.value.trigger.gang["name"]] == cluster.created


def test_a_gang_that_another_try_has_taken_over_is_not_made_anew(run: Callable[..., str], cluster: Cluster) -> None:
    cluster.signals = {}
    name = run()
    cluster.created = []

    def taken(self: TFSpawnerOperator, gang: Gang, limits: Limits, context: Any) -> list[str]:
        cluster.jobs = [left(name, try_number=2)]
        raise EVICTED

    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", workers=2)
    task._supervise = taken.__get__(task)  # type: ignore[method-assign]
    with pytest.raises(AirflowFailException, match="is another task's"):
        task.execute(TaskInstance().context())
    assert len(cluster.created) == 1


def test_the_time_that_a_gang_may_wait_goes_on_until_it_runs(run: Callable[..., str], cluster: Cluster) -> None:
    soon = time.time() + 60
    with pytest.raises(TaskDeferred) as deferred:
        run(NO_ROOM, event=LATE, until=soon)
    assert cluster.limits[-1] == Limits(600, 60, passed=True, until=soon)
    assert deferred.value.kwargs["until"] == soon
    for held, event in ((EVICTED, LATE), (NO_ROOM, {**LATE, "in_time": True})):
        with pytest.raises(TaskDeferred) as deferred:
            run(held, event=event, until=soon)
        assert deferred.value.kwargs["until"] > soon + 3600


@pytest.mark.parametrize("held", [NO_ROOM, GangHeld("it waits for its queue", is_suspended=True, has_run=False)])
def test_a_gang_that_has_waited_for_as_long_as_it_may_is_removed_and_not_tried_again(
    run: Callable[..., str], cluster: Cluster, held: GangHeld
) -> None:
    with pytest.raises(AirflowFailException, match=f"{held}; a gang may wait for 1 day"):
        run(held, event=LATE, until=time.time() - 1)
    assert cluster.removed == ["train-old-1"]
    assert cluster.created == []


def test_gangs_of_a_try_get_no_more_time_than_they_may_run_and_wait(run: Callable[..., str], cluster: Cluster) -> None:
    limits = {"execution_timeout": timedelta(hours=1), "waiting_timeout": timedelta(hours=2)}
    began = datetime.now(UTC) - timedelta(hours=2)
    with pytest.raises(TaskDeferred) as deferred:
        run(EVICTED, instance={"start_date": began}, **limits)
    assert deferred.value.kwargs["until"] == (began + timedelta(hours=3)).timestamp()
    with pytest.raises(AirflowFailException, match="may wait for 2:00:00"):
        run(EVICTED, instance={"start_date": began - timedelta(hours=1)}, **limits)


def test_what_a_gang_waits_does_not_count_as_its_run() -> None:
    limits = {"execution_timeout": timedelta(hours=1), "waiting_timeout": timedelta(hours=2)}
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", **limits)
    assert task.execution_timeout == timedelta(hours=3)
    assert task.pod_and_gang(TaskInstance().context())[1].run_limit_s == 3600


def test_a_failed_job_of_this_very_try_is_not_made_twice(run: Callable[..., str], cluster: Cluster) -> None:
    name = run()
    cluster.jobs, cluster.created = [left(name, FAILED)], []
    assert run() == name
    assert cluster.created == []


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (GangFailed("worker 1 was evicted", may_retry=True), AirflowException),
        (GangFailed("no such image", may_retry=False), AirflowFailException),
        (Refused("a right is missing"), AirflowFailException),
        (AirflowTaskTimeout("too long"), AirflowTaskTimeout),
    ],
)
def test_failures_are_retried_or_not_and_leave_nothing(
    run: Callable[..., str], cluster: Cluster, outcome: BaseException, expected: type[BaseException]
) -> None:
    with pytest.raises(expected, match=str(outcome)) as caught:
        run(outcome)
    assert type(caught.value) is expected
    assert set(cluster.removed) == set(cluster.created)
    assert len(cluster.created) == 1


@pytest.mark.parametrize(("may_retry", "expected"), [(True, TaskDeferred), (False, AirflowFailException)])
def test_workers_that_end_because_one_is_lost_with_its_node_cost_no_try(
    run: Callable[..., str], cluster: Cluster, may_retry: bool, expected: type[BaseException]
) -> None:
    cluster.loses_node = True
    with pytest.raises(expected):
        run(GangFailed("worker 0 failed with exit code 1", may_retry))
    assert len(cluster.created) == (2 if may_retry else 1)


@pytest.mark.parametrize(("when", "jobs_made"), [("find", 0), ("create", 1)])
def test_a_task_killed_before_it_follows_its_gang_leaves_none(
    run: Callable[..., str], cluster: Cluster, when: str, jobs_made: int
) -> None:
    with pytest.raises(AirflowException, match="ended from outside"):
        run(killed=[when])
    assert len(cluster.created) == jobs_made
    assert cluster.services == []
    assert cluster.removed == cluster.created


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        *((state, False) for state in ("success", "failed", "skipped", "removed", "restarting")),
        *((state, True) for state in ("running", "queued", "scheduled", "up_for_retry", None)),
    ],
)
def test_a_killed_task_removes_its_gang_only_if_airflow_says_that_it_was_marked_or_cleared(
    run: Callable[..., str], cluster: Cluster, state: str | None, wanted: bool
) -> None:
    with pytest.raises(AirflowException, match="ended from outside") as caught:
        run(killed=["follow"], instance={"state": state})
    assert not isinstance(caught.value, AirflowFailException)
    assert cluster.removed == ([] if wanted else cluster.created)


def test_a_task_that_is_not_killed_removes_its_gang_without_asking(run: Callable[..., str], cluster: Cluster) -> None:
    run(instance={"state": "running"})
    assert cluster.removed == cluster.created


def test_a_killed_task_ends_at_once_and_asks_nothing_in_the_signals_midst(cluster: Cluster) -> None:
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a")
    _, task._gang = task.pod_and_gang(TaskInstance().context())
    task._feed = module.ClusterFeed(cluster, task._gang)  # type: ignore[arg-type]
    task.on_kill()
    kind, error = task._feed.next(0) or ("", None)
    assert (kind, str(error)) == ("error", "ended from outside before it was done")
    assert cluster.removed == []


@pytest.mark.parametrize("failure", [StillThere("pod x"), Refused("a right is missing")])
def test_what_cannot_be_removed_does_not_undo_a_success(
    run: Callable[..., str], cluster: Cluster, failure: Exception
) -> None:
    cluster.failure = failure
    assert run() == cluster.created[0]


def test_an_airflow_that_takes_no_xcom_does_not_cost_the_gang(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Reporting(SimpleNamespace):
        def run(self) -> None:
            self.report({0: "running"})

    def fail(self: TaskInstance, key: str, value: Any) -> None:
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))

    monkeypatch.setattr(TaskInstance, "xcom_push", fail)
    monkeypatch.setattr(module, "ClusterFeed", lambda *_: nullcontext())
    monkeypatch.setattr(module, "Supervision", lambda feed, gang, limits, log, report: Reporting(report=report))
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a")
    task._cached_logger = logging.getLogger("task")
    with caplog.at_level(logging.WARNING):
        task.execute(TaskInstance().context())
    assert [line.partition(":")[0] for line in caplog.messages if "XCom" in line] == [
        f"Airflow does not take the XCom {key}" for key in (module.GangLink().xcom_key, "gang")
    ]


def test_templates_reach_workers_queue_and_environment() -> None:
    with DAG("gangs", params={"workers": 4, "queue": "training"}):
        task = TFSpawnerOperator(
            task_id="train",
            namespace="toposieve",
            image="a",
            workers="{{ params.workers }}",
            gang_queue="{{ params.queue }}",
            env_vars={"WORKERS": "{{ params.workers }}"},
        )
    context = {**TaskInstance().context(), "params": {"workers": 4, "queue": "training"}}
    task.render_template_fields(context)
    pod, gang = task.pod_and_gang(context)
    assert (gang.workers, gang.queue) == (4, "training")
    assert pod["spec"]["containers"][0]["env"] == [{"name": "WORKERS", "value": "4"}]


@pytest.mark.parametrize("workers", [0, "0", -1, "two", 1.5])
def test_a_number_of_workers_that_is_wrong_is_named(run: Callable[..., str], cluster: Cluster, workers: Any) -> None:
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", workers=workers)
    with pytest.raises(AirflowFailException, match="workers is"):
        task.execute(TaskInstance().context())
    assert cluster.created == []


@pytest.mark.parametrize("wrong", [{"accelerator": "GPU "}, {"accelerator": "gpu", "accelerator_count": 0}])
def test_an_accelerator_that_is_wrong_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"train: {list(wrong)[-1]} is"):
        TFSpawnerOperator(task_id="train", image="a", **wrong)


def test_what_a_gang_would_ignore_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="does not know on_finish_action, skip_on_exit_code"):
        TFSpawnerOperator(task_id="train", image="a", skip_on_exit_code=99, on_finish_action="keep_pod", get_logs=True)


# Airflow itself uses a deprecated name of pathspec.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_a_link_leads_to_the_gang_while_it_runs(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TFSpawnerOperator, "_supervise", lambda *_: [])
    with DAG("gangs") as dag:
        url = "https://dashboard/{namespace}/{name}"
        task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", gang_url=url)
    instance = TaskInstance()
    task.execute(instance.context())
    links = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("train").operator_extra_link_dict
    assert instance.xcoms == {links["Gang"].xcom_key: f"https://dashboard/toposieve/{cluster.created[0]}"}


def test_each_worker_logs_under_its_own_name_and_its_run_is_found(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Talking(SimpleNamespace):
        def run(self) -> None:
            self.log("[worker 1] done; results in /data/models/hlf/1a2b")

    monkeypatch.setattr(module, "ClusterFeed", lambda *_: nullcontext())
    monkeypatch.setattr(module, "Supervision", lambda feed, gang, limits, log, report: Talking(log=log))
    step = {"version": STEP_VERSION, "inputs": [], "outputs": ["/data/models/hlf"], "arguments": [], "run_in_log": True}
    step |= {"workers": 2}
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", step=step)  # type: ignore[arg-type]
    task._cached_logger = logging.getLogger("task")
    with caplog.at_level(logging.INFO):
        task.execute(TaskInstance().context())
    said = [record.name for record in caplog.records if record.getMessage().startswith("[worker 1] done")]
    assert said == ["toposieve.worker.1"]
    assert "output: /data/models/hlf/1a2b" in caplog.text


def test_an_xcom_side_car_is_refused_though_a_default_of_the_dag_asks_for_it() -> None:
    with DAG("gangs", default_args={"do_xcom_push": True}), pytest.raises(ValueError, match="leave do_xcom_push out"):
        TFSpawnerOperator(task_id="train", image="a")


def test_a_run_that_was_planned_before_an_upgrade_makes_no_gang(cluster: Cluster) -> None:
    task = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", step={"workers": 2})  # type: ignore[typeddict-item]
    with pytest.raises(AirflowFailException, match="planned by another version"):
        task.execute(TaskInstance().context())
    assert not cluster.created
