"""Follow what a worker prints, line by line, through restarts of the API server: nothing lost, nothing twice."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.tf_spawner.reading import READ_S, Reading
from toposieve_airflow.tf_spawner.watching import is_passing

PAUSE_S = 1.0
"""Seconds until a log that ended too early, or could not be had, is asked for again."""

_MARGIN_S = 5
_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (.*)", re.DOTALL)
_NOT_STARTED, _NOT_FOUND = 400, 404


class SeenLines:
    """Tells the new lines of a log from those that were there before, by the times that Kubernetes puts before each."""

    def __init__(self) -> None:
        """No line seen yet."""
        self._last = ""
        self._received = 0.0
        self._at_last = 0  # lines of the very time of the last one
        self._to_skip = 0  # of them, those that come once more

    def since_seconds(self) -> int | None:
        """How far back to ask for the log, by this machine's clock alone; None for all of it. Begins a new answer."""
        self._to_skip = self._at_last
        return math.ceil(time.monotonic() - self._received) + _MARGIN_S if self._last else None

    def text_if_new(self, line: str) -> str | None:
        """The line without its time if it has not been seen yet. A line without a time is Kubernetes' own: left out."""
        match = _TIMESTAMP.match(line)
        if match is None:
            return None
        moment, text = match.groups()
        if moment < self._last:
            return None
        if moment == self._last and self._to_skip:
            self._to_skip -= 1
            return None
        self._at_last = self._at_last + 1 if moment == self._last else 1
        self._last, self._received = moment, time.monotonic()
        return str(text)


def follow_log(
    log_call: Callable[..., Any], reading: Reading, is_over: threading.Event, put: Callable[[str], None]
) -> None:
    """Pass on the lines of a container's log until all of them are there.

    Args:
        log_call: ``read_namespaced_pod_log`` of the client, with pod and container filled in.
        reading: Ends it early.
        is_over: Set once the container is known to have ended: an answer begun after that is complete.
        put: Takes each line.

    Raises:
        ApiException: The API server refuses, and would again.
    """
    seen = SeenLines()
    while not reading.is_stopped():
        complete = is_over.is_set()
        try:
            response = log_call(
                follow=True,
                timestamps=True,
                **_since(seen),
                _preload_content=False,
                _request_timeout=READ_S,
            )
            for raw in reading.lines(response):
                text = seen.text_if_new(raw.decode(errors="replace").rstrip("\n"))
                if text is not None:
                    put(text)
            if complete or reading.is_stopped():
                return
            is_over.wait(PAUSE_S)
        except (ApiException, HTTPError, OSError) as error:
            if isinstance(error, ApiException) and error.status == _NOT_FOUND:
                return
            if isinstance(error, ApiException) and not is_passing(error) and error.status != _NOT_STARTED:
                raise
            reading.pause(PAUSE_S)


def _since(seen: SeenLines) -> dict[str, int]:
    seconds = seen.since_seconds()
    return {} if seconds is None else {"since_seconds": seconds}
