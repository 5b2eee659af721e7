"""Job processes on this machine: run several at once, follow their logs, end them all when one fails."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import psutil

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE, TAIL_LINES, error_line

GRACE_S = 4.0
"""Seconds between TERM and KILL; below the five that Airflow leaves a task."""

POLL_S = 0.05
ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
SETTLE_S = 2.0
"""Seconds in which other workers may end too, so that the one at fault can be told from those that lost it."""

READ_S = 0.5
"""Seconds in which what ended processes have said last is read; something that they have left may hold their output."""

PR_SET_PDEATHSIG = 1
_C_LIBRARY = ctypes.CDLL(None)

Log = Callable[[str], None]


class JobFailed(Exception):
    """A process ended badly.

    Args:
        who: What to call the process in the message.
        exit_code: Its exit code; negative for a signal.
        tail: Its last lines.
    """

    def __init__(self, who: str, exit_code: int, tail: Sequence[str]) -> None:
        """Put the job's own error into the message."""
        self.exit_code = exit_code
        self.tail = list(tail)
        super().__init__(f"{who} {_how(exit_code)}: {error_line(self.tail)}")

    @property
    def is_invalid_input(self) -> bool:
        """Whether the job says that its input or configuration is at fault."""
        return self.exit_code == INVALID_INPUT_EXIT_CODE


class JobProcesses:
    """Processes that share one job.

    Args:
        names: What to call each in logs and errors.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Start nothing yet."""
        self._names = names
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self._lines: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        self._tails: list[deque[str]] = [deque(maxlen=TAIL_LINES) for _ in names]

    def run(self, command: Sequence[str], environments: Sequence[Mapping[str, str]], log: Log) -> None:
        """Run the command once per environment and follow all of them until the last has ended.

        Raises:
            JobFailed: One ended badly; the others have been ended too.
        """
        with ExitStack() as cleanup:
            cleanup.callback(self.stop)
            for environment in environments:
                self._start(command, environment)
            first_bad = self._follow(log)
            if first_bad is not None:
                raise self._failure(first_bad, self._settle(log))

    def stop(self) -> None:
        """End whatever still runs, children included."""
        end_processes(self._running())

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # No process group of its own: whoever kills the task's group must reach the workers too.
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            preexec_fn=end_with_parent(signal.SIGKILL),
        )
        index = len(self._processes)
        self._processes.append(process)
        self._readers.append(threading.Thread(target=self._read, args=(index, process), daemon=True))
        self._readers[index].start()

    def _read(self, index: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                self._lines.put((index, line.rstrip("\n")))
        self._lines.put((index, None))

    def _follow(self, log: Log) -> int | None:
        """Pass on lines until all have ended well (None) or one has ended badly (its index)."""
        running = len(self._processes)
        while running:
            index, line = self._lines.get()
            if line is not None:
                self._pass_on(index, line, log)
                continue
            running -= 1
            if self._processes[index].wait() != 0:
                return index
        return None

    def _settle(self, log: Log) -> list[int | None]:
        """Let the others end by themselves for a moment, then end them; returns the exit codes that were their own."""
        _wait(self._running(), SETTLE_S)
        own_codes = [process.poll() for process in self._processes]
        self.stop()
        deadline = time.monotonic() + READ_S
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        while not self._lines.empty():
            index, line = self._lines.get()
            if line is not None:
                self._pass_on(index, line, log)
        return own_codes

    def _pass_on(self, index: int, line: str, log: Log) -> None:
        self._tails[index].append(line)
        log(f"[{self._names[index]}] {line}" if len(self._names) > 1 else line)

    def _failure(self, first_bad: int, codes: Sequence[int | None]) -> JobFailed:
        """The failure to report: invalid input if any process says so, otherwise the first that ended."""
        at_fault = codes.index(INVALID_INPUT_EXIT_CODE) if INVALID_INPUT_EXIT_CODE in codes else first_bad
        return JobFailed(self._names[at_fault], codes[at_fault] or 0, self._tails[at_fault])

    def _running(self) -> list[int]:
        return [process.pid for process in self._processes if process.poll() is None]


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nothing listens on now."""
    with ExitStack() as sockets:
        ports = []
        for _ in range(count):
            listener = sockets.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(int(listener.getsockname()[1]))
    return ports


def end_with_parent(number: signal.Signals) -> Callable[[], object]:
    """For ``preexec_fn``: Linux sends the new process this signal when the thread that starts it ends, even by KILL."""
    return partial(_C_LIBRARY.prctl, PR_SET_PDEATHSIG, int(number))


def end_children() -> None:
    """End every process that this one has started, and theirs."""
    end_processes([child.pid for child in psutil.Process().children()])


def end_processes(pids: Sequence[int]) -> None:
    """Send TERM to these processes and all their children, and KILL to those that are left after a grace period."""
    family = [process for pid in pids for process in _family(pid)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _wait_for(family, GRACE_S):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for(family, GRACE_S)


def end_sessions(sessions: Sequence[int], seconds: float) -> None:
    """End all processes of these sessions, those too that still start: ask, so that tasks end their jobs, then insist.

    Args:
        sessions: Numbers of the processes that lead them.
        seconds: How long to wait for an end, each time.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        told: set[int] = set()
        deadline = time.monotonic() + seconds
        while (members := _members(sessions)) and time.monotonic() < deadline:
            for pid in members - told:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            told |= members
            time.sleep(0.1)


def _members(sessions: Sequence[int]) -> set[int]:
    members = set()
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) in sessions and process.info["status"] not in ENDED:
                members.add(process.pid)
    return members


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait(pids: Sequence[int], seconds: float) -> None:
    _wait_for([process for pid in pids for process in _family(pid)], seconds)


def _wait_for(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until these have ended and return those that have not. Leaves exit codes to whoever started them."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_S)
        alive = [process for process in alive if _is_alive(process)]
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() not in ENDED)
    except psutil.NoSuchProcess:
        return False


def _how(exit_code: int) -> str:
    return f"was ended by signal {-exit_code}" if exit_code < 0 else f"failed with exit code {exit_code}"
