import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.kubernetes_gangs import GANG, LABELS, OWNER, condition, job, pod, running, terminated, waiting
from toposieve_airflow.kubernetes.api.ownership import OWNER_ANNOTATION
from toposieve_airflow.kubernetes.gang import trigger
from toposieve_airflow.kubernetes.gang.manifests import Gang
from toposieve_airflow.kubernetes.gang.supervision import Limits
from toposieve_airflow.kubernetes.gang.trigger import GangStartTrigger, as_trigger

IN_TIME = {"gang": GANG, "in_time": True}
LATE = {"gang": GANG, "in_time": False}
BOTH_RUN = (job(), [pod(0, running()), pod(1, running())])

Look = tuple[dict[str, Any], list[dict[str, Any]]] | int


class Answer:
    """An answer of the API server to an asynchronous client."""

    def __init__(self, *items: dict[str, Any], status: int = 200) -> None:
        self._content = {"items": items} if status == 200 else {"message": "no"}
        self.status = status
        self.reason = "as told"

    async def read(self) -> bytes:
        return json.dumps(self._content).encode()


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "AsyncKubernetesHook", Hook)
    monkeypatch.setattr(trigger, "SETTLED_S", 0)


class Hook:
    """A connection to nowhere."""

    def __init__(self, **_: Any) -> None: ...

    def get_conn(self) -> "Hook":
        return self

    async def __aenter__(self) -> "Hook":
        return self

    async def __aexit__(self, *_: object) -> None: ...


@pytest.fixture
def asked() -> list[str]:
    """Field selectors of what a trigger has asked for; without one, it is the gang's own objects."""
    return []


@pytest.fixture
def fire(monkeypatch: pytest.MonkeyPatch, asked: list[str]):
    """Event of a trigger that sees all these states of Job and pods, or gets this HTTP status, one at each look."""

    def calls_for(looks: Iterator[Look]) -> Any:
        def calls(client: Any) -> Any:
            look = next(looks)
            contents = {"warnings": Answer()}
            if isinstance(look, int):
                contents["pods"] = Answer(status=look)
            else:
                contents |= {"pods": Answer(*look[1]), "job": Answer(look[0])}

            def answer(kind: str) -> Any:
                async def call(namespace: str, field_selector: str = "", **_: Any) -> Answer:
                    asked.append(field_selector)
                    return contents[kind]

                return call

            return {kind: answer(kind) for kind in contents}

        return calls

    def run(*states: Look, startup_s: float = 60, until: float | None = None) -> Any:
        looks = iter(states)
        monkeypatch.setattr(trigger, "_calls", calls_for(looks))
        gang = Gang(GANG, "toposieve", LABELS, OWNER, 2)
        made = as_trigger(gang, Limits(startup_s, 0, until=until), {}, poll_s=0)

        async def first() -> Any:
            async for event in made.run():
                return event.payload

        event = asyncio.run(first())
        assert next(looks, None) is None, "it has not waited"
        return event

    return run


def test_it_waits_until_every_worker_runs(fire) -> None:
    waits = (job(suspend=True), [])
    half = (job(), [pod(0, running()), pod(1, waiting("ContainerCreating"))])
    assert fire(waits, half, BOTH_RUN) == IN_TIME


@pytest.mark.parametrize(
    ("now", "pods"),
    [
        (job(condition("FailureTarget", "PodFailurePolicy")), []),
        (job(), [pod(0, running()), pod(1, terminated(1))]),
        (job(), [pod(0, waiting("InvalidImageName"))]),
    ],
)
def test_a_gang_that_fails_meanwhile_is_left_to_the_task(fire, now: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    assert fire((now, pods)) == LATE


@pytest.mark.parametrize("status", [401, 429, 500])
def test_an_api_server_that_is_busy_is_asked_again(fire, status: int) -> None:
    assert fire(status, BOTH_RUN) == IN_TIME


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_while_the_gang_waits_is_waited_out(fire, status: int) -> None:
    assert fire((job(suspend=True), []), status, status, BOTH_RUN) == IN_TIME


def test_what_the_trigger_may_not_see_is_left_to_the_task(fire) -> None:
    assert fire(403) == IN_TIME


def test_a_trigger_that_cannot_work_leaves_the_gang_to_the_task(fire) -> None:
    assert fire(({"metadata": {}}, [])) == IN_TIME


def without_node(index: int) -> dict[str, Any]:
    made = pod(index)
    del made["spec"]["nodeName"]
    return made


@pytest.mark.parametrize(
    ("waits", "about"),
    [
        ((job(suspend=True), []), []),
        ((job(), [without_node(0), without_node(1)]), []),
        ((job(), [without_node(0)]), [GANG]),
        ((job(), [pod(0), pod(1, running())]), [f"{GANG}-0-abcde"]),
    ],
    ids=["in a queue", "no node", "not made", "on its node"],
)
def test_events_are_asked_for_by_name_and_only_where_nothing_else_tells(
    fire, asked: list[str], waits: Look, about: list[str]
) -> None:
    fire(waits, BOTH_RUN)
    assert [selector for selector in asked if selector] == [
        f"involvedObject.name={name},type=Warning" for name in about
    ]


def test_a_gang_that_starts_too_late(fire) -> None:
    assert fire((job(), [pod(0, running())]), startup_s=0) == LATE


@pytest.mark.parametrize("waits", [(job(suspend=True), []), (job(), [pod(0, running())])])
def test_a_gang_that_has_waited_for_as_long_as_it_may(fire, waits: Look) -> None:
    assert fire(waits, until=0.0) == LATE


def test_a_gang_whose_queue_takes_its_place_back_waits_on(fire) -> None:
    ends = {"deletionTimestamp": "2026-01-01T00:00:12Z", "deletionGracePeriodSeconds": 3}
    again = job(condition("Suspended", status="False"))
    terminating = [pod(index, running(), **ends) for index in range(2)]
    fresh = [pod(index, running(), name=f"{GANG}-{index}-fresh") for index in range(2)]
    looks = [(job(), [pod(0, running())]), (job(suspend=True), terminating), (again, terminating), (again, fresh)]
    assert fire(*looks) == IN_TIME


def test_airflow_has_time_to_notice_that_the_task_is_deferred(fire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger, "SETTLED_S", 0.2)
    begin = time.monotonic()
    fire((job(), [pod(0, running()), pod(1, running())]))
    assert time.monotonic() - begin >= 0.2


@pytest.fixture
def stays(monkeypatch: pytest.MonkeyPatch):
    """Whether a Job stays when somebody ends the task: it has these versions and owners, one after each look."""

    def run(*versions: tuple[str, str]) -> bool:
        jobs = [job(uid="1", resourceVersion=each, annotations={OWNER_ANNOTATION: owner}) for each, owner in versions]

        class Batch:
            def __init__(self, client: Any) -> None: ...

            async def list_namespaced_job(self, namespace: str, *, label_selector: str, **_: Any) -> Answer:
                assert label_selector == f"toposieve/gang={GANG}"
                return Answer(*([jobs.pop(0) if len(jobs) > 1 else jobs[0]] if jobs else []))

            async def delete_namespaced_job(self, name: str, namespace: str, *, body: Any, **_: Any) -> Answer:
                if not body["preconditions"].items() <= jobs[0]["metadata"].items():
                    return Answer(status=409)
                jobs.clear()
                return Answer()

        monkeypatch.setattr(trigger, "BatchV1Api", Batch)
        made = as_trigger(Gang(GANG, "toposieve", LABELS, OWNER, 2), Limits(60, 60), {}, 10)
        asyncio.run(asyncio.wait_for(made.on_kill(), 5))
        return bool(jobs)

    return run


def test_a_task_ended_while_it_waits_leaves_no_job(stays) -> None:
    assert not stays(("1", OWNER))
    assert not stays(("1", OWNER), ("2", OWNER))


def test_a_job_that_the_next_try_has_taken_over_stays(stays) -> None:
    assert stays(("1", "another"))
    assert stays(("1", OWNER), ("2", "another"))


def test_it_goes_through_the_database() -> None:
    made = as_trigger(Gang(GANG, "toposieve", LABELS, OWNER, 2), Limits(60, 60), {"conn_id": "a"}, 10)
    path, arguments = made.serialize()
    assert path == "toposieve_airflow.kubernetes.gang.trigger.GangStartTrigger"
    assert GangStartTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)
