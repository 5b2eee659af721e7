"""Drivers that change, or that another try adopts, while they are adopted or deleted."""

from typing import Any

import pytest
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from support import kubernetes_gangs as objects
from support.answers import Answer
from toposieve_airflow.kubernetes.api.ownership import OWNER_ANNOTATION
from toposieve_airflow.kubernetes.spark.driver import SparkPods


def driver(version: int, owner: str = "ours") -> dict[str, Any]:
    metadata = {"uid": "a", "resourceVersion": str(version), "annotations": {OWNER_ANNOTATION: owner}}
    return objects.pod(0, objects.running(), name="driver", **metadata)


class Api:
    """One driver, which becomes another one after each look, before it is written to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *states: dict[str, Any]) -> None:
        self.there: dict[str, Any] | None = states[0]
        self.asked: list[str] = []
        self._later = list(states[1:])
        self.pods = SparkPods(ApiClient(), "here")
        monkeypatch.setattr(self.pods, "_core", self)
        monkeypatch.setattr(self.pods, "_pods_within", self._look)

    def _look(self, selector: str, seconds: float) -> dict[str, Any]:
        found = {"driver": self.there} if self.there else {}
        self.there = self._later.pop(0) if self._later else self.there
        return found

    def delete_namespaced_pod(self, name: str, namespace: str, *, body: dict[str, Any], **_: Any) -> Answer:
        self._write("delete", body["preconditions"])
        self.there = None
        return Answer("{}")

    def patch_namespaced_pod(self, name: str, namespace: str, body: dict[str, Any], **_: Any) -> Answer:
        self._write("adopt", {"resourceVersion": body["metadata"]["resourceVersion"]})
        return Answer("{}")

    def list_namespaced_pod(self, namespace: str, **_: Any) -> None: ...

    def _write(self, what: str, as_read: dict[str, str]) -> None:
        self.asked.append(what)
        assert self.there is not None
        if not as_read.items() <= self.there["metadata"].items():
            raise ApiException(status=409)


def test_a_driver_that_only_changes_is_deleted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(monkeypatch, driver(1), driver(2))
    api.pods.remove_pods("a=b", "ours")
    assert (api.there, api.asked) == (None, ["delete", "delete"])


@pytest.mark.parametrize("states", [[driver(1), driver(2, "another try")], [driver(1, "another try")]])
def test_a_driver_that_another_try_adopts_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, states: list[dict[str, Any]]
) -> None:
    api = Api(monkeypatch, *states)
    api.pods.remove_pods("a=b", "ours")
    assert api.there == states[-1]


@pytest.mark.parametrize(("now", "taken"), [(driver(1), True), (driver(2), False)])
def test_a_driver_is_adopted_as_it_was_read(monkeypatch: pytest.MonkeyPatch, now: dict[str, Any], taken: bool) -> None:
    assert Api(monkeypatch, now).pods.adopt_driver(driver(1), {"annotations": {}}) is taken
