"""Servers that tests start: on 127.0.0.1, on free ports, and gone when the tests are, whatever ends them."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

START_SECONDS = 120
_PR_SET_PDEATHSIG = 1


class Unobtainable(Exception):
    """A server is not on this machine and cannot be fetched; the message says what to install."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class ServerProcess:
    """One process with a log, in a group of its own. Start it from the main thread: it dies with the thread.

    Args:
        command: Program and arguments.
        folder: Where it runs and where its log is.
        environment: Added to ours.
        user: Whom to become. A server that did so itself would no longer die with us.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "server.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                extra_groups=None if user is None else [],
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Return once the server answers.

        Raises:
            RuntimeError: It ended, or takes too long; with the end of its log.
        """
        end = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None or time.monotonic() > end:
                text = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{self._process.args!r} does not answer:\n{text}")
            time.sleep(0.1)

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the whole group."""
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        """End the group at once; these servers hold nothing that anybody wants."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)
        self._process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def answers(port: int) -> bool:
    """Whether somebody listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
