"""Real jobs on Spark, in processes of their own, whose units a test can hold (see ``held_units/sitecustomize.py``)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from support.repository import REPOSITORY

SUBMIT = Path(sys.executable).parent / "spark-submit"
VARIABLE = "TOPOSIEVE_TEST_HOLD"
PATH = os.pathsep.join(map(str, (REPOSITORY / "tests" / "support" / "held_units", REPOSITORY / "jobs")))
LONGEST_SECONDS = 180


def wait_for(ready: Callable[[], object], what: str, seconds: float = LONGEST_SECONDS) -> None:
    """Poll until something is there."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what} takes too long"
        time.sleep(0.1)


class Hold:
    """Units are held here.

    Args:
        folder: Made for this.
        free: Units that are finished before any is held.
        most: Units that are held at most.
    """

    def __init__(self, folder: Path, free: int, most: int = 99) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "log").touch()
        (folder / "limits").write_text(f"{free} {most}")

    @property
    def environment(self) -> dict[str, str]:
        """Of every Python process of the job."""
        return {VARIABLE: str(self.folder), "PYTHONPATH": PATH}

    def units(self, word: str) -> list[str]:
        """Units that are "held" or "done", in order."""
        return [name for said, _, name in self._lines() if said == word]

    def processes(self) -> list[int]:
        """Those that hold units."""
        return [int(pid) for said, pid, _ in self._lines() if said == "held"]

    def wait(self, held: int, done: int = 0) -> None:
        """Return once so many units are held and done."""
        wait_for(lambda: len(self.units("held")) >= held and len(self.units("done")) >= done, "holding units")

    def end(self) -> None:
        """Let all go on."""
        (self.folder / "go").touch()

    def _lines(self) -> list[list[str]]:
        return [line.split(maxsplit=2) for line in (self.folder / "log").read_text().splitlines()]


class RunningJob:
    """A job in a process group of its own.

    Args:
        command: Program and arguments.
        log: Gets what it says.
        environment: Added to ours.
    """

    def __init__(self, command: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end_with(self, number: int) -> int:
        """Send a signal to the driver alone, and wait until Java has followed it; how the driver ended."""
        self._process.send_signal(number)
        code = self._process.wait(LONGEST_SECONDS)
        wait_for(lambda: not self._is_alive(), "Java's end")
        return code

    def finish(self) -> str:
        """Wait for its good end; what it said."""
        code = self._process.wait(LONGEST_SECONDS)
        said = self.log.read_text(errors="replace")
        assert code == 0, said[-5000:]
        return said

    def kill(self) -> None:
        """End what is left of it."""
        if self._is_alive():
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _is_alive(self) -> bool:
        self._process.poll()
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def python_job(script: str, *arguments: str) -> list[str]:
    """A job as a user starts it."""
    return [sys.executable, str(REPOSITORY / "jobs" / script), *arguments]


def submitted_job(conf: Mapping[str, str], script: str, *arguments: str) -> list[str]:
    """A job under spark-submit, as Airflow starts it."""
    options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    return [str(SUBMIT), *options, str(REPOSITORY / "jobs" / script), *arguments]
