"""What a gang needs of the API server: make Job and Service, find what is left of earlier tries, remove everything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from kubernetes.client import ApiClient, BatchV1Api

from toposieve_airflow.kubernetes.api.cluster import CHANGED, Cluster, of_another
from toposieve_airflow.kubernetes.api.ownership import TRY_LABEL, Manifest, is_in_the_way, owner_of, task_selector
from toposieve_airflow.kubernetes.api.watching import ListCall
from toposieve_airflow.kubernetes.gang.diagnosis import is_suspended, may_be_adopted
from toposieve_airflow.kubernetes.gang.manifests import (
    GANG_LABEL,
    Gang,
    script_manifests,
    service_manifest,
)
from toposieve_airflow.runs.script import Script


class GangCluster(Cluster):
    """Gangs in one namespace; arguments as for Cluster."""

    def __init__(self, client: ApiClient, namespace: str, *, is_patient: bool = False) -> None:
        """Ask nothing yet."""
        super().__init__(client, namespace, is_patient=is_patient)
        self._batch = BatchV1Api(self._core.api_client)

    def jobs(self, selector: str) -> ListCall:
        """Lists and watches Jobs."""
        return partial(self._batch.list_namespaced_job, self.namespace, label_selector=selector)

    def find_jobs(self, selector: str) -> list[Manifest]:
        """Jobs with these labels, the newest first.

        Raises:
            Refused: The API server does not allow it.
        """
        items = self._ask(self._batch.list_namespaced_job, self.namespace, label_selector=selector)["items"]
        return sorted(items, key=lambda job: str(job["metadata"]["creationTimestamp"]), reverse=True)

    def create_job(self, job: Manifest) -> Manifest:
        """Make a gang's Job, unless its owner has done so, and return it.

        Raises:
            Refused: The API server does not take the manifest, or there is a Job of this name that is somebody else's.
        """
        made: Manifest | None = self._create(self._batch.create_namespaced_job, job)
        if made is not None:
            return made
        there = self.find_jobs(f"{GANG_LABEL}={job['metadata']['name']}")
        if [owner_of(each) for each in there] != [owner_of(job)]:
            raise of_another(job)
        return there[0]

    def adopt(self, gang: Gang, job: Manifest) -> Manifest | None:
        """Make a gang's owner that of a Job, and return it; nothing if the Job is no longer as it was read.

        Raises:
            Refused: The API server does not allow it.
        """
        metadata = {**gang.ownership, "resourceVersion": job["metadata"]["resourceVersion"]}
        patch, name = self._batch.patch_namespaced_job, job["metadata"]["name"]
        adopted: Manifest | None = self._ask(patch, name, self.namespace, {"metadata": metadata}, missing=CHANGED)
        return adopted

    def create_service(self, gang: Gang, job: Manifest) -> None:
        """Make the Service that a gang's Job owns, unless it is there already.

        Raises:
            Refused: The API server does not take the manifest.
        """
        self._create(self._core.create_namespaced_service, service_manifest(gang, job["metadata"]["uid"]))

    def create_script(self, gang: Gang, job: Manifest, script: Script) -> None:
        """Make what the pods take a script from and a gang's Job owns, unless it is there already.

        Raises:
            Refused: The API server does not take it.
        """
        calls = {"Secret": self._core.create_namespaced_secret, "ConfigMap": self._core.create_namespaced_config_map}
        for manifest in script_manifests(gang, job["metadata"]["uid"], script):
            self._create(calls[manifest["kind"]], manifest)

    def remove(self, selector: str, owner: str | None = None) -> bool:
        """Delete everything with these labels and wait until it is gone. Pods of a node that is lost go by force.

        No others do: the next gang must not get a GPU, or write to a folder, that the last one still has. A Job is
        deleted as it was just read: if another try adopts it in between, that is seen.

        Args:
            selector: Labels.
            owner: Whose the Jobs have to be; otherwise nothing is done. None: whoever's.

        Returns:
            Whether a pod was lost with its node.

        Raises:
            StillThere: Something is left all the same.
            Refused: The API server does not allow it.
            RefusedForNow: It does not take a request now; as from every method here.
        """
        delete = self._batch.delete_namespaced_job
        return self._delete(partial(self.find_jobs, selector), delete, owner) and self._wait_for_end(selector)

    def _create(self, call: Callable[..., Any], manifest: Manifest) -> Any:
        return self._ask(call, self.namespace, manifest, missing=(HTTPStatus.CONFLICT,))


def take_over(
    cluster: GangCluster, gang: Gang, digest: str, *, may_be_queued: bool, log: Callable[..., None]
) -> Manifest | None:
    """The Job that an earlier process has left for this gang, its own from now on; all others are removed.

    Args:
        cluster: Where the gang is to run.
        gang: The gang.
        digest: What its Job would do.
        may_be_queued: Whether a Job in a queue may be taken over too. While a task is deferred it has no process that
            could die: its gang is left by somebody who has cleared the task, and the trigger is about to delete it.
        log: Told what is removed.

    Raises:
        Refused: A Job of another task is in the way, or the API server does not allow it.
    """

    def is_wanted(job: Manifest) -> bool:
        if owner_of(job) == gang.owner:  # then no other is made, even if it has failed
            return True
        return may_be_adopted(job, digest) and (may_be_queued or not is_suspended(job))

    while True:
        left = cluster.find_jobs(task_selector(gang.labels))
        for each in left:
            if is_in_the_way(each, gang.owner, int(gang.labels[TRY_LABEL])):
                raise of_another(each)
        job = next(filter(is_wanted, left), None)
        for each in left:
            if each is not job:
                log("removing what is left of an earlier try: %s", each["metadata"]["name"])
                cluster.remove(f"{GANG_LABEL}={each['metadata']['name']}", owner_of(each))
        if job is None or owner_of(job) == gang.owner:
            return job
        if adopted := cluster.adopt(gang, job):
            return adopted
