import json

import pytest
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from support.answers import Answer, Script
from toposieve_airflow.kubernetes.api import cluster as module
from toposieve_airflow.kubernetes.api import reading
from toposieve_airflow.kubernetes.api.cluster import Cluster, Refused, RefusedForNow, in_words, refuses


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


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_retried", lambda ask: ask)
    monkeypatch.setattr(reading, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(reading, "LONGEST_PAUSE_S", 0.0)


def ask(monkeypatch: pytest.MonkeyPatch, *answers: Answer | Exception, others: Answer | Exception) -> object:
    """What a patient one gets that is answered so, while it may or may not list pods."""
    cluster = Cluster(ApiClient(), "here", is_patient=True)
    monkeypatch.setattr(cluster._core, "list_namespaced_pod", lambda *_, **__: Script([others])())
    return cluster._ask(Script(answers), missing=())


NO_RIGHT = answer(403, "no right")
PASSING = [ProtocolError("cut"), answer(401, "who?"), NO_RIGHT, answer(404, "no such namespace")]


@pytest.mark.usefixtures("no_pause")
def test_one_that_has_worked_before_is_asked_again_until_it_works_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(monkeypatch, *PASSING, Answer("{}"), others=NO_RIGHT) == {}
    assert [line for line in caplog.messages if "trying again" in line] == [
        "the API server does not do what it is asked, trying again: ProtocolError: cut"
    ]


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    ("error", "kind"), list(zip(PASSING, [ProtocolError, RefusedForNow, Refused, Refused], strict=True))
)
def test_one_that_has_never_worked_is_believed(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Cluster(ApiClient(), "here")._ask(Script([error]), missing=())


@pytest.mark.usefixtures("no_pause")
def test_a_right_that_is_missing_beside_others_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused):
        ask(monkeypatch, NO_RIGHT, others=Answer("{}"))


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(("status", "seconds"), [(422, 300.0), (403, 0.0)])
def test_a_refusal_that_stays_is_believed_in_the_end(
    monkeypatch: pytest.MonkeyPatch, status: int, seconds: float
) -> None:
    monkeypatch.setattr("toposieve_airflow.kubernetes.api.watching.REFUSED_S", seconds)
    with pytest.raises(Refused):
        ask(monkeypatch, *[answer(status, "no")] * 1000, others=NO_RIGHT)
