"""Run one of the repository's Spark jobs as driver and executor pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.naming import short_hash
from toposieve_airflow.processes import INVALID_INPUT_EXIT_CODE, end_children
from toposieve_airflow.spark_driver import DriverWatch, SparkPods
from toposieve_airflow.spark_job import SparkJobOperator
from toposieve_airflow.tf_spawner.cluster import Refused, StillThere
from toposieve_airflow.tf_spawner.manifests import MANAGED_BY, gang_name

if TYPE_CHECKING:
    from airflow.sdk import Context

TASK_LABEL = "toposieve/task"
"""Label of the driver and executors of a task instance, whichever try made them."""


class SparkOnKubernetesOperator(SparkJobOperator):
    """``spark-submit`` in cluster mode: the driver is a pod, which makes the executors.

    The driver's log appears live; a driver of an earlier try, whose task process is gone, is removed first; when the
    task ends, however it ends, driver and executors are removed. What the job has published stays, and the next try
    goes on from there.

    Args:
        namespace: Where the pods live.
        kubernetes_conn_id: Airflow connection for following and removing them.
        kwargs: As for SparkJobOperator.
    """

    def __init__(self, *, namespace: str, kubernetes_conn_id: str, **kwargs: Any) -> None:
        """Keep where the pods live."""
        super().__init__(**kwargs)
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self._selector: str | None = None

    def submit(self, context: Context) -> None:
        """Run the job to its end.

        Raises:
            AirflowFailException: The job says that its input or configuration is at fault, its image cannot be had,
                or a right is missing.
            AirflowException: The job failed in another way.
        """
        self.name_pods(context)
        selector = f"{self._selector},spark-role=driver"
        try:
            self._remove_pods()
            try:
                with DriverWatch(self._pods(), selector, self.log.info, end_children) as driver:
                    self._submit(context, driver)
            finally:
                self._remove_pods()
        except Refused as error:
            raise AirflowFailException(str(error)) from None

    def on_kill(self) -> None:
        """End spark-submit, the driver and its executors."""
        super().on_kill()
        if self._selector is not None:
            self._remove_pods()

    def _submit(self, context: Context, driver: DriverWatch) -> None:
        try:
            super().submit(context)
        except AirflowException as error:
            if driver.problem is not None:
                raise AirflowFailException(f"the driver cannot start: {driver.problem}") from None
            if driver.exit_code == INVALID_INPUT_EXIT_CODE:
                raise AirflowFailException(driver.error) from None
            if driver.exit_code:
                raise AirflowException(f"the driver failed with exit code {driver.exit_code}: {driver.error}") from None
            raise error from None

    def name_pods(self, context: Context) -> None:
        """Name and label driver and executors of this try."""
        ti = context["ti"]
        map_index = ti.map_index if ti.map_index is not None else -1
        name = gang_name(ti.dag_id, ti.run_id, ti.task_id, map_index, ti.try_number)
        task = short_hash([ti.dag_id, ti.run_id, ti.task_id, map_index])
        labels = {**MANAGED_BY, TASK_LABEL: task}
        self._selector = f"{TASK_LABEL}={task}"
        self.conf = {
            **(self.conf or {}),
            "spark.kubernetes.driver.pod.name": f"{name}-driver",
            "spark.kubernetes.executor.podNamePrefix": name,
            **{
                f"spark.kubernetes.{role}.label.{key}": value
                for role in ("driver", "executor")
                for key, value in labels.items()
            },
        }

    def _remove_pods(self) -> None:
        """Delete the pods of this task instance; Kubernetes then deletes what else belongs to them."""
        try:
            self._pods().remove_pods(self._selector or "")
        except (StillThere, ApiException, HTTPError) as error:
            self.log.warning("driver or executors could not be removed: %s", error)

    def _pods(self) -> SparkPods:
        hook = KubernetesHook(conn_id=self.kubernetes_conn_id)
        return SparkPods(hook.core_v1_client.api_client, self.namespace)
