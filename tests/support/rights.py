"""What our accounts may do on a cluster, each right for what needs it. The chart's Roles are to be exactly this."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple


class Right(NamedTuple):
    """One verb on one kind of object."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        """As an id of a test."""
        return f"{self.verb}-{self.resource}".replace("/", "-")


def rights(group: str, resource: str, *verbs: str) -> list[Right]:
    """Rights on one kind of object."""
    return [Right(group, resource, verb) for verb in verbs]


GANG = [
    *rights("batch", "jobs", "create", "list", "watch", "patch", "delete"),
    *rights("", "services", "create"),
    *rights("", "pods", "list", "watch", "delete"),
    *rights("", "pods/log", "get"),
    *rights("", "events", "list", "watch"),
]
"""TFSpawnerOperator."""

SCRIPT = [
    *rights("", "configmaps", "create"),
    *rights("", "secrets", "create"),
]
"""TFSpawnerOperator with a script of anybody's, on top of these."""

SPARK_OPERATOR = [
    *rights("", "pods", "list", "watch", "patch", "delete"),
    *rights("", "pods/log", "get"),
    *rights("", "events", "list", "watch"),
]
"""SparkOnKubernetesOperator, for the pods that spark-submit and the driver have made."""

SUBMISSION = [
    *rights("", "pods", "create", "get"),
    *rights("", "services", "create", "patch"),
    *rights("", "configmaps", "create", "patch"),
    *rights("networking.k8s.io", "networkpolicies", "create", "patch"),
]
"""spark-submit in cluster mode, which says by name what it lacks."""

DRIVER = [
    *rights("", "pods", "create", "get", "list"),
    *rights("", "configmaps", "create"),
]
"""A driver, which says by name what it lacks."""

DRIVER_S_END = [
    *rights("", "pods", "deletecollection"),
    *rights("", "configmaps", "deletecollection"),
    *rights("", "services", "deletecollection"),
]
"""A driver that ends: it asks for each of these whatever became of the others, and says by name what it lacks."""

DRIVER_UNNAMED = rights("", "pods", "watch", "delete")
"""A driver: a refused watch is said without its name; an executor that is lost is the only one to be deleted."""

ACCOUNTS = {
    "runner": {*GANG, *SPARK_OPERATOR, *SUBMISSION},
    "spark": {*DRIVER, *DRIVER_S_END, *DRIVER_UNNAMED},
}
"""Account of the chart → all its rights: Airflow's tasks, and drivers."""


def rights_of(role: dict[str, Any]) -> list[Right]:
    """Every right that a Role gives."""
    return [
        Right(*each) for rule in role["rules"] for each in product(*map(rule.get, ("apiGroups", "resources", "verbs")))
    ]


def rules(given: set[Right] | list[Right]) -> list[dict[str, Any]]:
    """A Role's rules that give these rights."""
    return [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in given]
