"""Manifests of a gang: an Indexed Job and a headless Service. Pure functions: no client, no cluster.

Objects are plain mappings with the keys of Kubernetes' own documentation.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE
from toposieve_airflow.contract.tf_config import POD_PORT, TASK_VARIABLE, pod_environment, pod_hosts
from toposieve_airflow.kubernetes.api.ownership import DIGEST_LABEL, MANAGED_BY, TRY_LABEL, Manifest, metadata
from toposieve_airflow.kubernetes.gang.script import run_script, script_files
from toposieve_airflow.runs.naming import short_hash
from toposieve_airflow.runs.script import Script

Accelerator = Literal["cpu", "gpu"]

GANG_LABEL = "toposieve/gang"
"""Label that holds the gang's name: on Job, Service and pods."""

_VERSION_LABEL = "airflow_version"
"""Label of KubernetesPodOperator's pods by which `airflow kubernetes cleanup-pods` finds those that have ended: it
would delete workers of a gang whose others still run. It would also make the same work look new after an upgrade.
"""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Label of the Job by which Kueue knows its queue; on a pod template it says the same, and is not on the pods."""

GPU = "nvidia.com/gpu"
"""Resource and taint of NVIDIA's device plugin."""

KEEP_S = 3600
"""Seconds that a finished Job stays when Airflow is gone and cannot delete it."""


@dataclass(frozen=True)
class Gang:
    """What one try of a task starts.

    Args:
        name: Name of Job and Service.
        namespace: Where they live.
        labels: Of the task instance; on everything that belongs to the gang.
        owner: Id of the task instance, and the try.
        workers: Number of pods.
        container: Name of the container that trains.
        accelerator: ``cpu`` or ``gpu``.
        accelerator_count: GPUs of each worker.
        queue: Kueue's local queue that admits the gang as a unit, if there is one.
        run_limit_s: Seconds that the gang may run from its last worker's start on.
        start_limit_s: Seconds that it may take to start: as much more Kubernetes gives it before it ends it.
        final_exit_code: By which a worker says that another try would fail in the same way, if there is such a one.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    owner: str
    workers: int
    container: str = "base"
    accelerator: Accelerator = "cpu"
    accelerator_count: int = 1
    queue: str | None = None
    run_limit_s: int | None = None
    start_limit_s: int = 0
    final_exit_code: int | None = INVALID_INPUT_EXIT_CODE

    @property
    def all_labels(self) -> dict[str, str]:
        """Labels of everything that belongs to this gang."""
        return {**self.labels, **MANAGED_BY, GANG_LABEL: self.name}

    @property
    def selector(self) -> str:
        """Label selector of everything that belongs to this gang."""
        return f"{GANG_LABEL}={self.name}"

    @property
    def ownership(self) -> Manifest:
        """What a Job's metadata says of the try that answers for it."""
        return metadata(self.owner, self.labels[TRY_LABEL])


def next_name(name: str) -> str:
    """Name of the gang that the same try makes when the cluster has taken this one's place.

    >>> next_name("train-3ad7e7ae-1"), next_name("train-3ad7e7ae-1r2")
    ('train-3ad7e7ae-1r2', 'train-3ad7e7ae-1r3')
    """
    start, _, number = name.rpartition("-")
    try_number, _, count = number.partition("r")
    return f"{start}-{try_number}r{int(count or 1) + 1}"


def job_manifest(pod: Manifest, gang: Gang, script: Script | None = None) -> Manifest:
    """The Indexed Job whose pods are the gang's workers.

    Kubernetes ends all of them when one fails, is evicted or is deleted, and starts none a second time.

    Args:
        pod: A pod as KubernetesPodOperator builds it.
        gang: What to start.
        script: What its workers run, in place of what the pod says.
    """
    template = _template(pod, gang, script)
    work = [_without_names(template, gang), gang.queue, gang.run_limit_s]
    digest = short_hash(work if script is None else [*work, script.digest])
    spec: Manifest = {
        "completionMode": "Indexed",
        "completions": gang.workers,
        "parallelism": gang.workers,
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _FAILURE_RULES},
        "ttlSecondsAfterFinished": KEEP_S,
        "template": template,
    }
    if gang.run_limit_s is not None:
        spec["activeDeadlineSeconds"] = gang.run_limit_s + gang.start_limit_s
    metadata = {"name": gang.name, "namespace": gang.namespace, **copy.deepcopy(template["metadata"])}
    metadata["annotations"] = {**metadata.get("annotations", {}), **gang.ownership["annotations"]}
    labels = metadata["labels"]
    labels[DIGEST_LABEL] = digest
    if gang.queue is not None:
        spec["suspend"] = True
        labels[QUEUE_LABEL] = gang.queue
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


_FAILURE_RULES: list[Manifest] = [
    {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
]
"""None is about exit codes: no pod may fail anyway, and a rule would see those of pods whose Job is suspended."""


def service_manifest(gang: Gang, job_uid: str) -> Manifest:
    """The headless Service that gives each worker a host name from the start; Kubernetes deletes it with the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _owned(gang, job_uid),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {GANG_LABEL: gang.name},
            "ports": [{"name": "grpc", "port": POD_PORT}],
        },
    }


def script_manifests(gang: Gang, job_uid: str, script: Script) -> list[Manifest]:
    """What the pods take a script from, in the order to make it; Kubernetes deletes it with the Job."""
    return script_files(script, _owned(gang, job_uid))


def _owned(gang: Gang, job_uid: str) -> Manifest:
    """Metadata of what a gang's Job owns."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": gang.name, "uid": job_uid}
    return {
        "name": gang.name,
        "namespace": gang.namespace,
        "labels": gang.all_labels,
        "ownerReferences": [owner],
    }


def _template(pod: Manifest, gang: Gang, script: Script | None) -> Manifest:
    spec = _without_empty(copy.deepcopy(pod["spec"]))
    spec["containers"] = [_without_empty(container) for container in spec["containers"]]
    hosts = pod_hosts(gang.name, gang.name, gang.workers)
    for container in spec["containers"]:
        if container["name"] == gang.container:
            task = {"name": TASK_VARIABLE, "value": gang.name.rpartition("-")[0]}
            container["env"] = [*container.get("env", []), task]
            if script is None:
                container["env"] += pod_environment(hosts)
            else:
                run_script(script, spec, container, gang.name, hosts)
            if gang.accelerator == "gpu":
                _give_gpus(spec, container, gang.accelerator_count)
    spec |= {"restartPolicy": "Never", "subdomain": gang.name}
    spec.pop("activeDeadlineSeconds", None)  # the Job's, which counts for all pods together
    given = pod["metadata"].get("labels", {})
    labels = {key: value for key, value in given.items() if key not in (_VERSION_LABEL, QUEUE_LABEL)}
    metadata: Manifest = {"labels": {**labels, **gang.all_labels}}
    if annotations := pod["metadata"].get("annotations"):
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": spec}


def _give_gpus(spec: Manifest, container: Manifest, count: int) -> None:
    """Let a container have GPUs, and its pod run on nodes kept for them, unless it says so itself."""
    resources = container.get("resources", {})
    container["resources"] = {**resources, "limits": {GPU: str(count), **resources.get("limits", {})}}
    if all(each.get("key") != GPU for each in spec.get("tolerations", [])):
        taint = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
        spec["tolerations"] = [*spec.get("tolerations", []), taint]


def _without_empty(given: Manifest) -> Manifest:
    """Without what Airflow's operator writes for arguments that were not given."""
    return {key: value for key, value in given.items() if value not in ({}, [], None)}


def _without_names(template: Manifest, gang: Gang) -> str:
    """The template as text without what differs between two tries of the same work."""
    labels = {key: value for key, value in template["metadata"]["labels"].items() if key != TRY_LABEL}
    text = repr([sorted(labels.items()), template["spec"]]).replace(gang.name, "")
    return re.sub("secretvol[-0-9a-f]{36}", "secretvol", text)  # Airflow names a Secret's volume by chance
