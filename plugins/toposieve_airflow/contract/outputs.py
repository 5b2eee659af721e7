"""Checks a job's output after the job says that it is done: by the jobs' own command, wherever the output lies."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toposieve_airflow.local.processes import error_line
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.steps import Step

if TYPE_CHECKING:
    from airflow.sdk import Context

RUN_KEY = "run"
"""XCom of a training: ``label=models/model/run``, as ``evaluate.py --labels`` takes it."""

TRAININGS = ("train", "train_trees")
"""Tasks that have it."""

_WORKER = re.compile(r"\[worker (\d+)\] ")
_COMPARISON = re.compile(r"\bcomparison: (\{.*\})$")
_RUN = re.compile(r"results in (/.+|[a-z][a-z0-9]*://.+)")


class OutputError(Exception):
    """A job ended well but its output is not what it should be; the message names the file."""


def check_outputs(step: Step, jobs: JobsEnvironment, told: Sequence[str] = ()) -> dict[str, Any]:
    """Check every manifest and file that a step promises.

    Args:
        step: What was done.
        jobs: The jobs' environment, which has the check.
        told: Names of small JSON files in the output.

    Returns:
        Name → content of each of them.

    Raises:
        OutputError: A manifest is missing, broken or of another configuration, a file is missing or cut short, or the
            check cannot be made.
    """
    if not (step["config"] or step["files"]):
        return {}
    promised = {"outputs": step["outputs"], "config": step["config"], "files": step["files"], "told": list(told)}
    result = jobs.run_module("toposieve.check_outputs", json.dumps(promised))
    if result.returncode != 0:
        raise OutputError(error_line(result.stderr.splitlines()))
    content: dict[str, Any] = json.loads(result.stdout) if told else {}
    return content


class JobLog:
    """Passes lines of a job on to the task's log, those of a worker under its own name, and keeps the runs they name.

    Args:
        log: Logger of the task.
    """

    def __init__(self, log: Any) -> None:
        """Nothing is passed on yet."""
        self._log = log
        self.runs: list[str] = []
        self.comparison: dict[str, Any] | None = None
        """What would change if a model were published, if the job has compared any."""

    def __call__(self, line: str) -> None:
        """Take a line; one of several workers begins with ``[worker 1]``."""
        worker = _WORKER.match(line)
        logger = logging.getLogger(f"toposieve.worker.{worker[1]}") if worker else self._log
        logger.info("%s", line)
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


def name_run(step: Step, context: Context) -> None:
    """Tell the tasks that come later where a run is, if only its job's log names it: :func:`with_run` has looked."""
    if step["run_in_log"]:
        name = "/".join(step["outputs"][0].rsplit("/", 3)[1:])
        context["ti"].xcom_push(key=RUN_KEY, value=f"{step['label']}={name}")


def with_trained(step: Step, context: Context) -> Step:
    """The step with the runs that trainings have named on its command line, and the labels that they have not."""
    if not step.get("runs"):
        return step
    found = [run for run in context["ti"].xcom_pull(task_ids=list(TRAININGS), key=RUN_KEY) if run]
    missing = sorted({*step["runs"]} - {run.partition("=")[0] for run in found}, key=step["runs"].index)
    labels = ["--labels", *found] if found else []
    return {**step, "arguments": [*step["arguments"], *labels, *(["--missing", *missing] if missing else [])]}
