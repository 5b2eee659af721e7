"""Run a job as one or several processes on the machine where the Airflow task runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from toposieve_airflow.contract.outputs import JobLog, with_run
from toposieve_airflow.contract.step import log_places
from toposieve_airflow.contract.tf_config import TASK_VARIABLE, local_hosts, worker_environments
from toposieve_airflow.local.processes import JobFailed, JobProcesses, free_ports
from toposieve_airflow.runs.announcements import check_and_announce, check_version, with_trained
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

if TYPE_CHECKING:
    from airflow.sdk import Context

    from toposieve_airflow.contract.step import Step


class LocalGangOperator(BaseOperator):
    """A gang of worker processes, each with its ``TF_CONFIG``; a gang of one is a plain process.

    The workers' logs appear live, each line with its worker's index. When one worker fails the others are ended, and
    the task fails with the worker's index, exit code and error; Airflow's retry starts the gang anew, from its
    checkpoint.

    Args:
        application: Path of the job's script.
        jobs: The jobs' environment: Python and variables of the workers, and what checks their output.
        step: What to do: arguments, outputs, number of workers, as ``runs.steps`` makes it. (templated)
        kwargs: As for BaseOperator.
    """

    template_fields: Sequence[str] = ("step",)
    ui_color = "#cfe3f5"

    def __init__(self, *, application: str, jobs: JobsEnvironment, step: Step, **kwargs: Any) -> None:
        """Keep what the workers need."""
        super().__init__(**kwargs)
        self.application = application
        self.jobs = jobs
        self.step = step
        self._gang: JobProcesses | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Run the gang to its end, then check its output.

        Returns:
            What the job has compared, if anything.

        Raises:
            AirflowFailException: A worker says that its input or configuration is at fault, or the run was planned by
                another version, or the jobs' environment is not there.
            AirflowException: A worker failed in another way, or the task was ended from outside.
            OutputError: The job ended well but its output does not hold.
        """
        check_version(self.step)
        self.step = with_trained(self.step, context)
        log_places(self.log.info, self.step)
        workers = self.step["workers"]
        self._gang = JobProcesses([f"worker {index}" for index in range(workers)])
        log = JobLog(self.log)
        try:
            self._gang.run(self._command(), self._environments(workers), log)
        except FileNotFoundError as error:
            raise self.jobs.missing(error) from None
        except JobFailed as error:
            raise (AirflowFailException if error.is_invalid_input else AirflowException)(str(error)) from None
        if self._killed:
            raise AirflowException("ended from outside before it was done")
        step = with_run(self.step, log.runs)
        check_and_announce(step, self.jobs, self.outlets, context)
        log_places(self.log.info, step)
        return log.comparison

    def on_kill(self) -> None:
        """End every worker."""
        self._killed = True
        if self._gang is not None:
            self._gang.stop()

    def _command(self) -> list[str]:
        return [self.jobs.python, self.application, *self.step["arguments"]]

    def _environments(self, workers: int) -> list[dict[str, str]]:
        inherited = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
        hosts = local_hosts(free_ports(workers))
        variables = self.jobs.own_variables()
        task = " ".join(
            inherited.get(f"AIRFLOW_CTX_{part}", "") for part in ("DAG_ID", "DAG_RUN_ID", "TASK_ID")
        ).strip()
        return [{**inherited, **variables, TASK_VARIABLE: task, **own} for own in worker_environments(hosts)]
