"""Answers of the API server that go on for hours, read by threads that must end at once all the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

READ_S = 60
"""Seconds without a byte after which a connection counts as dead."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 15.0
"""Seconds between two attempts while the API server does not answer: at first, and after some that failed."""


class Reading:
    """Open answers, and a way to end them all from another thread."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._stopped = threading.Event()
        self._open: set[Any] = set()
        self._lock = threading.Lock()

    def is_stopped(self) -> bool:
        """Whether all reading is to end."""
        return self._stopped.is_set()

    def lines(self, response: Any) -> Iterator[bytes]:
        """Lines of an answer as they come, until it ends or :meth:`stop` is called."""
        with self._lock:
            self._open.add(response)
        try:
            if not self.is_stopped():
                yield from response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until :meth:`stop`."""
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """End all reading."""
        self._stopped.set()
        with self._lock:
            for response in self._open:
                with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself meanwhile
                    response.shutdown()


class Pauses:
    """Pauses between attempts that fail: they grow, and chance shortens them, so that not all gangs ask at once.

    Args:
        reading: Ends a pause.
    """

    def __init__(self, reading: Reading) -> None:
        """Begin with the shortest."""
        self._reading = reading
        self.reset()

    def reset(self) -> None:
        """Begin anew: an attempt went well."""
        self._seconds = FIRST_PAUSE_S

    def take(self) -> None:
        """Make the next pause."""
        self._reading.pause(random.uniform(0.5, 1.0) * self._seconds)
        self._seconds = min(2 * self._seconds, LONGEST_PAUSE_S)
