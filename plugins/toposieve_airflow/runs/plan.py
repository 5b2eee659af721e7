"""The first task of every run: turn its params into steps, or fail before any work is done."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE, error_line
from toposieve_airflow.contract.step import RunSteps, every_step
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.partitions import PartitionError
from toposieve_airflow.runs.steps import StepError

if TYPE_CHECKING:
    from airflow.sdk import Context

BuildSteps = Callable[[Mapping[str, Any], str | None], RunSteps]
"""Params and partition key → steps of the run."""

BuildConfigs = Callable[[Mapping[str, Any]], dict[str, Any]]
"""Params → configurations of every stage of the run."""


class PlanOperator(BaseOperator):
    """Decide what each task of the run does, and check every stage's configuration by the jobs' own rules.

    Its result is the list of the run's days; the steps travel as XComs named by their tasks, so that a task fetches its
    own and no other.

    Args:
        build_steps: Params and partition key → steps.
        build_configs: Params → configurations of every stage.
        places: Options of the jobs that say where data lies → path or URL, such as ``base``.
        jobs: The jobs' environment, which has the rules.
        kwargs: As for BaseOperator.
    """

    ui_color = "#e3e3e3"

    def __init__(
        self,
        *,
        build_steps: BuildSteps,
        build_configs: BuildConfigs,
        places: Mapping[str, str],
        jobs: JobsEnvironment,
        **kwargs: Any,
    ) -> None:
        """Keep what makes the plan; nothing is made yet."""
        super().__init__(**kwargs)
        self.build_steps = build_steps
        self.build_configs = build_configs
        self.places = dict(places)
        self.jobs = jobs

    def execute(self, context: Context) -> list[str]:
        """Make the steps.

        Raises:
            AirflowSkipException: A backfilled day has started the run.
            AirflowFailException: The params do not make sense; nothing has been done.
        """
        if _is_backfilled(context):
            raise AirflowSkipException(
                "a backfilled day starts no training by itself: start a run for the range of days from the form, "
                "or let `make backfill` do so by TRAIN=1"
            )
        params = context["params"]
        _check_names(params, context["dag"].params)
        try:
            steps = self.build_steps(_with_origin(params, context), context.get("partition_key"))
        except (PartitionError, StepError) as error:
            raise AirflowFailException(str(error)) from None
        self._check(self.build_configs(params))
        for task, step in every_step(steps):
            self.log.info("%s %s → %s", task, step["label"], ", ".join(step["outputs"]))
        for key, value in steps.items():
            if key != "days":
                context["ti"].xcom_push(key=key, value=value)
        return steps["days"]

    def _check(self, configs: Mapping[str, Any]) -> None:
        places = [f"--{option}={place}" for option, place in self.places.items()]
        result = self.jobs.run_module("toposieve.check_config", *places, json.dumps(configs))
        if result.returncode == 0:
            return
        error = error_line(result.stderr.splitlines())
        raise (AirflowFailException if result.returncode == INVALID_INPUT_EXIT_CODE else AirflowException)(error)


class ListOperator(BaseOperator):
    """Give a list as the task's own result: Airflow maps over the result of a task only, not over other XComs.

    Args:
        items: The list. (templated)
        kwargs: As for BaseOperator.
    """

    template_fields: Sequence[str] = ("items",)
    ui_color = PlanOperator.ui_color

    def __init__(self, *, items: Any, **kwargs: Any) -> None:
        """Keep the list, or the XCom that it will come from."""
        super().__init__(**kwargs)
        self.items = items

    def execute(self, context: Context) -> list[Any]:
        """Return the list."""
        return list(self.items)


class WaitOperator(BaseOperator):
    """Wait for the tasks before it, whether they are skipped, fail or not; skipped with the whole run only.

    Airflow has no rule for that: those that let a task fail take none that is skipped.

    Args:
        plan: Name of the run's first task.
        kwargs: As for BaseOperator.
    """

    ui_color = PlanOperator.ui_color

    def __init__(self, *, plan: str, **kwargs: Any) -> None:
        """Wait for nothing yet."""
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> None:
        """Find out whether the run has a plan.

        Raises:
            AirflowSkipException: It was skipped.
        """
        if context["ti"].xcom_pull(task_ids=self.plan) is None:
            raise AirflowSkipException("the run has no plan, so that there is nothing to wait for")


def _check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Airflow takes whatever a run is given beside the DAG's own params, and would leave a misspelt one unused."""
    known = list(known)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"the params are {', '.join(known)}"
            raise AirflowFailException(f"unknown param {name}: {remedy}")


def _with_origin(params: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
    """The params with who has started the run and by what name it is known, where they have a reason to record."""
    if "why" not in params:
        return params
    run = context["dag_run"]
    return {**params, "who": run.triggering_user_name or "Airflow", "order": run.run_id}


def _is_backfilled(context: Context) -> bool:
    """Whether nothing but backfills has announced what started the run; what people announce has no run behind it."""
    events = [event for each in context.get("triggering_asset_events", {}).values() for event in each]
    sources = [event.source_dag_run for event in events]
    return bool(sources) and all(source is not None and source.run_type == "backfill" for source in sources)
