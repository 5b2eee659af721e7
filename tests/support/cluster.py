"""A real cluster, whichever KUBECONFIG names: namespaces of our own in it, pods and commands in them.

The images are looked for under TOPOSIEVE_TEST_IMAGES with the tag TOPOSIEVE_TEST_TAG, and must be on the nodes or in a
registry that these can reach. TOPOSIEVE_TEST_STORAGE is a directory that this machine and every node see under the same
path; not needed where the nodes are this machine.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream
from urllib3.exceptions import HTTPError

from toposieve_airflow.contract.tf_config import INDEX_LABEL
from toposieve_airflow.kubernetes.api.ownership import MANAGED_BY

STORAGE_VARIABLE = "TOPOSIEVE_TEST_STORAGE"
IMAGES = os.environ.get("TOPOSIEVE_TEST_IMAGES", "localhost/toposieve-")
TAG = os.environ.get("TOPOSIEVE_TEST_TAG", "1")
POLL_S = 0.2
PATIENCE_S = 180
GONE_S = 60
"""Seconds in which Kubernetes deletes a Service after the Job that owned it."""

OURS = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())

POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def pod_spec(image: str, claim: str | None = None, **container: Any) -> dict[str, Any]:
    """A pod of the restricted level whose root file system is read-only.

    Args:
        image: Of its one container, ``main``.
        claim: Volume for /data, if there is to be one.
        container: Further keys of the container.
    """
    volumes: list[dict[str, Any]] = [{"name": "scratch", "emptyDir": {}}]
    mounts = [{"name": "scratch", "mountPath": "/tmp"}]
    if claim is not None:
        volumes.append({"name": "base", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "base", "mountPath": "/data"})
    main = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
    main |= {"securityContext": CONTAINER_SECURITY, **container}
    return {"containers": [main], "volumes": volumes, "securityContext": POD_SECURITY}


class Done(NamedTuple):
    """What a command in a pod gave."""

    code: int
    output: str


def image(name: str) -> str:
    """Full name of one of our images."""
    return f"{IMAGES}{name}:{TAG}"


def wait_for(found: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What a function finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, f"nothing found within {seconds} s"
        time.sleep(POLL_S)
    return result


@dataclass
class Namespace:
    """A namespace that takes only pods of the restricted level."""

    name: str
    core: client.CoreV1Api

    @property
    def batch(self) -> client.BatchV1Api:
        return client.BatchV1Api(self.core.api_client)

    def start(self, name: str, image: str, **spec: Any) -> None:
        """Start a pod that waits for commands; ``spec`` replaces parts of its specification."""
        spec = (
            pod_spec(image, args=["sleep", "1200"])
            | {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
            | spec
        )
        self.core.create_namespaced_pod(self.name, {"metadata": {"name": name}, "spec": spec})

    def wait_until_running(self, name: str) -> None:
        """Wait for a pod's start."""

        def runs() -> bool:
            status = self.core.read_namespaced_pod(name, self.name).status
            assert status.phase != "Failed", f"{name} failed: {status.message}"
            return bool(status.phase == "Running")

        wait_for(runs)

    def wait_until_ready(self, node: str, ready: str = "True") -> None:
        """Wait until Kubernetes says of a node that it is there, or, with ``Unknown``, that it is not."""

        def is_so() -> bool:
            conditions = self.core.read_node(node).status.conditions
            return any(each.type == "Ready" and each.status == ready for each in conditions)

        wait_for(is_so)

    def execute(self, pod: str, *command: str, container: str | None = None, seconds: float = PATIENCE_S) -> Done:
        """Run a command in a pod, of several containers in this one, and wait for its end."""
        call = self.core.connect_get_namespaced_pod_exec
        options: dict[str, Any] = {"stdout": True, "stderr": True, "stdin": False, "tty": False}
        options |= {"_preload_content": False} | ({} if container is None else {"container": container})
        connection = stream(call, pod, self.name, command=list(command), **options)
        try:
            connection.run_forever(timeout=seconds)
            assert not connection.is_open(), f"{command} does not end"
            return Done(connection.returncode, connection.read_all())
        finally:
            connection.sock.shutdown()  # its close() does nothing when the other side has closed first

    def get(self, service: str, port: int, path: str) -> str:
        """Ask a Service by HTTP, through the API server."""
        ask = self.core.connect_get_namespaced_service_proxy_with_path
        return str(ask(f"{service}:{port}", self.name, path, _preload_content=False).data.decode())

    def names(self, kind: str, selector: str = "") -> list[str]:
        """Names of all objects of a kind such as ``persistent_volume_claim``."""
        apps = client.AppsV1Api(self.core.api_client)
        list_all = getattr({"deployment": apps, "job": self.batch}.get(kind, self.core), f"list_namespaced_{kind}")
        return sorted(each.metadata.name for each in list_all(self.name, label_selector=selector).items)

    def kubeconfig(self, account: str, path: Path) -> Path:
        """Write the configuration of a client that has the rights of a service account and no others."""
        request = {"spec": {"expirationSeconds": 3600}}
        token = self.core.create_namespaced_service_account_token(account, self.name, request).status.token
        loaded = self.core.api_client.configuration
        cluster = {"server": loaded.host, "certificate-authority": loaded.ssl_ca_cert}
        if not loaded.verify_ssl:
            cluster = {"server": loaded.host, "insecure-skip-tls-verify": True}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def host_address(self) -> str:
        """Where pods reach this machine: its own end of the way to a node."""
        addresses = self.core.list_node().items[0].status.addresses
        node = next(each.address for each in addresses if each.type == "InternalIP" and "." in each.address)
        with socket.socket(type=socket.SOCK_DGRAM) as way:
            way.connect((node, 1))  # sends nothing
            return str(way.getsockname()[0])

    def objects(self) -> list[str]:
        """Names of everything that carries our labels."""
        return [f"{kind} {name}" for kind in ("job", "pod", "service") for name in self.names(kind, OURS)]

    def check_empty(self, seconds: float = GONE_S) -> None:
        """Check that nothing is left of any gang; what is left is removed, for the next test."""
        try:
            wait_for(lambda: not self.objects(), seconds)
        finally:
            self.sweep()

    def sweep(self) -> None:
        """Remove every gang."""
        for job in self.names("job", OURS):
            self.batch.delete_namespaced_job(job, self.name, propagation_policy="Background")
        wait_for(lambda: not self.objects())

    def pod(self, worker: int) -> Any:
        """The pod of a worker, once it runs."""

        def find() -> Any:
            pods = self.core.list_namespaced_pod(self.name, label_selector=f"{OURS},{INDEX_LABEL}={worker}").items
            return next((pod for pod in pods if pod.status.phase == "Running"), None)

        return wait_for(find)


def need_cluster() -> None:
    """Take the cluster that KUBECONFIG names; without one the tests are left out, and in CI they fail."""
    remedy = "left out: no cluster; set KUBECONFIG to the configuration of one, such as kind's or minikube's"
    try:
        config.load_kube_config()
    except config.ConfigException:
        pytest.fail(remedy, pytrace=False) if os.environ.get("CI") else pytest.skip(remedy)


def sick_nodes(image: str) -> dict[str, str]:
    """Nodes that do not run a pod to its end within a minute, and how far it came; none if all do."""
    config.load_kube_config()
    label, done = "toposieve-check", "Succeeded"
    spec = pod_spec(image, command=["true"]) | {"restartPolicy": "Never"}
    with client.ApiClient() as connection:
        core = client.CoreV1Api(connection)

        def unfinished() -> dict[str, str]:
            pods = core.list_namespaced_pod("default", label_selector=label).items
            return {pod.spec.node_name: pod.status.phase for pod in pods if pod.status.phase != done}

        try:
            for node in core.list_node().items:
                metadata = {"generateName": f"{label}-", "labels": {label: ""}}
                pod = {"metadata": metadata, "spec": spec | {"nodeName": node.metadata.name}}
                core.create_namespaced_pod("default", pod)
            with suppress(AssertionError):
                wait_for(lambda: not unfinished(), 60)
            return unfinished()
        except (ApiException, HTTPError) as error:
            return {"API server": str(error)}
        finally:
            with suppress(ApiException, HTTPError):
                core.delete_collection_namespaced_pod("default", label_selector=label, grace_period_seconds=0)
            connection.rest_client.pool_manager.clear()  # the client leaves its connections open


@contextmanager
def new_namespace(purpose: str) -> Iterator[Namespace]:
    """A namespace of the restricted Pod Security level, deleted with all that is in it when the block ends."""
    need_cluster()
    name = f"toposieve-{purpose}-{os.getpid()}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    with client.ApiClient() as connection:
        core = client.CoreV1Api(connection)
        core.create_namespace({"metadata": {"name": name, "labels": labels}})
        try:
            wait_for(lambda: core.list_namespaced_service_account(name).items)
            yield Namespace(name, core)
        finally:
            core.delete_namespace(name)
            connection.rest_client.pool_manager.clear()  # the client leaves its connections open


def admit(namespace: Namespace, waited_s: float = 0.0) -> None:
    """Let all gangs start that have waited for so long, as Kueue would; one may be gone before its turn."""
    for job in namespace.batch.list_namespaced_job(namespace.name, label_selector=OURS).items:
        if (datetime.now(UTC) - job.metadata.creation_timestamp).total_seconds() < waited_s:
            continue
        try:
            namespace.batch.patch_namespaced_job(job.metadata.name, namespace.name, {"spec": {"suspend": False}})
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise


@contextmanager
def admission(namespace: Namespace, waited_s: float = 0.0) -> Iterator[None]:
    """Let every gang start soon, or once it has waited for so long, while the block lasts."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.5):
            with suppress(ApiException, HTTPError):  # next time, then
                admit(namespace, waited_s)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
