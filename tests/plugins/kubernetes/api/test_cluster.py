import json

import pytest
from kubernetes.client.exceptions import ApiException

from toposieve_airflow.kubernetes.api.cluster import in_words, refuses


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
