"""News of a gang: threads that watch the API server and read logs, and one queue that the task's own thread reads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from toposieve_airflow.kubernetes.api.logs import follow_log
from toposieve_airflow.kubernetes.api.reading import Reading
from toposieve_airflow.kubernetes.api.watching import ListCall, changes
from toposieve_airflow.kubernetes.gang.cluster import GangCluster
from toposieve_airflow.kubernetes.gang.manifests import Gang

News = tuple[str, Any]
"""What it is about, and the content:

``job``, ``pods``, ``warnings``: all objects by name. ``line``: pod and text. ``end``: the pod whose log is over.
``note``: a text for the log. ``error``: an exception that ends everything.
"""

_WAITING = 1000
"""News that may wait for the task's thread; a worker that prints faster than they are logged is read more slowly."""


class Feed(Protocol):
    """Where news come from."""

    def next(self, seconds: float) -> News | None:
        """The next news, if some come in time."""

    def follow_log(self, pod: str, container: str, is_over: threading.Event) -> None:
        """Begin to pass on a container's log; ``is_over`` is to be set once it has ended."""


class ClusterFeed:
    """News from the API server.

    Args:
        cluster: Where the gang runs.
        gang: The gang.
    """

    def __init__(self, cluster: GangCluster, gang: Gang) -> None:
        """Ask nothing yet."""
        self._cluster = cluster
        self._gang = gang
        self._news: queue.Queue[News] = queue.Queue(_WAITING)
        self._cancelled: Exception | None = None
        self._reading = Reading()
        self._logs_come = threading.Event()

    def __enter__(self) -> ClusterFeed:
        """Begin to watch."""
        self._watch("job", self._cluster.jobs(self._gang.selector))
        self._watch("pods", self._cluster.pods(self._gang.selector))
        self._watch("warnings", self._cluster.warnings(self._gang.name))
        return self

    def __exit__(self, *_: object) -> None:
        """End every thread."""
        self._reading.stop()

    def next(self, seconds: float) -> News | None:
        """The next news, if some come in time."""
        if self._cancelled is not None:
            return "error", self._cancelled
        try:
            return self._news.get(timeout=seconds)
        except queue.Empty:
            return None

    def follow_log(self, pod: str, container: str, is_over: threading.Event) -> None:
        """Begin to pass on a container's log; ``is_over`` is to be set once it has ended."""

        def follow() -> None:
            call, outages = self._cluster.log(pod, container), self._cluster.outages(self._logs_come)
            follow_log(call, self._reading, is_over, lambda line: self._put(("line", (pod, line))), outages)
            self._put(("end", pod))

        self._start(follow)

    def cancel(self, error: Exception) -> None:
        """Make this error the next news. May be called by a signal handler: takes no lock."""
        self._cancelled = error

    def _watch(self, kind: str, list_call: ListCall) -> None:
        def follow() -> None:
            outages = self._cluster.outages()
            for objects in changes(list_call, self._reading, lambda text: self._put(("note", text)), outages):
                self._put((kind, objects))

        self._start(follow)

    def _put(self, news: News) -> None:
        """Hand over news as soon as there is room, or never once nobody reads them any more."""
        while not self._reading.is_stopped():
            with suppress(queue.Full):
                self._news.put(news, timeout=1.0)
                return

    def _start(self, follow: Callable[[], None]) -> None:
        def tell_errors() -> None:
            try:
                follow()
            except Exception as error:  # whatever it is, the task's thread has to know
                self._put(("error", error))

        threading.Thread(target=tell_errors, daemon=True).start()
