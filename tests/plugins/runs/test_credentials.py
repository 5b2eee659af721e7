import json
from typing import Any

import pytest

from toposieve_airflow.runs.credentials import CredentialsError, credentials
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

MARKER = "marker-of-a-secret"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch):
    """Make an Airflow connection ``store``."""

    def connect(**fields: Any) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_STORE", json.dumps({"conn_type": "generic", **fields}))

    return connect


def test_no_connection_is_no_variable() -> None:
    assert credentials({}) == {}


def test_a_key_of_s3_and_where_it_is_valid(connect) -> None:
    extra = {"region_name": "eu-central-1", "endpoint_url": "http://minio:9000", "aws_session_token": "t"}
    connect(login="id", password=MARKER, extra=extra)
    assert credentials({"s3": "store"}) == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": MARKER,
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://minio:9000",
    }


def test_without_a_key_s3_is_asked_in_the_role_of_the_machine(connect) -> None:
    connect(extra={"region_name": "eu-central-1"})
    assert credentials({"s3": "store"}) == {"AWS_REGION": "eu-central-1"}


def test_users_and_files_of_the_other_kinds(connect) -> None:
    connect(login="physics", extra={"conf_dir": "/etc/hadoop", "kerberos_cache": "FILE:/run/krb5"})
    assert credentials({"hdfs": "store"}) == {
        "HADOOP_USER_NAME": "physics",
        "HADOOP_CONF_DIR": "/etc/hadoop",
        "KRB5CCNAME": "FILE:/run/krb5",
    }
    connect(extra={"x509_proxy": "/run/proxy", "token_file": "/run/token"})
    assert credentials({"root": "store"}) == {"X509_USER_PROXY": "/run/proxy", "BEARER_TOKEN_FILE": "/run/token"}


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (
            "s3",
            {"login": "a", "password": MARKER, "extra": {"role_arn": "b"}},
            "store: role_arn means nothing",
        ),
        ("s3", {"password": MARKER}, "a key of S3 is login"),
        ("hdfs", {"login": "a", "password": MARKER}, "password means nothing for hdfs; it may have login, conf_dir"),
    ],
)
def test_what_would_have_no_effect_is_refused_without_a_value(
    connect, kind: str, fields: dict[str, Any], message: str
) -> None:
    connect(**fields)
    with pytest.raises(CredentialsError, match=message) as caught:
        credentials({kind: "store"})
    assert MARKER not in str(caught.value)


def test_they_are_in_the_environment_of_a_job_and_not_in_what_is_stored_of_it(connect) -> None:
    connect(login="id", password=MARKER)
    jobs = JobsEnvironment("python", {"PYTHONPATH": "/jobs"}, {"s3": "store"})
    assert jobs.own_variables()["AWS_SECRET_ACCESS_KEY"] == MARKER
    assert MARKER not in repr(jobs)
