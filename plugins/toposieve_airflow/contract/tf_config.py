"""Addresses of a training gang. Pure functions: nothing here starts a process or opens a port.

TensorFlow's MultiWorkerMirroredStrategy wants the address of every worker and a worker's own index, as JSON in the
environment variable ``TF_CONFIG``. Workers are processes of this machine or pods of an Indexed Job; pods get the same
text, in which Kubernetes puts the index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

POD_PORT = 2222
"""Where a worker listens in its pod, which has an address of its own."""

TASK_VARIABLE = "TOPOSIEVE_TASK"
"""Environment variable by which a job knows the next try of its task, which takes over what it writes at once."""

INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
"""Label in which an Indexed Job gives a pod its worker's index."""


def local_hosts(ports: Sequence[int]) -> list[str]:
    """Addresses of workers on this machine, one port each.

    >>> local_hosts([2222, 2223])
    ['127.0.0.1:2222', '127.0.0.1:2223']
    """
    return [f"127.0.0.1:{port}" for port in ports]


def pod_hosts(job: str, service: str, workers: int) -> list[str]:
    """Addresses of the pods of an Indexed Job behind a headless Service, for pods of the same namespace.

    >>> pod_hosts("train-1", "train-1", 2)
    ['train-1-0.train-1:2222', 'train-1-1.train-1:2222']
    """
    return [f"{job}-{index}.{service}:{POD_PORT}" for index in range(workers)]


def tf_config(hosts: Sequence[str], index: int | str) -> str:
    """Value of ``TF_CONFIG`` for worker ``index`` of the gang at ``hosts``; a text stands for an index not known yet.

    >>> tf_config(["a:1", "b:1"], 1)
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    """
    return f'{{"cluster": {json.dumps({"worker": list(hosts)})}, "task": {{"type": "worker", "index": {index}}}}}'


def worker_environments(hosts: Sequence[str]) -> list[dict[str, str]]:
    """Environment variables of each worker. A worker on its own needs no ``TF_CONFIG``."""
    if len(hosts) == 1:
        return [{}]
    return [{"TF_CONFIG": tf_config(hosts, index)} for index in range(len(hosts))]


def pod_environment(hosts: Sequence[str]) -> list[dict[str, Any]]:
    """Environment variables of every pod, as Kubernetes writes them; it fills in the pod's own index."""
    if len(hosts) == 1:
        return []
    own_index = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}}
    return [
        {"name": "WORKER_INDEX", "valueFrom": own_index},
        {"name": "TF_CONFIG", "value": tf_config(hosts, "$(WORKER_INDEX)")},
    ]
