"""Run one of the repository's Spark jobs as driver and executor pods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.kubernetes.api import ownership
from toposieve_airflow.kubernetes.api.cluster import Refused, StillThere, of_another
from toposieve_airflow.kubernetes.api.task_state import is_over
from toposieve_airflow.kubernetes.spark.driver import DriverWatch, SparkPods, may_be_adopted
from toposieve_airflow.local.processes import end_children
from toposieve_airflow.local.spark_job import SparkJobOperator
from toposieve_airflow.runs.naming import short_hash

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    from airflow.sdk import Context

TASK_LABEL = "toposieve/task"
"""Label of the driver and executors of a task instance, whichever try made them."""

DRIVER_LABEL = "toposieve/driver"
"""Label of a driver and its executors, whichever try answers for them."""


class SparkOnKubernetesOperator(SparkJobOperator):
    """``spark-submit`` in cluster mode: the driver is a pod, which makes the executors.

    ``spark-submit`` ends when there is a driver; the driver is then followed to its own end, and its log appears live.
    A driver whose task's process has died is taken over by the next try if it does the same work and has not failed;
    so is one whose process Airflow has told to end, unless Airflow then says that the task was marked or cleared. When
    the task ends in another way, driver and executors are removed. What the job has published stays, and the next try
    goes on from there.

    Args:
        namespace: Where the pods live.
        kubernetes_conn_id: Airflow connection for following and removing them.
        startup_timeout_s: Seconds until the driver has to run, and as many more until an executor has to.
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
        self._selector = self._own_selector = self._digest = self._owner = ""
        self._watch: DriverWatch | None = None
        self._killed = False

    def submit(self, context: Context) -> None:
        """Run the job to its end.

        Raises:
            AirflowFailException: The job says that its input or configuration is at fault, its image cannot be had,
                or a right is missing.
            AirflowException: The job failed in another way.
        """
        self.name_pods(context)
        try:
            if context["ti"].try_number > 1:  # an earlier one has been answered
                self._pods(is_patient=True).drivers(self._selector)
            is_there = self._adopt(context["ti"].try_number)
            try:
                self._follow(context, is_there)
            finally:
                self._remove(context["ti"])
        except Refused as error:
            raise AirflowFailException(str(error)) from None

    def on_kill(self) -> None:
        """End the task, and with it the driver if that is what Airflow wants.

        It does not say why it calls this, so that asking is left to the task's own end.
        """
        self._killed = True
        if self._watch is not None:
            self._watch.cancel()
        end_children()

    def _adopt(self, try_number: int) -> bool:
        """Answer for the driver that an earlier process has left, if it does this work; everything else is removed."""
        pods, others = self._pods(), self._selector
        while (driver := self._left_driver(pods, try_number)) is not None:
            if pods.adopt_driver(driver, ownership.metadata(self._owner, str(try_number))):
                self.log.info("taking over driver %s, which is there already", driver["metadata"]["name"])
                label = driver["metadata"]["labels"].get(DRIVER_LABEL)
                self._own_selector = f"{self._selector},{DRIVER_LABEL}={label}"
                others = f"{self._selector},{DRIVER_LABEL}!={label}"
                break
        try:
            pods.remove_pods(others)
        except (StillThere, ApiException, HTTPError) as error:
            self.log.warning("driver or executors of an earlier try could not be removed: %s", error)
        return others != self._selector

    def _left_driver(self, pods: SparkPods, try_number: int) -> ownership.Manifest | None:
        """A driver that does this work, whoever answers for it.

        Raises:
            Refused: One of another task is in the way, or the API server does not allow it.
        """
        drivers = pods.drivers(self._selector)
        for driver in drivers:
            if ownership.is_in_the_way(driver, self._owner, try_number):
                raise of_another(driver, "Pod")
        return next((driver for driver in drivers if may_be_adopted(driver, self._digest)), None)

    def _follow(self, context: Context, is_there: bool) -> None:
        """Make a driver, unless it is there, and follow it to its end."""
        pods = self._pods(is_patient=is_there)
        with DriverWatch(pods, self._own_selector, self.job_log, end_children, self.startup_timeout_s) as self._watch:
            try:
                self._stop_if_killed()
                if not is_there:
                    super().submit(context)
                self._watch.wait()
            except AirflowException:
                self._watch.wait_for_end()
                self._stop_if_killed()
                if self._watch.failure is None:
                    raise
            self._stop_if_killed()
            if (failure := self._watch.failure) is not None:
                kind = AirflowException if failure.may_retry else AirflowFailException
                raise kind(self._watch.in_words(failure)) from None

    def _stop_if_killed(self) -> None:
        if self._killed:
            raise AirflowException("ended from outside before it was done")

    def name_pods(self, context: Context) -> None:
        """Name and label driver and executors of this try."""
        ti = context["ti"]
        name, task = ownership.work_name(ti, self.instance), ownership.task_hash(ti, self.instance)
        self._digest = self._digest or short_hash(
            [self.application, self.application_args, _by_content(self.conf or {})]
        )
        self._selector = f"{TASK_LABEL}={task}"
        self._own_selector = f"{self._selector},{DRIVER_LABEL}={name}"
        self._owner = ownership.owner_name(ti)
        labels = {**ownership.MANAGED_BY, **ownership.run_labels(ti), **ownership.instance_label(self.instance)}
        labels |= {TASK_LABEL: task, DRIVER_LABEL: name}
        labels |= {ownership.TRY_LABEL: str(ti.try_number), ownership.DIGEST_LABEL: self._digest}
        self.conf = {
            **(self.conf or {}),
            "spark.kubernetes.submission.waitAppCompletion": "false",
            "spark.kubernetes.driver.pod.name": f"{name}-driver",
            f"spark.kubernetes.driver.annotation.{ownership.OWNER_ANNOTATION}": self._owner,
            "spark.kubernetes.executor.podNamePrefix": name,
            **{
                f"spark.kubernetes.{role}.label.{key}": value
                for role in ("driver", "executor")
                for key, value in labels.items()
            },
        }

    def _remove(self, ti: Any) -> None:
        """Delete driver and executors, unless they are no longer this try's, or the next one may want them.

        Kubernetes then deletes what else belongs to them.
        """
        if self._killed and not is_over(ti):
            self.log.info("Airflow does not say that this task is over: its driver is left to the next try")
            return
        try:
            self._pods().remove_pods(self._own_selector, self._owner)
        except (Refused, StillThere, ApiException, HTTPError) as error:
            self.log.warning("driver or executors could not be removed: %s", error)

    def _get_hook(self) -> SparkSubmitHook:
        """The provider's, for a ``spark-submit`` that ends when there is a driver: it prints no exit code of one."""
        hook = super()._get_hook()
        hook._spark_exit_code = 0
        return hook

    def _pods(self, *, is_patient: bool = False) -> SparkPods:
        client = KubernetesHook(self.kubernetes_conn_id).api_client
        return SparkPods(client, self.namespace, is_patient=is_patient)


def _by_content(conf: dict[str, str]) -> list[tuple[str, str]]:
    """The configuration by what it asks for: pod templates as they read, wherever the deployment keeps them."""
    return sorted(
        (key, Path(value).read_text(encoding="utf-8") if key.endswith(".podTemplateFile") else value)
        for key, value in conf.items()
    )
