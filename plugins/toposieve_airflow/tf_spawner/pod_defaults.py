"""What every worker's pod gets unless the task says otherwise. Pure functions on pod specs; they change no argument."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

Accelerator = Literal["cpu", "gpu"]

GPU = "nvidia.com/gpu"
"""Resource and taint of NVIDIA's device plugin."""

USER = 1000
GRACE_S = 3
"""Seconds between TERM and KILL: a worker has nothing to save then, its last checkpoint is there already."""

NODE_LOSS_S = 5
"""Seconds that a worker's pod stays bound to a node that no longer answers."""

_POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "terminationGracePeriodSeconds": GRACE_S,
}
_CONTAINER = {
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
}
_SCRATCH_PATH = "/tmp"
_SCRATCH = "scratch"


def hardened(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pod spec that the ``restricted`` Pod Security level takes; of the file system only ``/tmp`` can be written."""
    result = _merged(_without_empty(spec), _POD)
    result["volumes"] = [*result.get("volumes", []), {"name": _SCRATCH, "emptyDir": {}}]
    for group in {"containers", "initContainers"} & result.keys():
        result[group] = [_hardened_container(container) for container in result[group]]
    for taint in ("not-ready", "unreachable"):
        _tolerate(result, f"node.kubernetes.io/{taint}", effect="NoExecute", tolerationSeconds=NODE_LOSS_S)
    return result


def with_accelerator(spec: Mapping[str, Any], container: str, accelerator: Accelerator, count: int) -> dict[str, Any]:
    """A pod spec whose container gets GPUs, and that may run on nodes kept for them."""
    result = copy.deepcopy(dict(spec))
    if accelerator == "cpu":
        return result
    for each in result["containers"]:
        if each["name"] == container:
            each["resources"] = _merged(each.get("resources", {}), {"limits": {GPU: str(count)}})
    _tolerate(result, GPU, effect="NoSchedule")
    return result


def spread(spec: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """A pod spec that prefers nodes without another pod of these labels."""
    term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": "kubernetes.io/hostname"}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    rule = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return _merged(spec, {"affinity": rule})


def _hardened_container(container: Mapping[str, Any]) -> dict[str, Any]:
    result = _merged(_without_empty(container), _CONTAINER)
    mounts = result.get("volumeMounts", [])
    if all(mount["mountPath"] != _SCRATCH_PATH for mount in mounts):
        result["volumeMounts"] = [*mounts, {"name": _SCRATCH, "mountPath": _SCRATCH_PATH}]
    if all(variable["name"] != "HOME" for variable in result.get("env", [])):
        result["env"] = [{"name": "HOME", "value": _SCRATCH_PATH}, *result.get("env", [])]
    return result


def _tolerate(spec: dict[str, Any], key: str, **how: Any) -> None:
    given = spec.get("tolerations", [])
    if all(toleration.get("key") != key for toleration in given):
        spec["tolerations"] = [*given, {"key": key, "operator": "Exists", **how}]


def _merged(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Both together; what is given wins, key by key and at every level."""
    result = copy.deepcopy({**defaults, **given})
    for key in given.keys() & defaults.keys():
        if isinstance(given[key], Mapping) and isinstance(defaults[key], Mapping):
            result[key] = _merged(given[key], defaults[key])
    return result


def _without_empty(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value not in ({}, [], None)}
