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
from contextlib import suppress
from pathlib import Path

from toposieve.errors import ConflictError, InvalidInputError
from toposieve.io.names import HEARTBEATS
from toposieve.io.store import Key

RENEWED_SECONDS = 60.0
FRESH_SECONDS = 900.0
"""A run whose last sign is older is taken for dead."""
LAPSED_SECONDS = 5 * RENEWED_SECONDS
"""A claim whose last sign is older is anybody's: who is alive after all learns it before he writes again."""

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
        self._content = {"host": socket.gethostname(), "pid": os.getpid()}
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
        self.key.write_text(json.dumps(self._content))
        stat = self.key.stat()
        return stat.modified if stat else 0.0

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_SECONDS):
            try:
                self.show()
            except (OSError, InvalidInputError, ConflictError) as error:
                logger.warning("sign of life not written: %s", error)


class Claim(Heartbeat):
    """The sign of the one writer of a folder, which nobody may write beside. Whoever takes it over removes it.

    The next try of the same task takes over at once, on whatever machine, and so does anybody on the same machine once
    the process is gone; others when there was no sign for some minutes.

    Args:
        folder: The folder.
        task: What the process works for, the same in every try; empty if nobody says.
    """

    def __init__(self, folder: Key, task: str) -> None:
        """Write nothing yet."""
        super().__init__(folder)
        self._content |= {"task": task}
        self._is_shown = False

    def __enter__(self) -> Claim:
        """Take the folder.

        Raises:
            ConflictError: Somebody else has it, or takes it at the same moment.
        """
        now = self.begin()
        try:
            for name, stat in self.key.parent.list().items():
                if name != self.key.name:
                    self._take_over(self.key.parent / name, now - stat.modified)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the folder to others."""
        with suppress(ConflictError):
            self.end()

    def show(self) -> float:
        """Write it anew, unless it was taken over.

        Raises:
            ConflictError: It was.
        """
        if self._is_shown:
            self.check()
        self._is_shown = True
        return super().show()

    def check(self) -> None:
        """See that nobody has taken over.

        Raises:
            ConflictError: Somebody has.
        """
        if self.key.stat() is None:
            raise ConflictError(f"{self.key.parent.parent} was taken over by another process, which goes on with it")

    def _take_over(self, sign: Key, age: float) -> None:
        try:
            who = json.loads(sign.read_text())
        except (FileNotFoundError, ValueError):  # just ended, or just begun
            who = {}
        is_next_try = bool(who.get("task")) and who["task"] == self._content["task"]
        is_gone = who.get("host") == self._content["host"] and not Path(f"/proc/{who['pid']}").exists()
        if age < LAPSED_SECONDS and not (is_next_try or is_gone):
            raise ConflictError(
                f"{sign.parent.parent} is being written by {who.get('task') or 'somebody'} (process {who.get('pid')} "
                f"on {who.get('host')}, {max(0.0, age):.0f} s ago): wait for it, or, if it is dead, delete {sign}"
            )
        sign.delete()


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
