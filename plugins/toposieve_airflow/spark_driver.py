"""The driver pod of a Spark job on Kubernetes: its log, what it waits for, how it ended, its removal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kubernetes.client.exceptions import ApiException

from toposieve_airflow.processes import TAIL_LINES, error_line
from toposieve_airflow.tf_spawner import diagnosis
from toposieve_airflow.tf_spawner.cluster import GangCluster, in_words
from toposieve_airflow.tf_spawner.diagnosis import State
from toposieve_airflow.tf_spawner.reading import Reading
from toposieve_airflow.tf_spawner.watching import Objects, changes
from toposieve_airflow.tf_spawner.worker_logs import follow_log

BROKEN_S = 60.0
"""How long a driver's image may fail to be pulled."""

LOG_END_S = 10.0

_UNDER_WAY: dict[str, Any] = {"spec": {}}


class SparkPods(GangCluster):
    """Pods of Spark jobs in one namespace."""

    def remove_pods(self, selector: str) -> None:
        """Delete the pods with these labels; Kubernetes deletes what else a driver has made with it.

        Raises:
            StillThere: Something is left all the same.
            Refused: The API server does not allow it.
        """
        for name in self._pods_within(selector, 0):
            self._ask(self._core.delete_namespaced_pod, name, self.namespace)
        self._wait_for_end(selector)


class DriverWatch:
    """Follows the one pod with some labels, in threads of its own, while the block lasts.

    Args:
        pods: Where it is.
        selector: Its labels.
        log: Takes the lines of its log, and what it waits for.
        give_up: Called when it can never start.

    Attributes:
        exit_code: Of its container, once that has ended.
        tail: The last lines of its log.
        problem: Why it can never start.
    """

    def __init__(self, pods: SparkPods, selector: str, log: Callable[[str], None], give_up: Callable[[], None]) -> None:
        """Follow nothing yet."""
        self._pods = pods
        self._selector = selector
        self._log = log
        self._give_up = give_up
        self._reading = Reading()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._follower: threading.Thread | None = None
        self._said: set[str] = set()
        self._broken_since: float | None = None
        self.exit_code: int | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.problem: str | None = None

    def __enter__(self) -> DriverWatch:
        """Begin."""
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait a moment for the rest of the log, then end."""
        if self._follower is not None:
            self._over.wait(LOG_END_S)
            self._follower.join(LOG_END_S)
        self._reading.stop()
        self._watcher.join()

    @property
    def error(self) -> str:
        """The job's own error if it printed one, otherwise its last lines."""
        return error_line(self.tail)

    def _watch(self) -> None:
        try:
            for pods in changes(self._pods.pods(self._selector), self._reading, self._log):
                self._take(pods)
        except ApiException as error:
            self._log(f"the driver's pod cannot be followed: {in_words(error)}")

    def _take(self, pods: Objects) -> None:
        for name, pod in pods.items():
            container = pod["spec"]["containers"][0]["name"]
            kind, details = diagnosis.container_state(pod, container)
            if kind != "waiting" and self._follower is None:
                self._follow(name, container)
            if kind == "terminated":
                self.exit_code = details.get("exitCode")
                self._over.set()
            self._note_waiting(State(job=_UNDER_WAY, pods=pods), container)
        if not pods and self._follower is not None:
            self._over.set()

    def _follow(self, name: str, container: str) -> None:
        def follow() -> None:
            try:
                follow_log(self._pods.log(name, container), self._reading, self._over, self._put)
            except ApiException as error:
                self._log(f"the driver's log cannot be read: {in_words(error)}")

        self._follower = threading.Thread(target=follow, daemon=True)
        self._follower.start()

    def _put(self, line: str) -> None:
        self.tail.append(line)
        self._log(line)

    def _note_waiting(self, state: State, container: str) -> None:
        for reason in diagnosis.pending_reasons(state, container):
            if reason not in self._said:
                self._said.add(reason)
                self._log(f"the driver waits: {reason}")
        broken = diagnosis.broken_pods(state, container)
        if not broken:
            self._broken_since = None
        elif self._broken_since is None:
            self._broken_since = time.monotonic()
        elif time.monotonic() - self._broken_since > BROKEN_S and self.problem is None:
            self.problem = next(iter(broken.values()))[1].why
            self._give_up()
