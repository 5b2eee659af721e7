"""Run a job as a gang of pods on Kubernetes: the operator."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import yaml
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk import BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRuntimeError
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE
from toposieve_airflow.contract.outputs import JobLog, with_run
from toposieve_airflow.contract.step import log_places
from toposieve_airflow.kubernetes.api import ownership
from toposieve_airflow.kubernetes.api.cluster import Refused, RefusedForNow, StillThere
from toposieve_airflow.kubernetes.api.ownership import Manifest
from toposieve_airflow.kubernetes.api.task_state import is_over
from toposieve_airflow.kubernetes.gang.cluster import GangCluster, take_over
from toposieve_airflow.kubernetes.gang.feed import ClusterFeed
from toposieve_airflow.kubernetes.gang.manifests import QUEUE_LABEL, Accelerator, Gang, job_manifest, next_name
from toposieve_airflow.kubernetes.gang.parameters import refused
from toposieve_airflow.kubernetes.gang.supervision import LONGEST_PATIENCE, GangFailed, GangHeld, Limits, Supervision
from toposieve_airflow.kubernetes.gang.trigger import POLL_S, as_trigger
from toposieve_airflow.runs.announcements import check_and_announce, check_version, with_trained
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.script import Script, ScriptError, read_script

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey

    from toposieve_airflow.contract.step import Step

STARTUP_TIMEOUT_S = 600
"""The provider's two minutes are too short for a GPU node that has to be made first, or for an image of gigabytes."""

WAITING_TIMEOUT = timedelta(hours=24)

PAUSE_S = (15.0, 30.0)
"""A gang that gives up its place waits for so long before it asks for one anew. Kubernetes tries a waiting pod again
after ten seconds at most, but a new one at once: two gangs would take each other's place for ever."""


class GangLink(BaseOperatorLink):
    """Leads from a task to what shows its gang: a dashboard of the cluster, or a log system."""

    name = "Gang"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; nothing where none is configured, or no gang was made."""
        assert isinstance(operator, TFSpawnerOperator)
        return operator.address()


class TFSpawnerOperator(KubernetesPodOperator):
    """One task is one gang of TensorFlow workers: an Indexed Job with a pod for each, and a headless Service.

    Every pod gets ``TF_CONFIG``. The workers' logs appear live, each line with its worker's index; what they wait for
    is said at once. When one fails or is deleted, the whole gang ends and the task fails with the reason; Airflow's
    retry starts the gang anew, from its checkpoint. A gang whose task's process has died is taken over by the next try
    if it does the same work and has not failed; so is one whose process Airflow has told to end, unless Airflow then
    says that the task was marked or cleared. Only the try that a gang belongs to removes it.

    What is no fault of the training costs no try: no room on the cluster, a queue, a quota, a registry that is away, a
    worker that is preempted, evicted or lost with its node. The gang then waits without a slot of Airflow, in its queue
    or as a new gang that goes on from the checkpoint, and a task follows it from its start on; ``deferrable`` does so
    from the beginning, other gangs wait in their slot first. This needs Airflow's triggerer.

    Everything of KubernetesPodOperator that describes a pod works as it does there (image, cmds, arguments, resources,
    volumes, ...; ``pod_template_file``, of which ``dags/config/gang-pod.yaml`` is one); what would have no effect is
    refused. ``startup_timeout_seconds`` counts from the gang's admission until every worker runs; a gang that takes
    longer gives its place back and waits as a new one. ``active_deadline_seconds`` counts from then on, and is the
    task's ``execution_timeout`` if not given; Airflow's own limit of a task becomes that and ``waiting_timeout``
    together. A gang is known by DAG, run and task: two Airflows that share a namespace need an ``instance`` each.

    ``script`` runs anybody's script in place of a job of ours, in any image that has Python, and pip if something is to
    be installed: it has ``TF_CONFIG``, its number ``WORKER_NUMBER`` and the gang's size ``TOT_WORKERS``, however small
    that is. Exit code 2 is one like any other there, and nobody looks at what it has written.

    Args:
        step: What to do: arguments, outputs, number of workers, as ``runs.steps`` makes it; without
            it ``arguments`` and ``workers`` say so. (templated)
        workers: Number of pods. (templated)
        script: Path, where the Airflow task runs, of a Python script of at most 1 MiB; ``arguments`` are its own. It
            travels in a ConfigMap that lives as long as the gang. (templated)
        environment_file: Path of a file with lines ``NAME=VALUE``: environment variables of the script, which travel in
            a Secret. ``PIP_...`` among them are pip's options. (templated)
        requirements: Path of a requirements file, which pip installs into /tmp before the script starts. (templated)
        packages: Where that comes from: URL of an index, or a folder of wheels in the pods.
        accelerator: ``cpu`` or ``gpu``.
        accelerator_count: GPUs of each worker.
        gang_queue: Kueue's local queue; the gang then starts suspended and is admitted as a unit. Without it, and
            without Kueue's label on the pod, the workers are scheduled one by one. (templated)
        waiting_timeout: How long a gang may wait for its place, from the beginning or since it has lost it, until the
            task fails without retries.
        broken_timeout_seconds: How long a worker's pod may be refused, or its image fail to be pulled, before the task
            fails; without retries if the registry or Kubernetes says that it is wrong.
        poll_interval: Seconds between two looks of the trigger at a gang that waits.
        instance: Name of this Airflow, where another one uses the namespace: it is on all that is made.
        gang_url: Address of what shows a gang elsewhere, with ``{namespace}`` and ``{name}``, for a link.
        jobs: The jobs' environment where the Airflow task runs, which checks the step's outputs; or nobody does.
        kwargs: As for KubernetesPodOperator.
    """

    template_fields: Sequence[str] = (
        *KubernetesPodOperator.template_fields,
        *("step", "workers", "gang_queue", "script", "environment_file", "requirements"),
    )
    operator_extra_links = (GangLink(),)
    ui_color = "#cfe3f5"

    def __init__(
        self,
        *,
        step: Step | None = None,
        workers: int | str = 1,
        script: str | None = None,
        environment_file: str | None = None,
        requirements: str | None = None,
        packages: str | None = None,
        accelerator: Accelerator = "cpu",
        accelerator_count: int = 1,
        gang_queue: str | None = None,
        instance: str | None = None,
        gang_url: str | None = None,
        startup_timeout_seconds: int = STARTUP_TIMEOUT_S,
        broken_timeout_seconds: int = 60,
        waiting_timeout: timedelta = WAITING_TIMEOUT,
        jobs: JobsEnvironment | None = None,
        poll_interval: float = POLL_S,
        **kwargs: Any,
    ) -> None:
        """Keep what the gang needs.

        Raises:
            ValueError: An argument is wrong or would have no effect; an XCom side-car was asked for: a gang has no
                single pod to read a result from.
        """
        if ignored := refused(kwargs):
            raise ValueError(f"{kwargs.get('task_id')}: a gang does not know {', '.join(ignored)}: leave them out")
        if accelerator not in get_args(Accelerator):
            raise ValueError(f"{kwargs.get('task_id')}: accelerator is {accelerator!r}: it must be 'cpu' or 'gpu'")
        if accelerator_count < 1:
            raise ValueError(f"{kwargs.get('task_id')}: accelerator_count is {accelerator_count}: it must be 1 or more")
        if script is not None and (step is not None or kwargs.get("cmds")):
            raise ValueError(f"{kwargs.get('task_id')}: the script is what is run: leave step and cmds out")
        super().__init__(startup_timeout_seconds=startup_timeout_seconds, poll_interval=poll_interval, **kwargs)
        if self.do_xcom_push:
            raise ValueError(f"{self.task_id}: a gang pushes no XCom of its pods: leave do_xcom_push out")
        self.waiting_timeout = waiting_timeout
        self.run_limit = self.execution_timeout
        if self.execution_timeout is not None:
            self.execution_timeout += waiting_timeout
        self.step = step
        self.workers = workers
        self.script = script
        self.environment_file = environment_file
        self.requirements = requirements
        self.packages = packages
        self.accelerator = accelerator
        self.accelerator_count = accelerator_count
        self.gang_queue = gang_queue
        self.instance = instance
        self.gang_url = gang_url
        self.broken_timeout_seconds = broken_timeout_seconds
        self.jobs = jobs
        self._gang: Gang | None = None
        self._is_patient = False
        self._feed: ClusterFeed | None = None

    def execute(self, context: Context) -> None:
        """Run the gang to its end, then check its output.

        Raises:
            AirflowFailException: A worker says that its input or configuration is at fault, its image cannot be had,
                Kubernetes refuses the manifests, or the run was planned by another version.
            AirflowException: The gang failed in another way, or the task was ended from outside.
            OutputError: The job ended well but its output does not hold.
        """
        if self.step is not None:
            check_version(self.step)
            self.step = with_trained(self.step, context)
            log_places(self.log.info, self.step)
        until = self._may_wait_until(context)
        pod, gang = self.pod_and_gang(context)
        with _told_to_airflow(), ExitStack() as cleanup:
            if context["ti"].try_number > 1:  # an earlier one has been answered
                self._cluster(gang, is_patient=True).find_jobs(gang.selector)
            gang = self._start_or_adopt(pod, gang, context, cleanup)
            # Airflow itself asks for the link only at the end.
            self._show(context, GangLink().xcom_key, self.address())
            if self.deferrable:
                cleanup.pop_all()
                self._defer(gang, until, context)
            runs = self._follow(pod, gang, self._limits(until), context, cleanup)
        self._check(runs, context)

    def go_on(self, context: Context, event: dict[str, Any], try_number: int, until: float) -> None:
        """Run the gang from its start to its end; the trigger has waited until then.

        Args:
            context: Of the task.
            event: The gang's name, and whether it has started in time.
            try_number: The try that was deferred.
            until: When the gang has waited long enough, in seconds since 1970.

        Raises:
            AirflowFailException: As for :meth:`execute`, like those that follow; or the gang has waited for too long.
            AirflowException: The gang failed in another way, or is gone.
            OutputError: The job ended well but its output does not hold.
        """
        if try_number != context["ti"].try_number:
            # Airflow resumes a task that was cleared while it ran, though that is a new try: its gang is gone.
            self.execute(context)
            return
        pod, gang = self.pod_and_gang(context)
        gang = replace(gang, name=event["gang"])
        limits = self._limits(self._may_wait_until(context) if event["in_time"] else until, passed=not event["in_time"])
        self._is_patient = True
        with _told_to_airflow(), ExitStack() as cleanup:
            self._own(gang, context, cleanup)
            runs = self._follow(pod, gang, limits, context, cleanup)
        self._check(runs, context)

    def on_kill(self) -> None:
        """End the task, and with it the gang if that is what Airflow wants.

        It does not say why it calls this: it may only have been away itself. This runs in the midst of whatever the
        task does, so that asking is left to the task's own end. A Job that is not made yet is not made any more.
        """
        self._killed = True
        if self._feed is not None:
            self._feed.cancel(_killed())

    def pod_and_gang(self, context: Context) -> tuple[Manifest, Gang]:
        """The pod that the arguments describe, and the gang to make of it.

        Raises:
            AirflowFailException: The number of workers is wrong.
        """
        workers = self.workers
        if self.step is not None:
            self.arguments, workers = list(self.step["arguments"]), self.step["workers"]
        if not str(workers).isdecimal() or int(workers) < 1:
            raise AirflowFailException(f"{self.task_id}: workers is {workers!r}: it must be a whole number, 1 or more")
        pod: Manifest = PodGenerator.serialize_pod(self.build_pod_request_obj(context, dry_run=True))
        ti = context["ti"]
        return pod, Gang(
            name=ownership.work_name(ti, self.instance),
            namespace=pod["metadata"]["namespace"],
            labels=self._get_ti_pod_labels(context) | ownership.instance_label(self.instance),
            owner=ownership.owner_name(ti),
            workers=int(workers),
            container=self.base_container_name,
            accelerator=self.accelerator,
            accelerator_count=self.accelerator_count,
            queue=self.gang_queue or pod["metadata"]["labels"].get(QUEUE_LABEL),
            run_limit_s=self._run_limit_s(),
            start_limit_s=ceil(self.startup_timeout_seconds * LONGEST_PATIENCE),
            final_exit_code=INVALID_INPUT_EXIT_CODE if self.script is None else None,
        )

    def _read_script(self) -> Script | None:
        if self.script is None:
            return None
        return read_script(self.script, self.environment_file, self.requirements, self.packages)

    def _run_limit_s(self) -> int | None:
        if self.active_deadline_seconds is None and self.run_limit is not None:
            return int(self.run_limit.total_seconds())
        return self.active_deadline_seconds

    def _may_wait_until(self, context: Context) -> float:
        """When a gang that begins to wait now has waited long enough, in seconds since 1970.

        All gangs of a try together get no more than it may run and wait: one that is evicted again and again would
        never end.
        """
        until = time.time() + self.waiting_timeout.total_seconds()
        if self.execution_timeout is None:
            return until
        return min(until, (context["ti"].start_date + self.execution_timeout).timestamp())

    def _limits(self, until: float, passed: bool = False) -> Limits:
        return Limits(self.startup_timeout_seconds, self.broken_timeout_seconds, passed, until)

    def _start_or_adopt(self, pod: Manifest, gang: Gang, context: Context, cleanup: ExitStack) -> Gang:
        """Take over what an earlier process has left if it is the same work; otherwise delete it and start anew."""
        script = self._read_script()
        cluster, job = self._cluster(gang), job_manifest(pod, gang, script)
        digest = job["metadata"]["labels"][ownership.DIGEST_LABEL]
        adopted = take_over(cluster, gang, digest, may_be_queued=not self.deferrable, log=self.log.info)
        if adopted is not None:
            gang, self._is_patient = replace(gang, name=adopted["metadata"]["name"]), True
            self.log.info("taking over gang %s, which is there already", gang.name)
        else:
            self._stop_if_killed()
        self._own(gang, context, cleanup)
        job = adopted or cluster.create_job(job)
        self._stop_if_killed()
        if script is not None:
            cluster.create_script(gang, job, script)
        cluster.create_service(gang, job)
        self.log.info("gang %s: %d workers in namespace %s", gang.name, gang.workers, gang.namespace)
        return gang

    def _stop_if_killed(self) -> None:
        """End a task that a signal has told to end when there was no Job to delete."""
        if self._killed:
            raise _killed()

    def _own(self, gang: Gang, context: Context, cleanup: ExitStack) -> None:
        """Answer for a gang from now on: it is removed with ``cleanup``."""
        cleanup.callback(self._remove, gang, context["ti"])
        self._gang = gang

    def address(self) -> str:
        """Address of what shows the gang elsewhere; empty where none is configured, or no gang was made."""
        if self.gang_url is None or self._gang is None:
            return ""
        return self.gang_url.format(name=self._gang.name, namespace=self._gang.namespace)

    def _defer(self, gang: Gang, until: float, context: Context) -> NoReturn:
        connection = {
            "conn_id": self.kubernetes_conn_id,
            "in_cluster": self.hook.is_in_cluster,  # the triggerer's hook finds that out by no means of its own
            "cluster_context": self.cluster_context,
            "config_dict": yaml.safe_load(Path(self.config_file).read_text(encoding="utf-8"))
            if self.config_file
            else None,
        }
        trigger = as_trigger(gang, self._limits(until), connection, self.poll_interval)
        kwargs = {"try_number": context["ti"].try_number, "until": until}
        self.defer(trigger=trigger, method_name="go_on", kwargs=kwargs)

    def _follow(self, pod: Manifest, gang: Gang, limits: Limits, context: Context, cleanup: ExitStack) -> list[str]:
        """Follow a gang to its end, or defer the task until it has a place again."""
        try:
            return self._supervise(gang, limits, context)
        except GangFailed as failed:
            # Workers miss one whose node is lost before Kubernetes does, and end.
            if self._killed or not failed.may_retry or not self._remove(gang, context["ti"]):
                raise
            held = GangHeld(f"a worker was lost with its node, and then: {failed}", is_suspended=False, has_run=True)
        except GangHeld as error:
            held = error
        except RefusedForNow:
            cleanup.pop_all()  # it may run well: the next try takes it over
            raise
        self._is_patient = True
        until = self._may_wait_until(context) if held.has_run else limits.until
        assert until is not None
        if time.time() >= until:
            raise AirflowFailException(f"{held}; a gang may wait for {self.waiting_timeout} and no longer")
        self.log.info("%s; the gang waits for its place, which costs no try", held)
        if not held.is_suspended:
            self._cluster(gang).remove(gang.selector, gang.owner)
            if held.gives_back:
                self._pause()
            gang = self._start_or_adopt(pod, replace(gang, name=next_name(gang.name)), context, cleanup)
        cleanup.pop_all()
        self._defer(gang, until, context)

    def _pause(self) -> None:
        """Leave the place that was given back to those that wait for it."""
        end = time.monotonic() + random.uniform(*PAUSE_S)
        while time.monotonic() < end and not self._killed:
            time.sleep(0.5)

    def _supervise(self, gang: Gang, limits: Limits, context: Context) -> list[str]:
        """Follow the gang to its end, and return the folders that its log names as those of its results."""

        def report(states: dict[int, str]) -> None:
            workers = {str(index): state for index, state in sorted(states.items())}
            value = {"job": gang.name, "namespace": gang.namespace, "size": gang.workers, "workers": workers}
            self._show(context, "gang", value)

        log = JobLog(self.log, is_ours=self.script is None)
        with ClusterFeed(self._cluster(gang), gang) as self._feed:
            Supervision(self._feed, gang, limits, log, report).run()
        if log.comparison is not None:
            context["ti"].xcom_push(key="return_value", value=log.comparison)
        return log.runs

    def _show(self, context: Context, key: str, value: Any) -> None:
        """Tell Airflow what people may want to see. While its API server is away that is not worth a gang."""
        try:
            context["ti"].xcom_push(key=key, value=value)
        except AirflowRuntimeError as error:
            self.log.warning("Airflow does not take the XCom %s: %s", key, error)

    def _check(self, runs: list[str], context: Context) -> None:
        """Look at the output of a gang that has ended well, and say where it is."""
        if self.step is None:
            return
        step = with_run(self.step, runs)
        if self.jobs is not None:
            check_and_announce(step, self.jobs, self.outlets, context)
        log_places(self.log.info, step)

    def _remove(self, gang: Gang, ti: Any) -> bool:
        """Delete everything of a gang, unless it is no longer this try's, or the next one may want it.

        What cannot be deleted now is left to the next try and to the run's teardown; it ends by its deadline and its
        time to live.

        Returns:
            Whether a worker was lost with its node.
        """
        if self._killed and not is_over(ti):
            self.log.info("Airflow does not say that this task is over: gang %s is left to the next try", gang.name)
            return False
        try:
            return self._cluster(gang, is_patient=False).remove(gang.selector, gang.owner)
        except (Refused, StillThere, ApiException, HTTPError) as error:
            command = f"kubectl delete job -n {gang.namespace} -l {gang.selector}"
            self.log.warning("gang %s could not be removed: %s. By hand: `%s`", gang.name, error, command)
            return False

    def _cluster(self, gang: Gang, *, is_patient: bool | None = None) -> GangCluster:
        """Where it runs. Once a gang has been followed or taken over, refusals may pass, if nothing else is said."""
        patience = self._is_patient if is_patient is None else is_patient
        return GangCluster(self.client.api_client, gang.namespace, is_patient=patience)


@contextmanager
def _told_to_airflow() -> Iterator[None]:
    """Make errors those that Airflow retries, or does not."""
    try:
        yield
    except (Refused, ScriptError) as error:
        raise AirflowFailException(str(error)) from None
    except GangFailed as error:
        raise (AirflowException if error.may_retry else AirflowFailException)(str(error)) from None


def _killed() -> GangFailed:
    return GangFailed("ended from outside before it was done", may_retry=True)
