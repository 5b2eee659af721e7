"""Remove what a run has left on Kubernetes, whatever became of its tasks: gangs, Spark drivers and executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toposieve_airflow.kubernetes.api.ownership import run_selector
from toposieve_airflow.kubernetes.gang.teardown import GangTeardownOperator
from toposieve_airflow.kubernetes.spark.operator import TASK_LABEL, spark_pods

if TYPE_CHECKING:
    from airflow.sdk import Context


class RunTeardownOperator(GangTeardownOperator):
    """Deletes the drivers and executors of the run too: a task whose process has died leaves them at work."""

    def execute(self, context: Context) -> None:
        """Delete what is left and wait until it is gone.

        Raises:
            StillThere: Something is left all the same.
            Refused: The API server does not allow it.
        """
        pods = spark_pods(self.kubernetes_conn_id, self.namespace)
        try:
            pods.remove_pods(f"{run_selector(context['ti'], self.instance)},{TASK_LABEL}")
        finally:
            super().execute(context)
