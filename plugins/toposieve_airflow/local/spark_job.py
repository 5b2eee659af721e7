"""Run one of the repository's Spark jobs by ``spark-submit``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE, error_line
from toposieve_airflow.contract.outputs import JobLog, with_run
from toposieve_airflow.contract.step import Step, log_places, of_partition
from toposieve_airflow.local.processes import end_children
from toposieve_airflow.runs.announcements import check_and_announce, check_version
from toposieve_airflow.runs.credentials import connection
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

if TYPE_CHECKING:
    from airflow.sdk import Context

_EXIT_CODE = re.compile(r"Error code is: (\d+)")


class SparkJobOperator(SparkSubmitOperator):
    """``spark-submit`` with this repository's environment, errors and checks.

    A job that ends with exit code 2 (invalid input or configuration) fails the task without retries, with the job's own
    error. After success the manifests and files that the step promises are verified, so that no asset event goes out
    for output that is not there.

    Args:
        step: What to do: arguments, inputs and outputs, as ``runs.steps`` makes it. (templated)
        partition: Where the step is that of any partition, the one to do it for.
        jobs: The jobs' environment: variables of ``spark-submit``, and what checks its output.
        result: What the task gives as its result, for others to be mapped over. (templated)
        kwargs: As for SparkSubmitOperator.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "step", "result")
    ui_color = "#f6e2c8"

    def __init__(
        self, *, step: Step, jobs: JobsEnvironment, partition: str | None = None, result: Any = None, **kwargs: Any
    ) -> None:
        """Keep the step; its arguments become the application's when the task runs."""
        super().__init__(**kwargs)
        self.step = step
        self.partition = partition
        self.jobs = jobs
        self.result = result

    @cached_property
    def job_log(self) -> JobLog:
        """What the job says goes through here."""
        return JobLog(self.log)

    def execute(self, context: Context) -> Any:
        """Run the job, then check its output; returns the result that was given.

        Raises:
            AirflowFailException: The job says that its input or configuration is at fault, or the run was planned by
                another version.
            AirflowException: The job failed in another way.
            CredentialsError: There is no such connection; the provider would go on with YARN.
            OutputError: The job ended well but its output does not hold.
        """
        check_version(self.step)
        connection(self._conn_id, "which says where Spark runs")
        step = self.step if self.partition is None else of_partition(self.step, self.partition)
        self.application_args = step["arguments"]
        log_places(self.log.info, step)
        # The provider's env_vars would go to the driver's pod on Kubernetes, and show credentials there.
        os.environ.update(self.jobs.own_variables())
        self.submit(context)
        step = with_run(step, self.job_log.runs)
        check_and_announce(step, self.jobs, self.outlets, context)
        log_places(self.log.info, step)
        return self.result

    def submit(self, context: Context) -> None:
        """Run ``spark-submit`` to its end.

        Raises:
            AirflowFailException: The job says that its input or configuration is at fault.
            AirflowException: The job failed in another way.
        """
        try:
            super().execute(context)
        except AirflowException as error:
            if _exit_code(error) == INVALID_INPUT_EXIT_CODE:
                raise AirflowFailException(error_line(str(error).splitlines())) from None
            raise

    def _get_hook(self) -> SparkSubmitHook:
        """The provider's, which reads the log of ``spark-submit``: what that names is noted on the way."""
        hook = super()._get_hook()
        read = hook._process_spark_submit_log
        setattr(hook, read.__name__, lambda lines: read(self._noted(lines)))
        return hook

    def _noted(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self.job_log.note(line.rstrip())
            yield line

    def on_kill(self) -> None:
        """End spark-submit and everything it has started, on this machine or on a cluster."""
        end_children()
        super().on_kill()


def _exit_code(error: AirflowException) -> int | None:
    match = _EXIT_CODE.search(str(error))
    return int(match[1]) if match else None
