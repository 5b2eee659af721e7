"""What the asset events of a task say of its output: enough to show where the output itself cannot be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from toposieve_airflow.contract.outputs import check_outputs, name_run
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.documents import Report
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.steps import Step

if TYPE_CHECKING:
    from airflow.sdk import Context

METRICS, CUTFLOW = "metrics.json", "cutflow.json"
SUMMARIES = {assets.REPORT.name: METRICS, assets.SELECTED.name: CUTFLOW}
"""Asset → the file of the output whose content its event carries in short."""


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
