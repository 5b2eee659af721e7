"""Addresses of a training gang. Pure functions: nothing here starts a process or opens a port.

TensorFlow's MultiWorkerMirroredStrategy wants the address of every worker and a worker's own index, as JSON in the
environment variable ``TF_CONFIG``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


def local_hosts(ports: Sequence[int]) -> list[str]:
    """Addresses of workers on this machine, one port each.

    >>> local_hosts([2222, 2223])
    ['127.0.0.1:2222', '127.0.0.1:2223']
    """
    return [f"127.0.0.1:{port}" for port in ports]


def tf_config(hosts: Sequence[str], index: int) -> str:
    """Value of ``TF_CONFIG`` for worker ``index`` of the gang at ``hosts``.

    >>> tf_config(["a:1", "b:1"], 1)
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    """
    return json.dumps({"cluster": {"worker": list(hosts)}, "task": {"type": "worker", "index": index}})


def worker_environments(hosts: Sequence[str]) -> list[dict[str, str]]:
    """Environment variables of each worker. A worker on its own needs no ``TF_CONFIG``."""
    if len(hosts) == 1:
        return [{}]
    return [{"TF_CONFIG": tf_config(hosts, index)} for index in range(len(hosts))]
