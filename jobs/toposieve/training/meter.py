"""How quickly something goes on, and when to say so. No TensorFlow here."""

from __future__ import annotations

import time

LOG_SECONDS = 5.0


class Meter:
    """A clock that runs from when it is made."""

    def __init__(self) -> None:
        """Start it."""
        self._begun = self._said = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._begun

    def rate(self, count: float) -> float:
        """What was done since the beginning, by the second."""
        return count / max(self.seconds, 1e-9)

    def is_due(self) -> bool:
        """Whether it is some seconds since this was last true, or since the beginning."""
        now = time.monotonic()
        if now - self._said < LOG_SECONDS:
            return False
        self._said = now
        return True
