"""Run one of the repository's Spark jobs as driver and executor pods."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from toposieve_airflow.processes import end_children
from toposieve_airflow.spark_driver import DriverWatch, SparkPods
from toposieve_airflow.spark_job import SparkJobOperator
from toposieve_airflow.tf_spawner.cluster import Refused, StillThere
from toposieve_airflow.tf_spawner.manifests import MANAGED_BY, TRY_LABEL, gang_name, instance_label, task_hash

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
        startup_timeout_s: Seconds until the driver has to run.
        instance: Name of this Airflow, where another one uses the namespace: it is on all that is made.
        kwargs: As for SparkJobOperator.
    """

    def __init__(
        self,
        *,
        namespace: str,
        kubernetes_conn_id: str,
        startup_timeout_s: float,
        instance: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep where the pods live."""
        super().__init__(**kwargs)
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.startup_timeout_s = startup_timeout_s
        self.instance = instance
        self._selector: str | None = None
        self._own_selector: str | None = None

    def submit(self, context: Context) -> None:
        """Run the job to its end.

        Raises:
            AirflowFailException: The job says that its input or configuration is at fault, its image cannot be had,
                or a right is missing.
            AirflowException: The job failed in another way.
        """
        self.name_pods(context)
        try:
            self._remove_pods(self._selector)
            try:
                self._follow(context)
            finally:
                self._remove_pods(self._own_selector)
        except Refused as error:
            raise AirflowFailException(str(error)) from None

    def on_kill(self) -> None:
        """End driver and executors, then spark-submit, then what it has made meanwhile.

        Airflow kills the task's process soon after, so that the requests that end the pods come first. Those of the
        next try, which may be there already, are not touched.
        """
        self._remove_pods(self._own_selector, wait=False)
        with suppress(ConfigException):  # the provider removes the driver too, but from inside a cluster only
            super().on_kill()
        self._remove_pods(self._own_selector)

    def _follow(self, context: Context) -> None:
        assert self._own_selector is not None
        pods, own = self._pods(), self._own_selector
        with DriverWatch(pods, own, self.job_log, end_children, self.startup_timeout_s) as driver:
            try:
                super().submit(context)
            except AirflowException as error:
                driver.wait_for_end()
                if driver.failure is None:
                    raise error from None
                kind = AirflowException if driver.failure.may_retry else AirflowFailException
                raise kind(driver.in_words(driver.failure)) from None

    def name_pods(self, context: Context) -> None:
        """Name and label driver and executors of this try."""
        ti = context["ti"]
        map_index = ti.map_index if ti.map_index is not None else -1
        name = gang_name(ti.dag_id, ti.run_id, ti.task_id, map_index, ti.try_number, self.instance)
        task = task_hash(ti.dag_id, ti.run_id, ti.task_id, map_index, self.instance)
        labels = {**MANAGED_BY, **run_labels(context), **instance_label(self.instance)}
        labels |= {TASK_LABEL: task, TRY_LABEL: str(ti.try_number)}
        self._selector = f"{TASK_LABEL}={task}"
        self._own_selector = f"{self._selector},{TRY_LABEL}={ti.try_number}"
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

    def _remove_pods(self, selector: str | None, *, wait: bool = True) -> None:
        """Delete pods of this task instance; Kubernetes then deletes what else belongs to them."""
        if selector is None:
            return
        try:
            if wait:
                self._pods().remove_pods(selector)
            else:
                self._pods().delete_pods(selector)
        except (StillThere, ApiException, HTTPError) as error:
            self.log.warning("driver or executors could not be removed: %s", error)

    def _pods(self) -> SparkPods:
        return spark_pods(self.kubernetes_conn_id, self.namespace)


def run_labels(context: Context) -> dict[str, str]:
    """Labels of everything that a run makes."""
    return {
        "dag_id": make_safe_label_value(context["ti"].dag_id),
        "run_id": make_safe_label_value(context["ti"].run_id),
    }


def spark_pods(kubernetes_conn_id: str, namespace: str) -> SparkPods:
    """The pods of Spark jobs, as an Airflow connection sees them."""
    return SparkPods(KubernetesHook(conn_id=kubernetes_conn_id).core_v1_client.api_client, namespace)
