"""Signs of life: who works on a folder, and who sweeps it. No locks: they do not cross nodes on NFS, nor exist on S3.

A run shows its sign before it looks at a folder, and waits for a sweep that has shown its own; a sweep shows its sign
before it looks for runs, and gives way to them. So whichever comes second sees the first.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable

from toposieve.errors import InvalidInputError
from toposieve.io.names import HEARTBEATS
from toposieve.io.store import Key

RENEWED_SECONDS = 60.0
FRESH_SECONDS = 900.0
"""A run whose last sign is older is taken for dead."""

SWEEP = "sweep-"
SWEEP_SECONDS = 60.0
"""A sweep ends within this time, or gives up; runs wait no longer for it."""

WAIT_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Heartbeat:
    """A sign that somebody works on a folder, renewed until it ends.

    Args:
        folder: The folder.
        kind: Start of its name: nothing for a run, :data:`SWEEP` for a sweep.
    """

    def __init__(self, folder: Key, kind: str = "") -> None:
        """Write nothing yet."""
        self.key = folder / HEARTBEATS / f"{kind}{uuid.uuid4().hex}.json"
        self._content = json.dumps({"host": socket.gethostname(), "pid": os.getpid()})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="heartbeat", daemon=True)

    def begin(self) -> float:
        """Write it, and say when that was by the store's clock."""
        now = self.show()
        self._thread.start()
        return now

    def end(self) -> float:
        """Remove it, and say when that was by the store's clock."""
        self._ended.set()
        self._thread.join()
        now = self.show()
        self.key.delete()
        return now

    def show(self) -> float:
        """Write it anew, and say when that was by the store's clock. A listing of signs is never older than that."""
        self.key.write_text(self._content)
        stat = self.key.stat()
        return stat.modified if stat else 0.0

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_SECONDS):
            try:
                self.show()
            except (OSError, InvalidInputError) as error:
                logger.warning("sign of life not written: %s", error)


def others(folder: Key, own: Heartbeat) -> list[float]:
    """When everybody else last showed a sign of life in a folder."""
    return [stat.modified for name, stat in (folder / HEARTBEATS).list().items() if name != own.key.name]


def any_fresh(signs: Iterable[float], now: float) -> bool:
    """Whether somebody may be alive. A sign from the future is one: the store's clock was put back."""
    return any(now - modified < FRESH_SECONDS for modified in signs)


def wait_for_sweeps(folder: Key, now: float) -> bool:
    """Wait until no sweep is at work in a folder; one that was killed holds us up for a minute.

    Args:
        folder: The folder.
        now: When we have shown our sign, by the store's clock: a sweep whose own is older has given up.

    Returns:
        Whether there was one.
    """
    waited = False
    longest = SWEEP_SECONDS + WAIT_SECONDS
    deadline = time.monotonic() + longest
    signs = folder / HEARTBEATS
    while any(now - s.modified < longest for s in signs.list(SWEEP).values()) and time.monotonic() < deadline:
        logger.info("waiting for a sweep of %s to end", folder)
        time.sleep(WAIT_SECONDS)
        waited = True
    return waited
