"""Every right of the chart's Roles that Spark uses is needed: without it Spark says which one it lacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
from kubernetes import client

from support.charts import RELEASE, find, render
from support.cluster import Namespace
from support.spark_submission import driver_log, submit

PI = "local:///opt/toposieve/.venv-jobs/lib/python3.11/site-packages/pyspark/examples/src/main/python/pi.py"

LEAST = [
    ("runner", "", "pods", "create"),
    ("runner", "", "pods", "get"),
    ("runner", "", "services", "create"),
    ("runner", "", "services", "patch"),
    ("runner", "", "configmaps", "create"),
    ("runner", "", "configmaps", "patch"),
    ("runner", "networking.k8s.io", "networkpolicies", "create"),
    ("runner", "networking.k8s.io", "networkpolicies", "patch"),
    ("spark", "", "pods", "create"),
    ("spark", "", "pods", "get"),
    ("spark", "", "pods", "list"),
    ("spark", "", "pods", "deletecollection"),
    ("spark", "", "configmaps", "create"),
    ("spark", "", "configmaps", "deletecollection"),
    ("spark", "", "services", "deletecollection"),
    ("spark", "", "persistentvolumeclaims", "deletecollection"),
]
"""Account, API group, resource, verb: rights whose lack Spark says by name."""

UNNAMED = [("spark", "", "pods", "watch"), ("spark", "", "pods", "delete")]
"""A refused watch is said without its name; an executor that is lost is the only one to be deleted."""


def rights_of(account: str) -> list[tuple[str, ...]]:
    """API group, resource and verb of every right that the chart gives."""
    rules = find(render({}), "Role", f"{RELEASE}-{account}")["rules"]
    return [each for rule in rules for each in product(rule["apiGroups"], rule["resources"], rule["verbs"])]


@contextmanager
def without(namespace: Namespace, account: str, *right: str) -> Iterator[None]:
    """Take one right from an account while the block lasts."""
    api = client.RbacAuthorizationV1Api(namespace.core.api_client)
    name = f"{RELEASE}-{account}"
    left = [each for each in rights_of(account) if each != right]
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in left]
    before = find(render({}), "Role", name)["rules"]
    api.patch_namespaced_role(name, namespace.name, {"rules": rules})
    try:
        yield
    finally:
        api.patch_namespaced_role(name, namespace.name, {"rules": before})


def test_a_driver_has_no_other_rights():
    assert {("spark", *right) for right in rights_of("spark")} == {
        each for each in LEAST + UNNAMED if each[0] == "spark"
    }


@pytest.mark.parametrize(
    ("account", "group", "resource", "verb"), LEAST, ids=[" ".join(filter(None, each)) for each in LEAST]
)
def test_each_right_is_missed_by_name(submitter, account, group, resource, verb):
    with without(submitter, account, group, resource, verb):
        done = submit(submitter, PI, "1")
    user = f"system:serviceaccount:{submitter.name}:{RELEASE}-{account}"
    missed = f'User "{user}" cannot {verb} resource "{resource}" in API group "{group}"'
    assert missed in done.output + driver_log(submitter, done)
