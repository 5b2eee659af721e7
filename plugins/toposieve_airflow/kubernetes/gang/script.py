"""Anybody's script in the pods of a gang: their command, and what they take it from. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from toposieve_airflow.contract.tf_config import INDEX_LABEL, tf_config
from toposieve_airflow.kubernetes.api.ownership import Manifest
from toposieve_airflow.runs.script import Script

FOLDER = "/etc/toposieve/script"
"""Where pods have the script and its requirements."""

PACKAGES = "/tmp/packages"
"""Where pods install what it requires."""

_PIP = [
    *("python3", "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check"),
    *("--target", PACKAGES, "--requirement", f"{FOLDER}/requirements.txt"),
]


def run_script(script: Script, spec: Manifest, container: Manifest, gang: str, hosts: Sequence[str]) -> None:
    """Let a container run a script, with what :func:`script_files` makes.

    Args:
        script: The script.
        spec: Of the container's pod.
        container: The container; its arguments are the script's.
        gang: Name of the gang, and of these files.
        hosts: Addresses of its workers.
    """
    own_index = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}}
    container["command"] = _command(script)
    container["env"] += [
        {"name": "WORKER_NUMBER", "valueFrom": own_index},
        {"name": "TOT_WORKERS", "value": str(len(hosts))},
        {"name": "TF_CONFIG", "value": tf_config(hosts, "$(WORKER_NUMBER)")},
    ]
    mount = {"name": "script", "mountPath": FOLDER, "readOnly": True}
    container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
    spec["volumes"] = [*spec.get("volumes", []), {"name": "script", "configMap": {"name": gang}}]
    if script.variables:
        container["envFrom"] = [*container.get("envFrom", []), {"secretRef": {"name": gang}}]


def script_files(script: Script, metadata: Mapping[str, Any]) -> list[Manifest]:
    """The ConfigMap with the script, and before it the Secret with the variables, if any: pods wait for the former.

    Args:
        script: The script.
        metadata: Of both.
    """
    files = {"script.py": script.text}
    if script.requirements is not None:
        files["requirements.txt"] = script.requirements
    common = {"apiVersion": "v1", "metadata": dict(metadata), "immutable": True}
    secret = {**common, "kind": "Secret", "stringData": dict(script.variables)}
    return [*([secret] if script.variables else []), {**common, "kind": "ConfigMap", "data": files}]


def _command(script: Script) -> list[str]:
    """What a pod runs; the script's arguments follow."""
    python = f"python3 -u {FOLDER}/script.py"
    if script.requirements is None:
        return python.split()
    pip = shlex.join([*_PIP, *_source(script.packages)])
    return ["sh", "-c", f'{pip} && PYTHONPATH={PACKAGES}${{PYTHONPATH:+:$PYTHONPATH}} exec {python} "$@"', "sh"]


def _source(packages: str | None) -> list[str]:
    """Options of pip that say where packages come from."""
    if packages is None:
        return []
    return ["--index-url", packages] if "://" in packages else ["--no-index", "--find-links", packages]
