"""Our chart installed in a namespace of a real cluster."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
from kubernetes import client

from support.charts import CHART, RELEASE, find, render
from support.cluster import IMAGES, STORAGE_VARIABLE, TAG, Namespace
from support.rights import ACCOUNTS, Right, rules

PATIENCE_S = 180
OUR_IMAGES = {"prefix": IMAGES, "tag": TAG}


def shared_folder(fallback: Path) -> Path:
    """A new folder that every pod may write to, until all tests end: in TOPOSIEVE_TEST_STORAGE, or else in this one."""
    folder = Path(tempfile.mkdtemp(prefix="toposieve-", dir=os.environ.get(STORAGE_VARIABLE) or fallback))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o777)
    return folder


def values_for(folder: Path) -> dict[str, Any]:
    """Values for our images and a volume on a shared folder; nothing stays when the release goes."""
    return {"images": OUR_IMAGES, "storage": volume_on(folder), "airflow": {"logs": {"enabled": False}}}


def volume_on(folder: Path) -> dict[str, Any]:
    """Where all data lies, in the chart's values: a volume on a shared folder, gone with the release."""
    return {"hostPath": str(folder), "keep": False, "size": "1Gi"}


@contextmanager
def helm_in(namespace: Namespace) -> Iterator[helm_python.Config]:
    """Helm, at work in a namespace."""
    with helm_python.Config(namespace=namespace.name) as helm:
        yield helm


@contextmanager
def installed(namespace: Namespace, values: dict[str, Any]) -> Iterator[helm_python.Config]:
    """The chart's release while the block lasts; its pods answer."""
    with helm_in(namespace) as helm:
        helm.install(str(CHART), RELEASE, values, wait="watcher", timeout=PATIENCE_S)
        try:
            yield helm
        finally:
            helm.uninstall(RELEASE)  # pods that are left keep the volume until their namespace goes


@contextmanager
def without(namespace: Namespace, account: str, *missing: Right) -> Iterator[None]:
    """Take rights from an account of the chart while the block lasts."""
    api = client.RbacAuthorizationV1Api(namespace.core.api_client)
    name = f"{RELEASE}-{account}"
    api.patch_namespaced_role(name, namespace.name, {"rules": rules(ACCOUNTS[account] - set(missing))})
    try:
        yield
    finally:
        before = find(render({}), "Role", name)["rules"]
        api.patch_namespaced_role(name, namespace.name, {"rules": before})
