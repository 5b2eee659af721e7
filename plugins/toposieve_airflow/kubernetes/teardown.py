"""Remove what a run has left on Kubernetes, whatever became of its tasks: gangs, Spark drivers and executors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk import BaseOperator

from toposieve_airflow.kubernetes.api.ownership import run_selector
from toposieve_airflow.kubernetes.gang.cluster import GangCluster
from toposieve_airflow.kubernetes.spark.driver import SparkPods
from toposieve_airflow.kubernetes.spark.operator import TASK_LABEL

if TYPE_CHECKING:
    from airflow.sdk import Context


class RunTeardownOperator(BaseOperator):
    """Deletes every gang, driver and executor of the run, by label, whoever answers for it.

    Needed only when a task's process died, or was ended for no reason that Airflow gave, and no try came after it.

    As a teardown (``tasks >> RunTeardownOperator(...).as_teardown()``) it runs whatever became of the tasks before it,
    and leaves the run's state to them.

    Args:
        namespace: Where the pods live.
        kubernetes_conn_id: Airflow connection to the cluster.
        config_file: Path of a kubeconfig, if the connection does not say.
        in_cluster: Whether Airflow itself runs in the cluster, if the connection does not say.
        instance: Name of this Airflow, as the other operators have it.
        kwargs: As for BaseOperator.
    """

    def __init__(
        self,
        *,
        namespace: str,
        kubernetes_conn_id: str = KubernetesHook.default_conn_name,
        config_file: str | None = None,
        in_cluster: bool | None = None,
        instance: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep where to look."""
        super().__init__(**kwargs)
        self.namespace = namespace
        self.kubernetes_conn_id = kubernetes_conn_id
        self.config_file = config_file
        self.in_cluster = in_cluster
        self.instance = instance

    def execute(self, context: Context) -> None:
        """Delete what is left and wait until it is gone.

        Raises:
            StillThere: Something is left all the same.
            Refused: The API server does not allow it.
        """
        hook = KubernetesHook(self.kubernetes_conn_id, config_file=self.config_file, in_cluster=self.in_cluster)
        selector = run_selector(context["ti"], self.instance)
        gangs = GangCluster(hook.api_client, self.namespace)
        try:
            SparkPods(hook.api_client, self.namespace).remove_pods(f"{selector},{TASK_LABEL}")
        finally:
            for job in gangs.find_jobs(selector):
                self.log.info("removing gang %s", job["metadata"]["name"])
            gangs.remove(selector)
