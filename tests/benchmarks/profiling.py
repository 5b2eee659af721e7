"""Where Python tasks spend their CPU time, by library; also Spark's daemon whose workers tell it.

Spark starts this file in place of the project's daemon, which it then is.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import runpy
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark import worker

from benchmarks.measure import measured
from benchmarks.table import Figure

FOLDER_VARIABLE = "TOPOSIEVE_BENCH_PROFILES"
"""Workers write profiles into this folder, while it is there."""

RUNNING = ".running"
LEAST_SHARE = 0.02
PACKAGES, OURS = "site-packages/", "jobs/toposieve/"


@contextmanager
def profiled(name: str, events: int) -> Iterator[list[Figure]]:
    """Profile a block's Spark jobs; afterwards the list has µs an event of each part, largest first.

    Profiling makes Python slower: the parts tell shares, not what the job takes without it.
    """
    folder, figures = Path(os.environ[FOLDER_VARIABLE]), list[Figure]()
    folder.mkdir()
    try:
        with measured() as usage:
            yield figures
            while any(folder.glob(f"*{RUNNING}")):  # a task's profile is written when its job has ended
                time.sleep(0.1)
        parts = seconds_by_part(folder)
    finally:
        shutil.rmtree(folder)
    parts["JVM, driver, start of workers"] = usage.cpu_seconds - parts.total()
    least = LEAST_SHARE * parts.total()
    parts["others"] = sum(seconds for seconds in parts.values() if seconds < least)
    figures += [
        Figure(f"{name}: {part}", 1e6 * seconds / events, "µs/event")
        for part, seconds in parts.most_common()
        if seconds >= least or part == "others"
    ]


def is_on() -> bool:
    """Whether tasks write profiles now."""
    return Path(os.environ[FOLDER_VARIABLE]).exists()


def seconds_by_part(folder: Path) -> Counter[str]:
    """Library, or module of ours → CPU seconds of its own functions and of what they call in C."""
    seconds: Counter[str] = Counter()
    for path in folder.glob("*.prof"):
        stats: dict[Any, Any] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
        for (file, _, function), (_, _, own, _, callers) in stats.items():
            if file != "~":
                seconds[part_of(file)] += own
                continue
            for (caller, _, _), (_, _, of_caller, _) in callers.items():
                seconds["decompression" if "decompress" in function else part_of(caller)] += of_caller
    return seconds


def part_of(file: str) -> str:
    """What a source file belongs to.

    >>> part_of("/lib/python3.12/site-packages/uproot/reading.py"), part_of("/jobs/toposieve/physics/isolation.py")
    ('uproot', 'toposieve.physics')
    >>> part_of("/jobs/toposieve/io/delphes.py"), part_of("/lib/python3.12/json/decoder.py")
    ('toposieve.io.delphes', 'Python')
    """
    if OURS in file:
        module = file.partition(OURS)[2].removesuffix(".py").split("/")
        return ".".join(["toposieve", *(module[:1] if module[0] == "physics" else module)])
    return file.partition(PACKAGES)[2].partition("/")[0] if PACKAGES in file else "Python"


class Profiler:
    """Profiles the tasks of a worker. Between tasks it waits inside of Spark's ``main``, for the next one to begin."""

    def __init__(self) -> None:
        self._profile: cProfile.Profile | None = None
        self._main, self._begin = worker.main, worker.check_python_version

    def begin(self, *arguments: Any) -> None:
        """What a task does first."""
        if is_on():
            self._path = Path(os.environ[FOLDER_VARIABLE]) / f"{uuid.uuid4().hex}{RUNNING}"
            self._path.touch()
            self._profile = cProfile.Profile(time.process_time)  # a task that waits for rows is not at work
            self._profile.enable()
        self._begin(*arguments)

    def main(self, *arguments: Any) -> None:
        """A task."""
        try:
            self._main(*arguments)
        finally:
            if self._profile is not None:
                self._profile.disable()
                self._profile.dump_stats(self._path)
                self._path.rename(self._path.with_suffix(".prof"))
                self._profile = None


if __name__ == "__main__":
    profiler = Profiler()
    worker.main, worker.check_python_version = profiler.main, profiler.begin
    runpy.run_module("toposieve.spark.daemon", run_name="__main__")
