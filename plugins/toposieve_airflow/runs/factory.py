"""Makes the tasks of a DAG with the operators of the chosen deployment profile; a DAG file only joins them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Param, XComArg
from airflow.sdk.definitions.mappedoperator import MappedOperator

from toposieve_airflow.contract.step import RunSteps
from toposieve_airflow.profile import Pool, Profile, Spawn, load_profile
from toposieve_airflow.runs.approval import ApproveOperator
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.params import ConfigurationSchema
from toposieve_airflow.runs.plan import ListOperator, PlanOperator, WaitOperator
from toposieve_airflow.runs.script_plan import ScriptPlanOperator
from toposieve_airflow.runs.steps import Commands

SCRIPTS = {
    "simulate": "simulate.py",
    "ingest": "ingest.py",
    "select": "select_events.py",
    "prepare": "prepare_features.py",
    "tune": "tune.py",
    "train": "train.py",
    "train_trees": "train_trees.py",
    "evaluate": "evaluate.py",
    "candidate": "publish_model.py",
    "publish": "publish_model.py",
    "export": "export_model.py",
    "make_firmware": "make_firmware.py",
    "score": "score.py",
}
"""Task → job script."""

DOCS = {
    "plan": "Checks the values of the form, and says which days and models the other tasks work on.",
    "simulated_days": "Lists the days to simulate: none, unless that was asked for.",
    "simulate": "Makes a day's samples: ROOT files of simulated events.",
    "ingest": "Puts a day's ROOT files on record, and finds the broken ones.",
    "select": "Selects a day's events with an isolated lepton, and computes their particles and features.",
    "prepare": "Makes one dataset of all days: balanced, split and shuffled.",
    "searches": "Lists the models to search for: none, unless that was asked for.",
    "tune": "Searches for a model's best configuration, which is then trained too.",
    "searched": "Waits for all searches: one that fails does not cost the training of the other models.",
    "train": "Trains a model on the dataset; each line of the log begins with its worker.",
    "trees": "Lists the tree models to train, and those searched for: none, unless that was asked for.",
    "train_trees": "Trains a tree model on the dataset, for comparison.",
    "trained": "Waits for all models: one that fails does not cost the report on the others.",
    "evaluate": "Compares the models on the test events, and writes the report.",
    "candidate": "Puts a report's model into the registry and compares it with the published one; or goes back.",
    "approve": "Waits for somebody who lets the candidate be published, or asks the configured rules.",
    "publish": "Makes the candidate the published model.",
    "export": "Gives the published model its portable form, with which it is served.",
    "firmware": "Says whether firmware is made: no, unless that was asked for.",
    "make_firmware": "Makes firmware of the published model, and proves that it says the same.",
    "scored_days": "Lists the days to decide on again: none, unless that was asked for.",
    "score": "Lets the published model decide on a day's selected events.",
    "plan_script": "Checks the values of the form.",
    "script": "Runs the script; each line of the log begins with its worker.",
    "clean_up": "Removes what the run's tasks have left on Kubernetes.",
}
"""Task → what it does, in a sentence for Airflow's UI."""

MODEL_LABEL = "{{ task.step.label }}"
DAY_LABEL = "{{ task.partition }}"
"""What a mapped task is shown as."""

StepsOfRun = Callable[[Commands, Mapping[str, Any], str | None, Profile], RunSteps]
"""Commands, params, partition key and profile → steps of the run."""


class Tasks(ABC):
    """Tasks of a profile; what differs from one deployment to another is left to subclasses.

    Args:
        profile: The deployment profile.
        schema: Schema of the stages' configuration.
    """

    def __init__(self, profile: Profile, schema: ConfigurationSchema) -> None:
        """Make no task yet."""
        self.profile = profile
        self.schema = schema

    @property
    def jobs(self) -> JobsEnvironment:
        """The jobs' environment beside Airflow."""
        profile = self.profile
        return JobsEnvironment(str(profile.python), profile.job_environment(), profile.connections.given())

    spark_operator: type[BaseOperator]
    """Runs a Spark job."""
    gang_operator: type[BaseOperator]
    """Runs another job, as one worker or several."""

    @abstractmethod
    def spark_options(self, task_id: str) -> dict[str, Any]:
        """Arguments of :attr:`spark_operator` that differ."""

    @abstractmethod
    def gang_options(self, task_id: str) -> dict[str, Any]:
        """Arguments of :attr:`gang_operator` that differ."""

    def plan(self, stages: Sequence[str], steps_of_run: StepsOfRun) -> PlanOperator:
        """The task that checks the run's params and says what the others do.

        Args:
            stages: Stages whose configuration the run uses.
            steps_of_run: Makes the steps.
        """

        def commands(params: Mapping[str, Any]) -> Commands:
            return Commands(self.profile.base, params, self.schema, self.profile.raw)

        return PlanOperator(
            task_id="plan",
            doc_md=DOCS["plan"],
            build_steps=lambda params, key: steps_of_run(commands(params), params, key, self.profile),
            build_configs=lambda params: {stage: commands(params).checked(stage) for stage in stages},
            places=self.profile.places(),
            jobs=self.jobs,
            retries=0,
            execution_timeout=timedelta(minutes=self.profile.timeouts_min.plan),
        )

    def spark(self, task_id: str, plan: PlanOperator, mapped: str | None = None, **options: Any) -> BaseOperator:
        """A Spark task.

        Args:
            task_id: Name of the task, which says what job it runs.
            plan: The run's first task, which has the step for it.
            mapped: The task after it that has a step for each of several instances: these steps are its result.
            options: As for BaseOperator.
        """
        result = None if mapped is None else _step(plan, mapped)
        return self.spark_operator(**self._spark(task_id), step=_step(plan, task_id), result=result, **options)

    def spark_per_day(
        self, task_id: str, plan: PlanOperator, days: BaseOperator | None = None, **options: Any
    ) -> MappedOperator:
        """A Spark task, one instance for each day of the run.

        Args:
            task_id: Name of the task, which says what job it runs.
            plan: The run's first task, which has the step for any day.
            days: The task that lists the days; without it, all of the run.
            options: As for BaseOperator.
        """
        step = {"step": _step(plan, task_id), "map_index_template": DAY_LABEL}
        mapped = self.spark_operator.partial(**self._spark(task_id), **step, **options)
        return mapped.expand(partition=(days or plan).output)

    def spark_per_model(self, task_id: str, models: BaseOperator, **options: Any) -> MappedOperator:
        """A Spark task for each model of the run; arguments as for :meth:`gang_per_model`."""
        mapped = self.spark_operator.partial(**self._spark(task_id), map_index_template=MODEL_LABEL, **options)
        return mapped.expand(step=models.output)

    def gang(self, task_id: str, plan: BaseOperator, **options: Any) -> BaseOperator:
        """A Python task that is not Spark's; arguments as for :meth:`spark`."""
        return self.gang_operator(**self._gang(task_id), step=_step(plan, task_id), **options)

    def gang_per_model(self, task_id: str, models: BaseOperator, **options: Any) -> MappedOperator:
        """A gang of workers for each model of the run.

        Args:
            task_id: Name of the task, which says what job it runs.
            models: The task whose result is a step for each model.
            options: As for BaseOperator.
        """
        mapped = self.gang_operator.partial(**self._gang(task_id), map_index_template=MODEL_LABEL, **options)
        return mapped.expand(step=models.output)

    def firmware(self, plan: PlanOperator) -> MappedOperator | None:
        """The task that makes firmware, if the profile has an environment for it; skipped unless asked for."""
        if self.profile.firmware_python is None:
            return None
        return self.gang_per_model("make_firmware", self.listed("firmware", plan, "make_firmware"))

    def listed(self, task_id: str, plan: PlanOperator, key: str) -> ListOperator:
        """The task whose result is a list that ``plan`` has under a key, for others to be mapped over."""
        items, limit = _step(plan, key), plan.execution_timeout
        return ListOperator(task_id=task_id, items=items, retries=0, execution_timeout=limit, doc_md=DOCS.get(task_id))

    def all_of(self, task_id: str, plan: PlanOperator) -> WaitOperator:
        """The task that waits for those before it, whether they fail or not."""
        return WaitOperator(
            task_id=task_id,
            doc_md=DOCS[task_id],
            plan=plan.task_id,
            trigger_rule="all_done",
            retries=0,
            execution_timeout=plan.execution_timeout,
        )

    def approve(self, plan: PlanOperator, candidate: BaseOperator) -> ApproveOperator:
        """The task that decides on what ``candidate`` has found; its result is the step of the task that publishes."""
        approval = self.profile.approval
        return ApproveOperator(
            task_id="approve",
            doc_md=DOCS["approve"],
            comparison=XComArg(candidate),
            step=_step(plan, "publish"),
            by_rules=approval.by_rules,
            params={"why": Param("", type="string", description="Why, for the record.")},
            assigned_users=[{"id": user, "name": user} for user in approval.users] or None,
            response_timeout=timedelta(hours=approval.hours),
            retries=0,
        )

    @property
    def allowed_scripts(self) -> Spawn | None:
        """What scripts are allowed; None: there may be none."""
        return None if self.profile.kubernetes is None else self.profile.kubernetes.spawn

    def plan_script(self) -> ScriptPlanOperator:
        """The task that checks the form of a run of anybody's script."""
        return ScriptPlanOperator(
            task_id="plan",
            doc_md=DOCS["plan_script"],
            allowed=self.allowed_scripts,
            retries=0,
            execution_timeout=timedelta(minutes=self.profile.timeouts_min.plan),
        )

    def script(self, plan: ScriptPlanOperator) -> BaseOperator | None:
        """The task that runs the script, if the profile allows any."""
        return None

    def clean_up(self) -> BaseOperator | None:
        """The task that ends a run by removing what its tasks may have left, if this profile can leave anything."""
        return None

    def _spark(self, task_id: str) -> dict[str, Any]:
        spark = self.profile.spark
        return {
            **self._common(task_id, self.profile.pools.spark),
            "name": f"toposieve-{task_id}",
            "conn_id": spark.connection,
            "spark_binary": str(spark.submit),
            **self.spark_options(task_id),
        }

    def _gang(self, task_id: str) -> dict[str, Any]:
        return {**self._common(task_id, self.profile.pools.training), **self.gang_options(task_id)}

    def _common(self, task_id: str, pool: Pool) -> dict[str, Any]:
        return {
            "task_id": task_id,
            "doc_md": DOCS[task_id],
            "jobs": self.jobs,
            "pool": pool.name,
            "execution_timeout": timedelta(minutes=getattr(self.profile.timeouts_min, task_id)),
        }


def _step(plan: BaseOperator, task_id: str) -> Any:
    """What ``plan`` has for a task; known when the run is under way."""
    return XComArg(plan, task_id)


def tasks_for(config_folder: Path) -> Tasks:
    """Tasks with the operators of the profile that ``TOPOSIEVE_PROFILE`` chooses.

    Args:
        config_folder: ``dags/config`` of the repository.

    Raises:
        ProfileError: The profile is missing or wrong.
    """
    profile = load_profile(config_folder)
    # By name, and only the chosen: operators build on what is here, and those of pods bring the client of Kubernetes.
    maker: type[Tasks] = import_module(f"toposieve_airflow.{profile.operators}.tasks").TASKS
    return maker(profile, ConfigurationSchema.load(config_folder))


def task_defaults(retries: int) -> dict[str, Any]:
    """``default_args`` of the DAGs: who answers for a task, and how often it is tried again."""
    return {"owner": "toposieve", "retries": retries, "retry_delay": timedelta(seconds=30)}


def form(*parts: Mapping[str, Param]) -> dict[str, Param]:
    """Join groups of Params into one trigger form, in order."""
    return {name: param for part in parts for name, param in part.items()}
