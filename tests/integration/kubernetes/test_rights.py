"""The rights that the operator needs, no more and no less: without any one of them the task fails and names it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException
from kubernetes import client

from .conftest import Namespace, Run

RIGHTS = {
    ("batch", "jobs"): ["create", "list", "watch", "delete"],
    ("", "services"): ["create"],
    ("", "pods"): ["list", "watch", "delete"],
    ("", "pods/log"): ["get"],
    ("", "events"): ["list", "watch"],
}
# Only a pod that its node no longer ends is deleted by force.
NEEDED = [
    (group, kind, verb)
    for (group, kind), verbs in RIGHTS.items()
    for verb in verbs
    if (kind, verb) != ("pods", "delete")
]


@pytest.fixture
def account(namespace: Namespace, tmp_path: Path) -> Callable[..., str]:
    """A kubeconfig of a service account that has all rights but one."""

    def make(missing: tuple[str, str, str] | None = None) -> str:
        name = "worker-without-" + ("-".join(missing[1:]).replace("/", "-") if missing else "nothing")
        rules = [
            {"apiGroups": [group], "resources": [kind], "verbs": [verb]}
            for (group, kind), verbs in RIGHTS.items()
            for verb in verbs
            if (group, kind, verb) != missing
        ]
        meta = {"metadata": {"name": name}}
        rights = client.RbacAuthorizationV1Api(namespace.core.api_client)
        namespace.core.create_namespaced_service_account(namespace.name, meta)
        rights.create_namespaced_role(namespace.name, {**meta, "rules": rules})
        binding = {
            **meta,
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}],
            "roleRef": {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
        }
        rights.create_namespaced_role_binding(namespace.name, binding)
        request = {"spec": {"expirationSeconds": 3600}}
        token = namespace.core.create_namespaced_service_account_token(name, namespace.name, request).status.token
        return str(kubeconfig(namespace.core.api_client.configuration, token, tmp_path / "kubeconfig"))

    return make


def kubeconfig(loaded: client.Configuration, token: str, path: Path) -> Path:
    """The same cluster with a token in place of the user."""
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
    path.write_text(yaml.safe_dump(content))
    return path


def test_these_rights_are_enough(make_run, account: Callable[..., str]) -> None:
    run: Run = make_run("print('up')", config_file=account()).start().finish()
    assert run.error is None
    assert run.worker_lines(1) == ["up"]


@pytest.mark.parametrize("missing", NEEDED, ids=lambda missing: f"{missing[2]}-{missing[1]}")
def test_without_one_of_them_the_task_fails_and_names_it(
    make_run, account: Callable[..., str], missing: tuple[str, str, str], namespace: Namespace
) -> None:
    run: Run = make_run("import time; time.sleep(2)", config_file=account(missing)).start().finish()
    _, kind, verb = missing
    assert isinstance(run.error, AirflowFailException)
    resource = "pods/log" if kind == "pods/log" else kind
    assert f"lacks a right: the verb {verb} on {resource}" in str(run.error)
    namespace.sweep()  # without the right to delete or to look, something is left
