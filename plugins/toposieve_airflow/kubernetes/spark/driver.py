"""The pods of a Spark job on Kubernetes: the driver's log, what they wait for, its end and why, their removal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from kubernetes.client.exceptions import ApiException

from toposieve_airflow.contract.exits import TAIL_LINES, error_line
from toposieve_airflow.kubernetes.api import pod_state
from toposieve_airflow.kubernetes.api.cluster import CHANGED, Cluster, in_words
from toposieve_airflow.kubernetes.api.logs import follow_log
from toposieve_airflow.kubernetes.api.ownership import Manifest, is_same_work
from toposieve_airflow.kubernetes.api.pod_state import Failure, Remedy
from toposieve_airflow.kubernetes.api.reading import Reading
from toposieve_airflow.kubernetes.api.watching import Objects, Outages, changes, is_passing

BROKEN_S = 60.0
"""How long a driver's image may fail to be pulled."""

SUBMISSION_S = 300.0
"""Seconds that spark-submit may take to make a driver's pod: on a busy machine its Java alone takes many."""

_SPARKS = "SPARK_APPLICATION_ID"
"""A variable that Spark sets in the container that it runs in."""

TICK_S = 0.5
LOG_END_S = 10.0


class SparkPods(Cluster):
    """Pods of Spark jobs in one namespace."""

    def drivers(self, selector: str) -> list[Manifest]:
        """Drivers with these labels.

        Raises:
            Refused: The API server does not allow it.
        """
        return list(self._pods_within(f"{selector},spark-role=driver", 0).values())

    def adopt_driver(self, driver: Manifest, ownership: Manifest) -> bool:
        """Write into a driver's metadata who answers for it; whether it still was as it had been read.

        Raises:
            Refused: The API server does not allow it.
        """
        name, version = (driver["metadata"][key] for key in ("name", "resourceVersion"))
        metadata = {"metadata": {**ownership, "resourceVersion": version}}
        patch = self._core.patch_namespaced_pod
        return self._ask(patch, name, self.namespace, metadata, missing=CHANGED) is not None

    def remove_pods(self, selector: str, owner: str | None = None) -> None:
        """Delete the pods with these labels and wait for their end; Kubernetes deletes what a driver has made with it.

        A driver is deleted as it was just read: if another try adopts it in between, that is seen.

        Args:
            selector: Labels.
            owner: Whose the drivers have to be; otherwise nothing is done. None: whoever's.

        Raises:
            StillThere: Something is left all the same.
            Refused: The API server does not allow it.
        """
        delete = self._core.delete_namespaced_pod
        if not self._delete(partial(self.drivers, selector), delete, owner):
            return
        for name in self._pods_within(selector, 0):
            self._ask(delete, name, self.namespace)
        self._wait_for_end(selector)


def may_be_adopted(driver: Manifest, digest: str) -> bool:
    """Whether a driver left by a process that is gone does the same work and has not failed."""
    return is_same_work(driver, digest) and pod_state.failure_of(driver, _container(driver)) is None


class DriverWatch:
    """Follows a driver and its executors, in threads of its own, while the block lasts.

    Args:
        pods: Where they are.
        selector: Their labels.
        log: Takes the lines of the driver's log, and what driver and executors wait for.
        give_up: Called once the driver has failed or can never start.
        startup_s: Seconds until the driver has to run, and as many more until an executor has to; a queue that keeps
            them back may do so for longer.

    Attributes:
        failure: Why the driver has failed.
        tail: The last lines of its log.
    """

    def __init__(
        self,
        pods: SparkPods,
        selector: str,
        log: Callable[[str], None],
        give_up: Callable[[], None],
        startup_s: float = 600,
    ) -> None:
        """Follow nothing yet."""
        self._pods = pods
        self._selector = selector
        self._log = log
        self._give_up = give_up
        self._startup_s = startup_s
        self._now: Objects = {}
        self._warnings: Objects = {}
        self._reading = Reading()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._follower: threading.Thread | None = None
        self._said: set[str] = set()
        self._due = time.monotonic() + SUBMISSION_S + startup_s
        self._was_made = False
        self._broken_since: float | None = None
        self._executors_since: float | None = None
        self._had_executors = False
        self._cancelled = False
        self.failure: Failure | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def __enter__(self) -> DriverWatch:
        """Begin."""
        for work in (self._watch_pods, self._watch_warnings, self._keep_looking):
            self._threads.append(threading.Thread(target=self._telling_errors, args=(work,), daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait a moment for the rest of the log, then end."""
        self.wait_for_end()
        self._reading.stop()
        for thread in self._threads:
            thread.join(LOG_END_S)  # an answer that does not come is not waited for

    def wait(self) -> None:
        """Wait for the driver's end, and for the rest of its log; or until :meth:`cancel`."""
        while not (self._cancelled or self._over.wait(TICK_S)):
            pass
        self.wait_for_end()

    def cancel(self) -> None:
        """Wait no more. May be called by a signal handler: takes no lock."""
        self._cancelled = True

    def wait_for_end(self) -> None:
        """Wait a moment until the end of the driver, if there is one, is known, and its log is here."""
        if self._follower is not None and not self._cancelled:
            self._over.wait(LOG_END_S)
            self._follower.join(LOG_END_S)

    def in_words(self, failure: Failure) -> str:
        """A failure of the driver with its own error if it printed one, otherwise with its last lines."""
        return f"the driver {failure.why}" + (f": {error_line(self.tail)}" if self.tail else "")

    # --- news --------------------------------------------------------------------------------------------------------

    def _watch_pods(self) -> None:
        for pods in changes(self._pods.pods(self._selector), self._reading, self._log, self._pods.outages()):
            self._now = pods

    def _watch_warnings(self) -> None:
        for warnings in changes(self._pods.warnings(), self._reading, lambda text: None, self._pods.outages()):
            self._warnings = warnings

    def _telling_errors(self, work: Callable[[], None]) -> None:
        try:
            work()
        except ApiException as error:
            remedy = Remedy.RETRY if is_passing(error) else Remedy.NONE
            self._fail(Failure(f"cannot be followed: {in_words(error)}", remedy=remedy))
        except Exception as error:  # whatever it is, the task has to know
            self._fail(Failure(f"cannot be followed: {error!r}"))

    def _fail(self, failure: Failure) -> None:
        if self.failure is None:
            self.failure = failure
            self._over.set()
            self._give_up()

    # --- by the clock ------------------------------------------------------------------------------------------------

    def _keep_looking(self) -> None:
        while not self._reading.is_stopped():
            self._look(self._now)
            self._reading.pause(TICK_S)

    def _look(self, pods: Mapping[str, Manifest]) -> None:
        pending_pods = ((pod, pod_state.pending(pod, _container(pod), self._warnings)) for pod in pods.values())
        waits = [(_is_executor(pod), text) for pod, text in pending_pods if text is not None]
        for is_executor, text in waits:
            self._say(f"executors wait: {text}" if is_executor else f"the driver waits: {text}")
        if self._over.is_set():
            return
        drivers = {name: pod for name, pod in pods.items() if not _is_executor(pod)}
        if drivers and not self._was_made:
            self._was_made, self._due = True, time.monotonic() + self._startup_s
        if any(map(pod_state.is_gated, drivers.values())):
            self._due = time.monotonic() + self._startup_s
        for name, pod in drivers.items():
            self._look_at_driver(name, pod)
        if not drivers and self._follower is not None:
            self._fail(Failure("is gone: somebody has deleted its pod"))
        elif self._follower is None and time.monotonic() > self._due:
            reasons = "; ".join(text for is_executor, text in waits if not is_executor)
            reason = reasons or ("Kubernetes gives no reason" if drivers else "spark-submit has made no pod for it")
            self._fail(Failure(f"has not started within {self._startup_s:.0f} s: {reason}"))
        else:
            self._look_at_executors(pods, [text for is_executor, text in waits if is_executor])

    def _look_at_executors(self, pods: Mapping[str, Manifest], waits: list[str]) -> None:
        """Give up a driver none of whose executors has come; once one has, Spark itself replaces those it loses."""
        executors = [pod for pod in pods.values() if _is_executor(pod)]
        self._had_executors |= any(pod_state.has_started(pod, _container(pod)) for pod in executors)
        if any(map(pod_state.is_gated, executors)):
            self._executors_since = None
            return
        if self._had_executors or not (executors or self._executors_since):
            return
        self._executors_since = self._executors_since or time.monotonic()
        if time.monotonic() - self._executors_since > self._startup_s:
            reason = "; ".join(dict.fromkeys(waits)) or "Kubernetes gives no reason"
            self._fail(Failure(f"has got no executor within {self._startup_s:.0f} s: {reason}"))

    def _look_at_driver(self, name: str, pod: Manifest) -> None:
        container = _container(pod)
        kind, _ = pod_state.container_state(pod, container)
        if kind != "waiting" and self._follower is None:
            self._follow(name, container)
        if failure := pod_state.failure_of(pod, container) or self._stays_broken(pod):
            self._fail(failure)
        elif kind == "terminated":
            self._over.set()

    def _stays_broken(self, pod: Manifest) -> Failure | None:
        found = pod_state.broken(pod, _container(pod))
        if found is None:
            self._broken_since = None
            return None
        self._broken_since = self._broken_since or time.monotonic()
        if time.monotonic() - self._broken_since < BROKEN_S:
            return None
        return replace(found[1], why=f"cannot start: {found[1].why}")

    # --- the log -----------------------------------------------------------------------------------------------------

    def _follow(self, name: str, container: str) -> None:
        what = self._pods.log(name, container), self._reading, self._over, self._put, _OfLog(self._say)
        self._follower = threading.Thread(target=follow_log, args=what, daemon=True)
        self._follower.start()

    def _put(self, line: str) -> None:
        self.tail.append(line)
        self._log(line)

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._log(text)


class _OfLog(Outages):
    """Waits for a log, whatever the API server answers, and says so: a driver is not given up for it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Nothing has gone wrong yet."""
        super().__init__()
        self._say = say

    def passes(self, error: Exception) -> bool:
        """It does."""
        if isinstance(error, ApiException) and not is_passing(error):
            self._say(f"the driver's log cannot be read: {in_words(error)}")
        return True


def _is_executor(pod: Manifest) -> bool:
    return bool(pod["metadata"]["labels"].get("spark-role") == "executor")


def _container(pod: Manifest) -> str:
    """Name of the container that Spark runs in: it puts it behind those that a pod template adds."""
    containers = pod["spec"]["containers"]
    variables = ({each["name"] for each in container.get("env", [])} for container in containers)
    ours = (container for container, names in zip(containers, variables, strict=True) if _SPARKS in names)
    return str(next(ours, containers[0])["name"])
