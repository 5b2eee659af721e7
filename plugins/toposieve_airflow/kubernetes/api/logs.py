"""Follow what a worker prints, line by line, through restarts of the API server: nothing lost, nothing twice."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.kubernetes.api.reading import READ_S, Pauses, Reading
from toposieve_airflow.kubernetes.api.watching import Outages

PAUSE_S = 1.0
"""Seconds until a log that ended too early is asked for again."""

_MARGIN_S = 5
_REMEMBERED = 10_000
"""Lines that are known again when a log is asked for once more: far more than a worker writes in that margin."""

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\dT\S+) (.*)", re.DOTALL)
_NOT_STARTED, _NOT_FOUND = 400, 404


class SeenLines:
    """Tells the new lines of a log from those that an earlier answer has brought.

    Each line comes with the time at which its node read it. That time may go back: two streams are read at once, and
    clocks are set right. So a line is an old one if the very same has been seen, once for each time that it was seen.
    """

    def __init__(self) -> None:
        """No line seen yet."""
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)
        self._again: Counter[int] = Counter()  # lines of earlier answers that may come once more
        self._last = ""  # time of the last line, by its node's clock
        self._received = 0.0  # the same by this machine's

    def since_seconds(self) -> int | None:
        """How far back to ask for the log; None for all of it. Begins a new answer.

        From the last line's own time on, since there may be hours between that and now; a node's clock that is ahead
        does not make it less than what has passed since the line came.
        """
        self._again = Counter(self._recent)
        if not self._last:
            return None
        since_written = (datetime.now(UTC) - datetime.fromisoformat(self._last)).total_seconds()
        return math.ceil(max(since_written, time.monotonic() - self._received)) + _MARGIN_S

    def text_if_new(self, line: str) -> str | None:
        """The line without its time if it has not been seen yet. A line without a time is Kubernetes' own: left out."""
        match = _TIMESTAMP.match(line)
        if match is None:
            return None
        if self._again[hash(line)]:
            self._again[hash(line)] -= 1
            return None
        self._recent.append(hash(line))
        self._last, text = match.groups()
        self._received = time.monotonic()
        return str(text)


def follow_log(
    log_call: Callable[..., Any],
    reading: Reading,
    is_over: threading.Event,
    put: Callable[[str], None],
    outages: Outages,
) -> None:
    """Pass on the lines of a container's log until all of them are there.

    Args:
        log_call: ``read_namespaced_pod_log`` of the client, with pod and container filled in.
        reading: Ends it early.
        is_over: Set once the container is known to have ended: an answer begun after that is complete.
        put: Takes each line.
        outages: Tells which errors pass.

    Raises:
        ApiException: The API server refuses, and would again.
    """
    seen, pauses = SeenLines(), Pauses(reading)
    while not reading.is_stopped():
        complete = is_over.is_set()
        try:
            response = log_call(
                follow=True, timestamps=True, **_since(seen), _preload_content=False, _request_timeout=READ_S
            )
            pauses.reset()
            outages.end()
            for raw in reading.lines(response):
                text = seen.text_if_new(raw.decode(errors="replace").rstrip("\n"))
                if text is not None:
                    put(text)
            if complete or reading.is_stopped():
                return
            is_over.wait(PAUSE_S)
        except (ApiException, HTTPError, OSError) as error:
            status = error.status if isinstance(error, ApiException) else None
            if status == _NOT_FOUND and is_over.is_set():
                return
            if status not in (_NOT_STARTED, _NOT_FOUND) and not outages.passes(error):
                raise
            pauses.take()


def _since(seen: SeenLines) -> dict[str, int]:
    seconds = seen.since_seconds()
    return {} if seconds is None else {"since_seconds": seconds}
