"""CPU seconds and memory of this process and everything that it started: JVM, Spark's Python workers, gangs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLING_SECONDS = 0.2

Process = tuple[int, str]
"""Number and start time."""

_looking_seconds: dict[threading.Thread, float] = {}
"""Thread that measures → what that takes itself."""


@dataclass
class Usage:
    """What a block of code used."""

    cpu_seconds: float = 0.0
    peak_process_bytes: int = 0
    """The most resident memory that any one process had; of this one, what it took meanwhile: it wrote the files."""


@dataclass(frozen=True)
class Run:
    """Something that was done to so many events (or files, or units), and what that took."""

    count: int
    usage: Usage

    def per_count(self, smaller: Run) -> float:
        """CPU seconds an event, from this run and a smaller one of the same kind: without what each run costs.

        >>> Run(30, Usage(cpu_seconds=8.0)).per_count(Run(10, Usage(cpu_seconds=4.0)))
        0.2
        """
        return (self.usage.cpu_seconds - smaller.usage.cpu_seconds) / (self.count - smaller.count)

    def fixed(self, smaller: Run) -> float:
        """CPU seconds that a run of no event would cost."""
        return self.usage.cpu_seconds - self.count * self.per_count(smaller)


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure a block: CPU seconds of the whole process tree, and the largest process in it.

    Processes are looked at a few times a second: Spark's Python workers end without telling anybody what they used.
    """
    usage = Usage()
    before, last = _cpu_seconds(), {}
    looked = sum(_looking_seconds.values())
    done = threading.Event()
    sampler = threading.Thread(target=_watch, args=(usage, last, done, _resident_bytes(os.getpid())), daemon=True)
    sampler.start()
    try:
        yield usage
    finally:
        done.set()
        sampler.join()
        last |= _cpu_seconds()
        used = sum(seconds - before.get(process, 0.0) for process, seconds in last.items())
        usage.cpu_seconds = used - (sum(_looking_seconds.values()) - looked)


def _watch(usage: Usage, last: dict[Process, float], done: threading.Event, own: int) -> None:
    while not done.wait(_SAMPLING_SECONDS):
        last |= _cpu_seconds()
        sizes = [_resident_bytes(pid) - own * (pid == os.getpid()) for pid, _ in last]
        usage.peak_process_bytes = max(usage.peak_process_bytes, *sizes)
        _looking_seconds[threading.current_thread()] = time.thread_time()


def _tree() -> set[int]:
    """This process and all its living descendants."""
    parents = {int(path.parent.name): _stat(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat")}
    found = {os.getpid()}
    while True:
        children = {pid for pid, stat in parents.items() if stat and int(stat[1]) in found}
        if children <= found:
            return found
        found |= children


def _stat(pid: int | str) -> list[str]:
    """Fields of ``/proc/<pid>/stat`` from the state on; empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_seconds() -> dict[Process, float]:
    """What each living process of the tree has used itself so far."""
    stats = {pid: _stat(pid) for pid in _tree()}
    # utime and stime; the start time tells processes apart that have the same number one after the other
    return {(pid, stat[19]): (int(stat[11]) + int(stat[12])) / _TICKS for pid, stat in stats.items() if stat}


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
