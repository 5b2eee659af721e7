"""Run a job in this process, as its command line would, and note what it had to do and what that took."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from benchmarks import profiling
from benchmarks.measure import measured
from toposieve import cli
from toposieve.cost import Work
from toposieve.environment import JOBS_FOLDER


class Observation(NamedTuple):
    """A job that ran: what it had to do, stage by stage, and the CPU seconds that it took."""

    works: dict[str, Work]
    cpu_seconds: float


OBSERVATIONS: list[Observation] = []


def run_job(name: str, base: Path | str, *arguments: str) -> None:
    """Run ``jobs/<name>.py`` with these arguments."""
    spec = importlib.util.spec_from_file_location(name, JOBS_FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with _noted_works() as works, measured() as usage:
        module.main(module.arg_parser().parse_args(["--base", str(base), *arguments]))
    if not profiling.is_on():  # which takes time
        OBSERVATIONS.append(Observation(works, usage.cpu_seconds))


@contextmanager
def _noted_works() -> Iterator[dict[str, Work]]:
    """What the job's plan would show, as it is when the job begins."""
    works: dict[str, Work] = {}
    with patch.object(cli, "shows_plan", lambda _, find: bool(works.update(find()))):
        yield works
