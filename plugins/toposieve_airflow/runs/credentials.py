"""Credentials of the stores: Airflow's connections, as the environment variables that the jobs' libraries read.

They are read when a task runs, and go into the environment of its processes alone: never into a command line, a Spark
property, an XCom or a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

VARIABLES: dict[str, dict[str, str]] = {
    "s3": {
        "login": "AWS_ACCESS_KEY_ID",
        "password": "AWS_SECRET_ACCESS_KEY",
        "aws_session_token": "AWS_SESSION_TOKEN",
        "region_name": "AWS_REGION",
        "endpoint_url": "AWS_ENDPOINT_URL",
    },
    "hdfs": {
        "login": "HADOOP_USER_NAME",
        "conf_dir": "HADOOP_CONF_DIR",
        "kerberos_cache": "KRB5CCNAME",
        "token_file": "HADOOP_TOKEN_FILE_LOCATION",
    },
    "root": {
        "x509_proxy": "X509_USER_PROXY",
        "x509_certificates": "X509_CERT_DIR",
        "kerberos_cache": "KRB5CCNAME",
        "token_file": "BEARER_TOKEN_FILE",
    },
}
"""Kind of store → field of its connection (``login``, ``password``, or a key of ``extra``) → environment variable.

All but the keys of S3 name files. Without a key, S3 is asked in the role of the machine.
"""


class CredentialsError(AirflowFailException):
    """A connection is not as the jobs need it; the message names connection and field, and never a value."""


def credentials(connections: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with what these connections hold.

    Args:
        connections: Kind of store → name of the Airflow connection.

    Raises:
        CredentialsError: A connection is missing, has a field that means nothing here, or half a key.
    """
    found: dict[str, str] = {}
    for kind, name in connections.items():
        fields = _fields(connection(name, f"which the profile names for {kind}"))
        _check(kind, name, fields)
        found |= {VARIABLES[kind][field]: value for field, value in fields.items()}
    return found


def connection(name: str, purpose: str) -> Connection:
    """A connection of Airflow.

    Args:
        name: Its name.
        purpose: What it is for, for the message.

    Raises:
        CredentialsError: There is none of this name.
    """
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        raise CredentialsError(
            f"Airflow has no connection {name}, {purpose}: add it (`airflow connections add {name} ...`), or name "
            "another one in the profile"
        ) from None


def _fields(connection: Connection) -> dict[str, str]:
    own = {"login": connection.login, "password": connection.password, **connection.extra_dejson}
    return {field: str(value) for field, value in own.items() if value}


def _check(kind: str, name: str, fields: Mapping[str, str]) -> None:
    known = VARIABLES[kind]
    if unknown := sorted(fields.keys() - known.keys()):
        raise CredentialsError(
            f"connection {name}: {', '.join(unknown)} means nothing for {kind}; it may have {', '.join(known)}"
        )
    if kind == "s3" and ("login" in fields) != ("password" in fields):
        raise CredentialsError(f"connection {name}: a key of S3 is login (key id) and password (secret), or neither")
