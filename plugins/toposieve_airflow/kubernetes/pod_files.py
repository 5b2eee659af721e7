"""Read what pods are made from: files of the deployment, in Kubernetes' own words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

from toposieve_airflow.profile import ProfileError

WORKER = "base"
"""Name of the container that trains: the first one."""

_OF_A_GANG = {
    "metadata.name",
    "metadata.namespace",
    "spec.activeDeadlineSeconds",
    "spec.hostname",
    "spec.restartPolicy",
    "spec.subdomain",
    "spec.containers.0.args",
    "spec.containers.0.command",
    "spec.containers.0.terminationMessagePolicy",
}
"""Keys that have no effect: the operator says them."""


def spark_pod(path: Path) -> Path:
    """The file of Spark's pods, which Spark reads itself: it would pass over a misspelt key.

    Raises:
        ProfileError: It cannot be read, or is not a pod.
    """
    _read_pod(path)
    return path


def gang_pod(path: Path) -> dict[str, Any]:
    """A pod of a gang.

    Raises:
        ProfileError: The file cannot be read, is not a pod, or says what the operator says.
    """
    pod = _read_pod(path)
    if (name := pod["spec"]["containers"][0]["name"]) != WORKER:
        raise ProfileError(f"{path}: spec.containers.0.name is {name}: the first container trains, call it {WORKER}")
    if owned := sorted(_OF_A_GANG & set(_keys(pod))):
        raise ProfileError(f"{path}: {', '.join(owned)}: a gang has its own: leave it out")
    return pod


def _read_pod(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}, which kubernetes.pods of the profile names: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not valid YAML: {error}") from None
    try:
        pod: dict[str, Any] = PodGenerator.serialize_pod(PodGenerator.deserialize_model_dict(given))
        pod["spec"]["containers"][0]["name"]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ProfileError(f"{path}: not a Pod with a container, as Kubernetes writes it: {error}") from None
    if unknown := sorted(set(_keys(given)) - set(_keys(pod))):
        raise ProfileError(f"{path}: {', '.join(unknown)}: Kubernetes knows no such key of a Pod")
    return pod


def _keys(value: Any, above: str = "") -> Iterator[str]:
    """Every key that has a value, after those above it."""
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            if each is not None:
                yield f"{above}{key}"
                yield from _keys(each, f"{above}{key}.")
