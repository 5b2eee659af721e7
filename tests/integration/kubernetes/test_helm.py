"""The chart's life on a real cluster: install, upgrade, refuse, uninstall, by Helm itself."""

import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml
from kubernetes import client

from support.charts import CHART, RELEASE, render
from support.cluster import Namespace, image, new_namespace, pod_spec
from support.releases import PATIENCE_S, helm_in, shared_folder, values_for

LABEL = f"app.kubernetes.io/instance={RELEASE}"
CHANGES = {
    "tensorboard": {"enabled": False},
    "quota": {"pods": "20", "requests.cpu": 4, "requests.memory": "8Gi"},
    "priorityClasses": {"training": {"value": 1000}},
    "profile": {"spark": {"conf": {"spark.executor.instances": "1"}}},
}


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with new_namespace("helm") as made:
        yield made


@pytest.fixture(scope="module")
def helm(namespace) -> Iterator[helm_python.Config]:
    with helm_in(namespace) as made:
        yield made


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return values_for(shared_folder(tmp_path_factory.mktemp("storage")))


@pytest.fixture(scope="module")
def release(namespace, helm, values):
    return helm.install(str(CHART), RELEASE, values, wait="watcher", timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def upgraded(helm, release, values):
    return helm.upgrade(str(CHART), RELEASE, {**values, **CHANGES}, wait="watcher", timeout=PATIENCE_S)


def test_installing_ends_with_pods_that_answer(namespace, release):
    assert release["status"] == "deployed"
    assert "port-forward service/toposieve-history" in release["notes"]
    assert ask(namespace, "history", 18080, "api/v1/applications") == []
    assert ask(namespace, "tensorboard", 6006, "data/logdir") == {"logdir": "/data/models"}
    assert namespace.names("persistent_volume_claim") == ["toposieve-base"]


def ask(namespace: Namespace, server: str, port: int, path: str) -> Any:
    """What a server's Service answers to its own pod: the network policy lets no other pod ask."""
    (pod,) = namespace.names("pod", f"{LABEL},app.kubernetes.io/component={server}")
    read = (
        f"from urllib.request import urlopen; print(urlopen('http://toposieve-{server}:{port}/{path}').read().decode())"
    )
    done = namespace.execute(pod, "python", "-c", read)
    assert done.code == 0, done.output
    return json.loads(done.output)


@pytest.mark.parametrize("role", ["scheduler", "runner", "spark", "training"])
def test_accounts_may_do_what_the_chart_says_and_no_more(namespace, release, role):
    rules = [
        rule for each in render({}) if each["metadata"]["name"] == f"{RELEASE}-{role}" for rule in each.get("rules", [])
    ]
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    resources = {
        ("", "secrets"),
        ("", "pods/exec"),
        ("apps", "deployments"),
        *((group, resource) for group, resource, _ in granted),
    }
    verbs = ("create", "get", "list", "watch", "patch", "update", "delete", "deletecollection")
    allowed = {(*each, verb) for each in resources for verb in verbs if is_allowed(namespace, role, *each, verb)}
    assert allowed == granted
    assert bool(granted) == (role != "training")


def is_allowed(namespace: Namespace, role: str, group: str, resource: str, verb: str) -> bool:
    resource, _, part = resource.partition("/")
    asked = {"namespace": namespace.name, "group": group, "resource": resource, "subresource": part, "verb": verb}
    user = f"system:serviceaccount:{namespace.name}:{RELEASE}-{role}"
    review = {"spec": {"user": user, "resourceAttributes": asked}}
    api = client.AuthorizationV1Api(namespace.core.api_client)
    return api.create_subject_access_review(review).status.allowed


def test_upgrading_adds_and_removes(namespace, upgraded):
    assert upgraded["revision"] == 2
    assert namespace.names("deployment") == ["toposieve-history"]
    assert namespace.names("resource_quota") == ["toposieve"]
    files = namespace.core.read_namespaced_config_map("toposieve-profile", namespace.name).data
    profile = yaml.safe_load(files["kubernetes.yaml"])
    assert profile["kubernetes"]["namespace"] == namespace.name
    assert profile["spark"]["conf"]["spark.executor.instances"] == "1"
    scheduling = client.SchedulingV1Api(namespace.core.api_client)
    assert scheduling.read_priority_class(f"{namespace.name}-toposieve-training").preemption_policy == "Never"


def test_a_quota_takes_pods_that_ask_for_nothing(namespace, upgraded):
    namespace.start("idle", image("spark"))
    namespace.wait_until_running("idle")
    (container,) = namespace.core.read_namespaced_pod("idle", namespace.name).spec.containers
    assert container.resources.requests == {"cpu": "100m", "memory": "512Mi"}
    namespace.core.delete_namespaced_pod("idle", namespace.name)


def test_wrong_values_change_nothing(helm, upgraded, values):
    with pytest.raises(helm_python.HelmError, match="storge"):
        helm.upgrade(str(CHART), RELEASE, {**values, "storge": {}})
    assert helm.status(RELEASE)["revision"] == upgraded["revision"]


def test_storage_that_was_made_stays_as_it_is(namespace, helm, upgraded, values):
    with pytest.raises(helm_python.HelmError, match="resize"):
        helm.upgrade(str(CHART), RELEASE, {**values, **CHANGES, "storage": {**values["storage"], "size": "2Gi"}})
    assert namespace.names("persistent_volume_claim") == ["toposieve-base"]


def test_uninstalling_leaves_nothing(namespace, helm, upgraded):
    helm.uninstall(RELEASE, wait="watcher", timeout=PATIENCE_S)
    for kind in ("deployment", "service", "service_account", "config_map", "resource_quota", "persistent_volume_claim"):
        assert namespace.names(kind, LABEL) == []
    rights = client.RbacAuthorizationV1Api(namespace.core.api_client)
    assert rights.list_namespaced_role(namespace.name).items == []
    assert (
        namespace.core.list_persistent_volume(
            label_selector=LABEL, field_selector=f"metadata.name={namespace.name}-toposieve-base"
        ).items
        == []
    )


def test_the_data_outlives_its_release(namespace, helm, values):
    keeping = {**values, "storage": {**values["storage"], "keep": True}}
    servers = {"historyServer": {"enabled": False}, "tensorboard": {"enabled": False}}
    helm.install(str(CHART), "second", {**keeping, **servers})
    mount(namespace, "writer", "echo kept > /data/file")
    helm.uninstall("second")
    helm.install(str(CHART), "second", {**keeping, **servers})
    assert mount(namespace, "reader", "cat /data/file") == "kept\n"
    helm.uninstall("second")
    namespace.core.delete_persistent_volume(f"{namespace.name}-second-base")


def mount(namespace: Namespace, pod: str, command: str) -> str:
    """What a command prints in a pod that sees the data of the second release."""
    namespace.start(pod, image("spark"), **pod_spec(image("spark"), "second-base", args=["sleep", "1200"]))
    namespace.wait_until_running(pod)
    done = namespace.execute(pod, "sh", "-c", command)
    assert done.code == 0, done.output
    return done.output
