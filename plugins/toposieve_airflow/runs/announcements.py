"""Check a task's output by the jobs' own command, wherever it lies, and say in asset events what it is.

The events say enough to show where the output itself cannot be seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.sdk.exceptions import AirflowFailException

from toposieve_airflow.contract.exits import error_line
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.contract.step import STEP_VERSION, Step
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.documents import Report
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

if TYPE_CHECKING:
    from airflow.sdk import Context

RUN_KEY = "run"
"""XCom of a training: ``label=models/model/run``, as ``evaluate.py --labels`` takes it."""

TRAININGS = ("train", "train_trees")
"""Tasks that have it."""

METRICS, CUTFLOW = "metrics.json", "cutflow.json"
SUMMARIES = {assets.REPORT.name: METRICS, assets.SELECTED.name: CUTFLOW}
"""Asset → the file of the output whose content its event carries in short."""


def check_version(step: Step) -> None:
    """Check that a step was planned by this code: Airflow may have been upgraded since.

    Raises:
        AirflowFailException: It was planned by another.
    """
    if (version := step.get("version")) != STEP_VERSION:
        raise AirflowFailException(
            f"this run was planned by another version of Toposieve (its steps are of version {version}, not "
            f"{STEP_VERSION}): clear its task plan with all after it, or start a new run: what is complete is kept"
        )


def check_and_announce(step: Step, jobs: JobsEnvironment, outlets: Sequence[Any], context: Context) -> None:
    """Check a task's output, then tell its asset events what it is, and later tasks where a run is.

    Args:
        step: What the task has done.
        jobs: The jobs' environment, which can read the output wherever it lies.
        outlets: The task's assets.
        context: Of the task.

    Raises:
        OutputError: The output is not as promised.
    """
    names = [asset.name for asset in outlets]
    told = check_outputs(step, jobs, [SUMMARIES[name] for name in names if name in SUMMARIES])
    name_run(step, context)
    for asset in outlets:
        event = context["outlet_events"][asset]
        event.extra = extra(asset.name, step, told)
        if asset.name == assets.REPORT.name:
            event.add_partitions(step["label"])


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


def extra(asset: str, step: Step, told: Mapping[str, Any]) -> dict[str, Any]:
    """What an event of an asset carries.

    Args:
        asset: Name of the asset.
        step: What the task has done.
        told: File → content, of those in :data:`SUMMARIES`.
    """
    path = step["outputs"][0]
    if asset == assets.REPORT.name:
        known: dict[str, Any] = msgspec.to_builtins(msgspec.convert(told[METRICS], Report))
    elif asset == assets.SELECTED.name:
        known = {"cutflow": _cutflow(told[CUTFLOW])}
    elif asset == assets.MODEL.name:
        known = dict(zip(("model", "run"), path.rsplit("/", 2)[1:], strict=True))
    else:
        known = {"dataset": step["label"]} if asset == assets.DATASET.name else {}
    return {**known, "path": path}


def _cutflow(content: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Sample → step → events, without weights and bad files."""
    samples = {name: counts for name, counts in content.items() if isinstance(counts, dict)}
    return {
        name: {step: events for step, events in counts.items() if isinstance(events, int)}
        for name, counts in samples.items()
    }
