"""What a job's log says of its output: where its run is, and what it has compared."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import Any

from toposieve_airflow.contract.step import Step

_WORKER = re.compile(r"\[worker (\d+)\] ")
_COMPARISON = re.compile(r"\bcomparison: (\{.*\})$")
_RUN = re.compile(r"results in (/.+|[a-z][a-z0-9]*://.+)")


class OutputError(Exception):
    """A job ended well but its output is not what it should be; the message names the file."""


class JobLog:
    """Passes lines of a job on to the task's log, those of a worker under its own name, and keeps the runs they name.

    Args:
        log: Logger of the task.
        is_ours: Whether it is one of our jobs, whose lines mean something.
    """

    def __init__(self, log: Any, is_ours: bool = True) -> None:
        """Nothing is passed on yet."""
        self._log = log
        self._is_ours = is_ours
        self.runs: list[str] = []
        self.comparison: dict[str, Any] | None = None
        """What would change if a model were published, if the job has compared any."""

    def __call__(self, line: str) -> None:
        """Take a line; one of several workers begins with ``[worker 1]``."""
        worker = _WORKER.match(line)
        logger = logging.getLogger(f"toposieve.worker.{worker[1]}") if worker else self._log
        logger.info("%s", line)
        if self._is_ours:
            self.note(line)

    def note(self, line: str) -> None:
        """Look for what a line names, without passing it on."""
        self.runs += _RUN.findall(line)
        if found := _COMPARISON.search(line):
            self.comparison = json.loads(found[1])


def with_run(step: Step, runs: Sequence[str]) -> Step:
    """The step with the folder that its job's log has named last, if only the log names it.

    Raises:
        OutputError: The log names none.
    """
    if not step["run_in_log"]:
        return step
    if not runs:
        raise OutputError(f"the job says that it is done but not where in {', '.join(step['outputs'])} its results are")
    return {**step, "outputs": [runs[-1]]}
