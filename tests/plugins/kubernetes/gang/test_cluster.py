import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from support.answers import Answer
from support.kubernetes_gangs import GANG, LABELS, OWNER, condition, job, pod, running
from toposieve_airflow.kubernetes.api import cluster as module
from toposieve_airflow.kubernetes.api.cluster import Refused, RefusedForNow, StillThere
from toposieve_airflow.kubernetes.api.ownership import OWNER_ANNOTATION
from toposieve_airflow.kubernetes.gang.cluster import GangCluster
from toposieve_airflow.kubernetes.gang.manifests import Gang

LOST = condition("DisruptionTarget", "DeletionByTaintManager")


OURS = {OWNER_ANNOTATION: OWNER}
THEIRS = {OWNER_ANNOTATION: "another"}


def answer(status: int, message: str) -> ApiException:
    error = ApiException(status=status)
    error.body = json.dumps({"message": message})
    return error


class Jobs:
    """Notes what is asked about Jobs; making one is answered by ``made``; ``there`` say whose the others are."""

    def __init__(self, made: Answer | ApiException, *there: dict[str, str]) -> None:
        self.made = made
        self.there = [
            job(uid="there", creationTimestamp="2026-01-01T00:00:00Z", namespace="toposieve", annotations=each)
            for each in there
        ]
        self.asked: list[dict[str, Any]] = []

    def create_namespaced_job(self, namespace: str, job: dict[str, Any], **options: Any) -> Answer:
        self.asked.append(options)
        if isinstance(self.made, ApiException):
            raise self.made
        return self.made

    def list_namespaced_job(self, namespace: str, **options: Any) -> Answer:
        self.asked.append(options)
        return Answer(json.dumps({"items": self.there}))

    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> GangCluster:
        cluster = GangCluster(ApiClient(), "toposieve")
        monkeypatch.setattr(cluster, "_batch", self)
        return cluster


class Api:
    """One Job or none; notes what is deleted, and how long pods are waited for.

    Args:
        there: The Job.
        meanwhile: What becomes of it after each look, before it is written to.
    """

    def __init__(self, there: dict[str, Any] | None = None, *meanwhile: dict[str, Any]) -> None:
        self.forced: list[str] = []
        self.waits: list[float] = []
        self.has_lost = False
        self.there = there
        self.writes = 0
        self._meanwhile = list(meanwhile)

    def list_namespaced_job(self, namespace: str, **_: Any) -> Answer:
        answer = Answer(json.dumps({"items": [self.there] if self.there else []}))
        if self._meanwhile:
            self.there = self._meanwhile.pop(0)
        return answer

    def delete_namespaced_job(self, name: str, namespace: str, *, body: dict[str, Any], **_: Any) -> Answer:
        assert body["propagationPolicy"] == "Background"
        self._write(body["preconditions"])
        self.there = None
        return Answer("{}")

    def patch_namespaced_job(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> Answer:
        metadata = self._write({"resourceVersion": body["metadata"]["resourceVersion"]})
        for key in ("labels", "annotations"):
            metadata[key] = {**metadata[key], **body["metadata"][key]}
        return Answer(json.dumps(self.there))

    def _write(self, expected: dict[str, str]) -> dict[str, Any]:
        """Metadata of the Job, if it is as expected."""
        self.writes += 1
        if self.there is None:
            raise ApiException(status=404)
        metadata: dict[str, Any] = self.there["metadata"]
        if not expected.items() <= metadata.items():
            raise ApiException(status=409)
        return metadata

    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> GangCluster:
        cluster = GangCluster(ApiClient(), "toposieve")
        monkeypatch.setattr(cluster, "_core", self)
        monkeypatch.setattr(cluster, "_batch", self)
        return cluster

    def list_namespaced_pod(self, namespace: str, **_: Any) -> None: ...

    def delete_namespaced_pod(self, name: str, namespace: str, *, grace_period_seconds: int, **_: Any) -> Answer:
        assert grace_period_seconds == 0
        self.forced.append(name)
        return Answer("{}")


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    """Remove a gang whose pods are these, at one look after the other."""
    monkeypatch.setattr(module, "GONE_S", 0.1)

    def make(*looks: list[dict[str, Any]]) -> Api:
        api, left = Api(), iter(looks)

        def gone_within(call: Any, seconds: float) -> dict[str, Any]:
            api.waits.append(seconds)
            return {each["metadata"]["name"]: each for each in next(left)}

        monkeypatch.setattr(module, "gone_within", gone_within)
        api.has_lost = api.cluster(monkeypatch).remove("a=b")
        return api

    return make


def test_events_of_others_are_watched_but_never_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    cluster = GangCluster(ApiClient(), "toposieve")
    monkeypatch.setattr(
        cluster._core, "list_namespaced_event", lambda namespace, field_selector, **_: asked.append(field_selector)
    )
    cluster.warnings(GANG)()
    cluster.warnings(GANG)(watch=True, resource_version="1")
    assert asked == [f"involvedObject.name={GANG},type=Warning", "type=Warning"]


def test_a_job_is_made_with_one_request_that_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(Answer(json.dumps(job(uid="new"))))
    assert jobs.cluster(monkeypatch).create_job(job())["metadata"]["uid"] == "new"
    assert [options["_request_timeout"] for options in jobs.asked] == [module.ANSWER_S]


def test_a_job_that_is_there_already_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(ApiException(status=409), OURS)
    assert jobs.cluster(monkeypatch).create_job(job(annotations=OURS))["metadata"]["uid"] == "there"


@pytest.mark.parametrize("there", [[THEIRS], [{}], []])
def test_a_job_of_the_same_name_that_is_another_tasks_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, there: list[dict[str, str]]
) -> None:
    jobs = Jobs(ApiException(status=409), *there)
    with pytest.raises(Refused, match=f"Job {GANG} is there already and is another task's"):
        jobs.cluster(monkeypatch).create_job(job(namespace="toposieve", annotations=OURS))


def there(version: str = "1", annotations: dict[str, str] = OURS, uid: str = "there") -> dict[str, Any]:
    """A Job as it is in the cluster."""
    made = "2026-01-01T00:00:00Z"
    return job(uid=uid, resourceVersion=version, creationTimestamp=made, annotations=annotations)


def test_the_next_try_writes_that_the_job_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(there(annotations={**THEIRS, "note": "a"}))
    gang = Gang(GANG, "toposieve", {**LABELS, "try_number": "2"}, OWNER, 2)
    adopted = api.cluster(monkeypatch).adopt(gang, there())
    assert adopted is not None
    assert adopted["metadata"]["annotations"] == {**OURS, "note": "a"}
    assert adopted["metadata"]["labels"] == {**LABELS, "try_number": "2"}


@pytest.mark.parametrize("now", [there("2"), None])
def test_a_job_that_has_changed_is_not_taken_over_unseen(
    monkeypatch: pytest.MonkeyPatch, now: dict[str, Any] | None
) -> None:
    gang = Gang(GANG, "toposieve", LABELS, OWNER, 2)
    assert Api(now).cluster(monkeypatch).adopt(gang, there()) is None


@pytest.mark.parametrize("owner", [OWNER, None])
@pytest.mark.parametrize("meanwhile", [[], [there("2")], [there("2"), there("3")]])
def test_an_owner_deletes_its_job_and_the_teardown_everybodys_though_they_change(
    monkeypatch: pytest.MonkeyPatch, owner: str | None, meanwhile: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "gone_within", lambda call, seconds: {})
    api = Api(there(annotations=OURS if owner else THEIRS), *meanwhile)
    api.cluster(monkeypatch).remove("a=b", owner)
    assert api.there is None
    assert api.writes == 1 + len(meanwhile)


@pytest.mark.parametrize("meanwhile", [[], [there("2", THEIRS)], [there("1", THEIRS, "newer")]])
def test_a_job_that_is_another_trys_now_is_neither_deleted_nor_waited_for(
    monkeypatch: pytest.MonkeyPatch, meanwhile: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(module, "gone_within", lambda *_: pytest.fail("waits"))
    api = Api(there(annotations=OURS if meanwhile else THEIRS), *meanwhile)
    api.cluster(monkeypatch).remove("a=b", OWNER)
    assert api.there is not None
    assert api.writes == len(meanwhile)


def test_a_job_that_is_being_deleted_is_waited_for(remove: Callable[..., Api], monkeypatch: pytest.MonkeyPatch) -> None:
    going = there()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    monkeypatch.setattr(module, "gone_within", lambda call, seconds: {})
    api = Api(going)
    api.cluster(monkeypatch).remove("a=b", OWNER)
    assert api.writes == 0


def test_a_quota_without_room_for_a_job_is_told_in_plain_words_and_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(answer(403, 'jobs.batch "train" is forbidden: exceeded quota: small'))
    with pytest.raises(RefusedForNow) as caught:
        jobs.cluster(monkeypatch).create_job(job())
    assert str(caught.value) == 'Kubernetes refuses (HTTP 403): jobs.batch "train" is forbidden: exceeded quota: small'


def test_removing_waits_as_long_as_the_pods_may_take_to_end(remove: Callable[..., Api]) -> None:
    patient = pod(0, running())
    patient["spec"]["terminationGracePeriodSeconds"] = 120
    api = remove([pod(1), patient], [])
    assert api.waits == [0, 120 + module.LATE_S]
    assert api.forced == []
    assert not api.has_lost


def test_the_pod_of_a_node_that_is_lost_goes_by_force_as_soon_as_kubernetes_says_so(
    remove: Callable[..., Api],
) -> None:
    here, lost = pod(0, running()), pod(1, running(), LOST)
    known = remove([here, lost], [here, lost], [])
    assert known.forced == [lost["metadata"]["name"]]
    assert known.has_lost
    assert remove([lost], [pod(1, running())], [lost], []).forced == [lost["metadata"]["name"]]


def test_a_pod_on_a_node_that_answers_is_never_forgotten_by_force(
    remove: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GONE_S", 0.0)
    with pytest.raises(StillThere, match=pod(0)["metadata"]["name"]):
        remove([pod(0)], [pod(0)])
