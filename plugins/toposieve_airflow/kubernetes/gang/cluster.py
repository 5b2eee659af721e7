"""What a gang needs of the API server: make Job and Service, find what is left of earlier tries, remove everything."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from kubernetes.client import ApiClient, BatchV1Api

from toposieve_airflow.kubernetes.api.cluster import CHANGED, Cluster, of_another
from toposieve_airflow.kubernetes.api.ownership import Manifest, owner_of
from toposieve_airflow.kubernetes.api.watching import ListCall
from toposieve_airflow.kubernetes.gang.manifests import GANG_LABEL, Gang, deletion_of, service_manifest


class GangCluster(Cluster):
    """Gangs in one namespace; arguments as for Cluster."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        """Ask nothing yet."""
        super().__init__(client, namespace)
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
        while jobs := [job for job in self.find_jobs(selector) if "deletionTimestamp" not in job["metadata"]]:
            if owner is not None and any(owner_of(job) != owner for job in jobs):
                return False
            for job in jobs:
                delete, name = self._batch.delete_namespaced_job, job["metadata"]["name"]
                self._ask(delete, name, self.namespace, body=deletion_of(job), missing=CHANGED)
        return self._wait_for_end(selector)

    def _create(self, call: Callable[..., Any], manifest: Manifest) -> Any:
        return self._ask(call, self.namespace, manifest, missing=(HTTPStatus.CONFLICT,))
