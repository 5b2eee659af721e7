import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support import kubernetes_gangs as objects
from toposieve_airflow.kubernetes.api.reading import Reading
from toposieve_airflow.kubernetes.api.watching import Outages
from toposieve_airflow.kubernetes.spark import driver
from toposieve_airflow.kubernetes.spark.driver import DriverWatch

ENOUGH_S = 20
UNSCHEDULABLE = objects.condition("PodScheduled", "Unschedulable", "0/2 nodes are available", status="False")


def refusal(verb: str) -> ApiException:
    error = ApiException(status=403)
    error.body = json.dumps({"message": f'User "runner" cannot {verb} resource "pods" in API group ""'})
    return error


class Cluster:
    """Pods as somebody else changes them, and their log."""

    def __init__(self) -> None:
        self.now: dict[str, Any] = {}
        self.about: dict[str, Any] = {}
        self.lines: list[str] = []
        self.refuses: dict[str, ApiException] = {}

    def pods(self, selector: str) -> Callable[[Reading], Iterator[Any]]:
        return lambda reading: self._changes("pods", reading)

    def warnings(self) -> Callable[[Reading], Iterator[Any]]:
        return lambda reading: self._changes("warnings", reading)

    def log(self, pod: str, container: str) -> str:
        return f"{pod}/{container}"

    def outages(self) -> Outages:
        return Outages()

    def _changes(self, kind: str, reading: Reading) -> Iterator[Any]:
        while not reading.is_stopped():
            if kind in self.refuses:
                raise self.refuses[kind]
            yield self.now if kind == "pods" else self.about
            reading.pause(0.01)

    def follow_log(
        self, call: str, reading: Reading, is_over: threading.Event, put: Callable[[str], None], outages: Outages
    ) -> None:
        assert call == "driver/base"
        while "log" in self.refuses and not reading.is_stopped():
            assert outages.passes(self.refuses["log"])
            reading.pause(0.01)
        for line in self.lines:
            put(line)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(driver, "TICK_S", 0.01)
    monkeypatch.setattr(driver, "LOG_END_S", 0.5)
    monkeypatch.setattr(driver, "BROKEN_S", 0.05)
    monkeypatch.setattr(driver, "SUBMISSION_S", ENOUGH_S)
    monkeypatch.setattr(driver, "changes", lambda call, reading, tell, outages: call(reading))
    monkeypatch.setattr(driver, "follow_log", made.follow_log)
    return made


class Watched:
    """What a watch says while the block lasts, and whether it gives up."""

    def __init__(self, cluster: Cluster, startup_s: float = ENOUGH_S) -> None:
        self.log: list[str] = []
        self.gave_up = threading.Event()
        self.said = threading.Event()
        self.watch = DriverWatch(cluster, "", self._take, self.gave_up.set, startup_s)  # type: ignore[arg-type]

    def _take(self, line: str) -> None:
        self.log.append(line)
        self.said.set()

    def failure(self) -> str:
        with self.watch:
            assert self.gave_up.wait(ENOUGH_S), self.log
        assert self.watch.failure is not None
        return self.watch.in_words(self.watch.failure)


def spark_pod(role: str, state: dict[str, Any] | None, *conditions: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return objects.pod(0, state, *conditions, **{"name": role, "labels": {"spark-role": role}, **metadata})


def test_one_that_no_node_can_take_is_given_up_in_time_and_may_be_tried_again(cluster: Cluster) -> None:
    cluster.now = {"driver": spark_pod("driver", None, UNSCHEDULABLE)}
    watched = Watched(cluster, startup_s=0.1)
    assert watched.failure() == ("the driver has not started within 0 s: no node can take it: 0/2 nodes are available")
    assert watched.log == ["the driver waits: no node can take it: 0/2 nodes are available"]
    assert watched.watch.failure.may_retry


def test_the_time_that_spark_submit_takes_does_not_count(cluster: Cluster) -> None:
    watched = Watched(cluster, startup_s=0.1)
    with watched.watch:
        assert not watched.gave_up.wait(0.3)
        cluster.now = {"driver": spark_pod("driver", None, UNSCHEDULABLE)}
        assert watched.gave_up.wait(ENOUGH_S)
    assert "no node can take it" in watched.watch.in_words(watched.watch.failure)


def test_one_whose_own_container_has_ended_is_over_though_a_side_car_before_it_runs_on(cluster: Cluster) -> None:
    pod = spark_pod("driver", objects.terminated(2))
    pod["spec"]["containers"][0]["env"] = [{"name": "SPARK_APPLICATION_ID", "value": "spark-1"}]
    pod["spec"]["containers"].insert(0, {"name": "side-car"})
    pod["status"]["containerStatuses"].append({"name": "side-car", "state": objects.running()})
    cluster.now = {"driver": pod}
    assert "exit code 2" in Watched(cluster).failure()


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_the_time_in_a_queue_does_not_count(cluster: Cluster, role: str) -> None:
    gated = spark_pod(role, None, UNSCHEDULABLE)
    gated["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    cluster.now = {"driver": spark_pod("driver", objects.running()), role: gated}
    watched = Watched(cluster, startup_s=0.1)
    with watched.watch:
        assert not watched.gave_up.wait(0.3)
        gated["spec"]["schedulingGates"] = []
        assert watched.gave_up.wait(ENOUGH_S)
    assert any("its queue has not admitted it" in line for line in watched.log)
    assert "no node can take it" in watched.watch.in_words(watched.watch.failure)


def test_one_that_is_never_made_is_given_up_in_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "SUBMISSION_S", 0.0)
    assert "spark-submit has made no pod for it" in Watched(cluster, startup_s=0.1).failure()


def test_what_kubernetes_warns_of_is_the_reason(cluster: Cluster) -> None:
    cluster.now = {"driver": spark_pod("driver", objects.waiting("ContainerCreating"))}
    cluster.about = {
        "1": objects.warning("driver", "FailedMount", "no answer from nfs"),
        "2": objects.warning("another", "FailedMount", "something else"),
    }
    assert Watched(cluster, startup_s=0.1).failure().endswith("0 s: FailedMount: no answer from nfs")


@pytest.mark.parametrize(("message", "may_retry"), [("manifest unknown", False), ("no answer", True)])
def test_one_that_cannot_start_is_given_up_though_nothing_changes_any_more(
    cluster: Cluster, message: str, may_retry: bool
) -> None:
    cluster.now = {"driver": spark_pod("driver", objects.waiting("ImagePullBackOff", message))}
    watched = Watched(cluster)
    assert watched.failure() == f"the driver cannot start: its image cannot be pulled: {message}"
    assert watched.watch.failure.may_retry is may_retry


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (
            spark_pod("driver", objects.running(), objects.condition("DisruptionTarget", "DeletionByTaintManager")),
            "was lost with its node",
        ),
        (spark_pod("driver", objects.running(), deletionTimestamp="2026-01-01T00:00:10Z"), "was deleted"),
        (spark_pod("driver", objects.terminated(137, reason="OOMKilled")), "used more memory than its limit of 64Mi"),
        (spark_pod("driver", objects.terminated(3)), "failed with exit code 3"),
    ],
)
def test_what_happens_to_it_is_said_with_its_own_last_words(cluster: Cluster, pod: dict[str, Any], words: str) -> None:
    cluster.now, cluster.lines = {"driver": pod}, ["error: disk on fire"]
    watched = Watched(cluster)
    failure = watched.failure()
    assert words in failure
    assert failure.endswith(": disk on fire")
    assert watched.watch.failure.may_retry


def test_invalid_input_is_not_tried_again(cluster: Cluster) -> None:
    cluster.now = {"driver": spark_pod("driver", objects.terminated(2))}
    watched = Watched(cluster)
    assert "exit code 2" in watched.failure()
    assert not watched.watch.failure.may_retry


def test_one_that_vanishes_is_missed(cluster: Cluster) -> None:
    cluster.now, cluster.lines = {"driver": spark_pod("driver", objects.running())}, ["up"]
    watched = Watched(cluster)
    with watched.watch:
        assert watched.said.wait(ENOUGH_S)
        cluster.now = {}
        assert watched.gave_up.wait(ENOUGH_S)
    assert "somebody has deleted its pod" in watched.watch.failure.why


def test_a_good_end_is_no_failure_even_if_the_pod_is_deleted_then(cluster: Cluster) -> None:
    cluster.now, cluster.lines = {"driver": spark_pod("driver", objects.terminated(0))}, ["done"]
    watched = Watched(cluster, startup_s=0.1)
    with watched.watch:
        assert watched.said.wait(ENOUGH_S)
        watched.watch.wait_for_end()
        cluster.now = {}
        assert not watched.gave_up.wait(0.2)
    assert watched.log == ["done"]


WAITING = {f"exec-{index}": spark_pod("executor", None, UNSCHEDULABLE) for index in range(3)}


def test_a_driver_whose_executors_do_not_come_is_given_up_with_the_reason_said_once(cluster: Cluster) -> None:
    cluster.now = {"driver": spark_pod("driver", objects.running()), **WAITING}
    watched = Watched(cluster, startup_s=0.1)
    assert watched.failure() == (
        "the driver has got no executor within 0 s: no node can take it: 0/2 nodes are available"
    )
    assert watched.log == ["executors wait: no node can take it: 0/2 nodes are available"]
    assert watched.watch.failure.may_retry


@pytest.mark.parametrize("more", [{}, {"exec-3": spark_pod("executor", objects.running()), **WAITING}])
def test_a_driver_that_has_one_executor_or_asks_for_none_goes_on(cluster: Cluster, more: dict[str, Any]) -> None:
    cluster.now, cluster.lines = {"driver": spark_pod("driver", objects.running()), **more}, ["up"]
    watched = Watched(cluster, startup_s=0.1)
    with watched.watch:
        assert watched.said.wait(ENOUGH_S)
        cluster.now = {name: pod for name, pod in cluster.now.items() if name != "exec-3"}
        assert not watched.gave_up.wait(0.2)


def test_a_driver_is_waited_for_until_its_own_container_has_ended_though_a_side_car_lives(cluster: Cluster) -> None:
    cluster.now, cluster.lines = {"driver": spark_pod("driver", objects.terminated(0))}, ["done"]
    cluster.now["driver"]["status"]["containerStatuses"].append({"name": "side-car", "state": objects.running()})
    watched = Watched(cluster)
    with watched.watch:
        watched.watch.wait()
    assert (watched.watch.failure, watched.log) == (None, ["done"])


def test_whoever_is_told_to_end_waits_no_more(cluster: Cluster) -> None:
    cluster.now = {"driver": spark_pod("driver", objects.running())}
    watched = Watched(cluster)
    with watched.watch:
        watched.watch.cancel()
        watched.watch.wait()
    assert watched.watch.failure is None


def test_an_account_that_may_not_look_is_named_and_not_tried_again(cluster: Cluster) -> None:
    cluster.refuses["pods"] = refusal("watch")
    watched = Watched(cluster)
    assert "the driver cannot be followed: runner lacks a right: the verb watch on pods" in watched.failure()
    assert not watched.watch.failure.may_retry


def test_a_log_that_may_not_be_read_is_said_to_be_one(cluster: Cluster) -> None:
    cluster.now, cluster.refuses["log"] = {"driver": spark_pod("driver", objects.running())}, refusal("get")
    watched = Watched(cluster)
    with watched.watch:
        assert watched.said.wait(ENOUGH_S)
        assert not watched.gave_up.is_set()
    assert "the driver's log cannot be read: runner lacks a right: the verb get on pods" in watched.log[0]
