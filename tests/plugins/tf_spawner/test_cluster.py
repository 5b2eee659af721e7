import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from support.answers import Answer, listed
from support.kubernetes_gangs import condition, job, pod, running
from toposieve_airflow.tf_spawner import cluster as module
from toposieve_airflow.tf_spawner.cluster import GangCluster, RefusedForNow, StillThere, in_words, refuses

LOST = condition("DisruptionTarget", "DeletionByTaintManager")


class Jobs:
    """Notes what is asked about Jobs; making one is answered by ``made``."""

    def __init__(self, made: Answer | ApiException) -> None:
        self.made = made
        self.asked: list[dict[str, Any]] = []

    def create_namespaced_job(self, namespace: str, job: dict[str, Any], **options: Any) -> Answer:
        self.asked.append(options)
        if isinstance(self.made, ApiException):
            raise self.made
        return self.made

    def list_namespaced_job(self, namespace: str, **options: Any) -> Answer:
        self.asked.append(options)
        return Answer(json.dumps({"items": [job(uid="there", creationTimestamp="2026-01-01T00:00:00Z")]}))

    def cluster(self, monkeypatch: pytest.MonkeyPatch) -> GangCluster:
        cluster = GangCluster(ApiClient(), "toposieve")
        monkeypatch.setattr(cluster, "_batch", self)
        return cluster


class Api:
    """No Jobs; notes what is deleted, and how long pods are waited for."""

    def __init__(self) -> None:
        self.forced: list[str] = []
        self.waits: list[float] = []

    def list_namespaced_job(self, namespace: str, **_: Any) -> Answer:
        return listed()

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
        cluster = GangCluster(ApiClient(), "toposieve")
        monkeypatch.setattr(cluster, "_core", api)
        monkeypatch.setattr(cluster, "_batch", api)
        cluster.remove("a=b")
        return api

    return make


def test_a_job_is_made_with_one_request_that_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(Answer(json.dumps(job(uid="new"))))
    assert jobs.cluster(monkeypatch).create_job(job())["metadata"]["uid"] == "new"
    assert [options["_request_timeout"] for options in jobs.asked] == [module.ANSWER_S]


def test_a_job_that_is_there_already_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(ApiException(status=409))
    assert jobs.cluster(monkeypatch).create_job(job())["metadata"]["uid"] == "there"


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


def test_the_pod_of_a_node_that_is_lost_goes_by_force_as_soon_as_kubernetes_says_so(
    remove: Callable[..., Api],
) -> None:
    here, lost = pod(0, running()), pod(1, running(), LOST)
    assert remove([here, lost], [here, lost], []).forced == [lost["metadata"]["name"]]
    assert remove([lost], [pod(1, running())], [lost], []).forced == [lost["metadata"]["name"]]


def test_a_pod_on_a_node_that_answers_is_never_forgotten_by_force(
    remove: Callable[..., Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GONE_S", 0.0)
    with pytest.raises(StillThere, match=pod(0)["metadata"]["name"]):
        remove([pod(0)], [pod(0)])


def answer(status: int, message: str) -> ApiException:
    error = ApiException(status=status)
    error.body = json.dumps({"message": message})
    return error


def test_a_missing_right_names_account_verb_and_resource() -> None:
    message = (
        'jobs.batch is forbidden: User "system:serviceaccount:airflow:worker" cannot create resource "jobs" '
        'in API group "batch" in the namespace "toposieve"'
    )
    words = in_words(answer(403, message))
    assert words.startswith(
        "system:serviceaccount:airflow:worker lacks a right: the verb create on jobs of the API group batch"
    )


def test_credentials_that_have_expired_come_with_the_remedy() -> None:
    assert in_words(answer(401, "Unauthorized")) == (
        "Kubernetes does not know who asks (HTTP 401, Unauthorized): renew the credentials of Airflow's connection"
    )


def test_other_refusals_keep_kubernetes_own_words() -> None:
    assert in_words(answer(422, "spec.template: Invalid value")) == (
        "Kubernetes refuses (HTTP 422): spec.template: Invalid value"
    )
    assert "no JSON" in in_words(ApiException(status=400, reason="no JSON"))


@pytest.mark.parametrize(
    ("status", "final"), [(400, True), (403, True), (404, True), (422, True), (409, False), (500, False)]
)
def test_what_would_be_refused_again(status: int, final: bool) -> None:
    assert refuses(answer(status, "no")) is final


def test_a_full_quota_is_not_for_ever() -> None:
    assert not refuses(answer(403, 'jobs.batch "train" is forbidden: exceeded quota: small'))
