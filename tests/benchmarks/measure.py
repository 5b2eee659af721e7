"""CPU seconds and memory of this process and everything that it started: JVM, Spark's Python workers, gangs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SAMPLING_SECONDS = 0.2


@dataclass
class Usage:
    """What a block of code used."""

    cpu_seconds: float = 0.0
    peak_process_bytes: int = 0
    """The most resident memory that any one process had."""


@contextmanager
def measured() -> Iterator[Usage]:
    """Measure a block: CPU seconds of the whole process tree, and the largest process in it."""
    usage = Usage()
    done = threading.Event()
    sampler = threading.Thread(target=_watch_memory, args=(usage, done), daemon=True)
    start = _tree_cpu_seconds()
    sampler.start()
    try:
        yield usage
    finally:
        usage.cpu_seconds = _tree_cpu_seconds() - start
        done.set()
        sampler.join()


def _watch_memory(usage: Usage, done: threading.Event) -> None:
    while not done.wait(_SAMPLING_SECONDS):
        sizes = [_resident_bytes(pid) for pid in _tree()]
        usage.peak_process_bytes = max(usage.peak_process_bytes, *sizes)


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
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _tree_cpu_seconds() -> float:
    return sum(_cpu_ticks(pid) for pid in _tree()) / _TICKS


def _cpu_ticks(pid: int) -> int:
    # utime, stime, and those of the children that ended and were waited for
    return sum(int(value) for value in _stat(pid)[11:15])


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
