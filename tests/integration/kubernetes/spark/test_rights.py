"""Every right of the chart's Roles that Spark uses is needed: without it Spark says which one it lacks."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kubernetes import client

from support.charts import RELEASE, find, render
from support.cluster import Namespace
from support.rights import ACCOUNTS, DRIVER, DRIVER_S_END, SUBMISSION, Right, rules
from support.spark_submission import driver_log, submit

PI = "local:///opt/toposieve/.venv-jobs/lib/python3.11/site-packages/pyspark/examples/src/main/python/pi.py"


@contextmanager
def without(namespace: Namespace, account: str, *missing: Right) -> Iterator[None]:
    """Take rights from an account while the block lasts."""
    api = client.RbacAuthorizationV1Api(namespace.core.api_client)
    name = f"{RELEASE}-{account}"
    api.patch_namespaced_role(name, namespace.name, {"rules": rules(ACCOUNTS[account] - set(missing))})
    try:
        yield
    finally:
        before = find(render({}), "Role", name)["rules"]
        api.patch_namespaced_role(name, namespace.name, {"rules": before})


def output_without(namespace: Namespace, account: str, *missing: Right) -> str:
    """What spark-submit and the driver say of a job when an account lacks rights."""
    with without(namespace, account, *missing):
        done = submit(namespace, PI, "1")
    return done.output + driver_log(namespace, done)


def in_words_of(namespace: Namespace, account: str, missing: Right) -> str:
    user = f"system:serviceaccount:{namespace.name}:{RELEASE}-{account}"
    return f'User "{user}" cannot {missing.verb} resource "{missing.resource}" in API group "{missing.group}"'


@pytest.mark.parametrize(
    ("account", "missing"),
    [*(("runner", right) for right in SUBMISSION), *(("spark", right) for right in DRIVER)],
    ids=lambda each: str(each),
)
def test_each_right_is_missed_by_name(submitter, account, missing):
    assert in_words_of(submitter, account, missing) in output_without(submitter, account, missing)


def test_each_right_of_the_clean_up_is_missed_by_name(submitter):
    output = output_without(submitter, "spark", *DRIVER_S_END)
    for missing in DRIVER_S_END:
        assert in_words_of(submitter, "spark", missing) in output
