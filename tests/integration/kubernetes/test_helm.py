"""The chart's life on a real cluster: install, upgrade, refuse, uninstall, by Helm itself."""

import json
from collections.abc import Iterator

import helm_python
import pytest
from kubernetes import client

from support.charts import CHART, RELEASE, render
from support.cluster import Namespace, new_namespace
from support.releases import PATIENCE_S, helm_in, shared_folder, values_for

LABEL = f"app.kubernetes.io/instance={RELEASE}"
PROFILE = "operators: kubernetes\nbase: /data\n"


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
    changes = {"tensorboard": {"enabled": False}, "quota": {"pods": "20"}, "profile": PROFILE}
    return helm.upgrade(str(CHART), RELEASE, {**values, **changes}, wait="watcher", timeout=PATIENCE_S)


def test_installing_ends_with_pods_that_answer(namespace, release):
    assert release["status"] == "deployed"
    assert "port-forward service/toposieve-history" in release["notes"]
    assert json.loads(namespace.get("toposieve-history", 18080, "api/v1/applications")) == []
    assert json.loads(namespace.get("toposieve-tensorboard", 6006, "data/logdir")) == {"logdir": "/data/models"}
    assert namespace.names("persistent_volume_claim") == ["toposieve-base"]


@pytest.mark.parametrize("role", ["runner", "spark", "training"])
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
    profile = namespace.core.read_namespaced_config_map("toposieve-profile", namespace.name)
    assert profile.data == {"kubernetes.yaml": PROFILE}


def test_wrong_values_change_nothing(helm, upgraded, values):
    with pytest.raises(helm_python.HelmError, match="storge"):
        helm.upgrade(str(CHART), RELEASE, {**values, "storge": {}})
    assert helm.status(RELEASE)["revision"] == upgraded["revision"]


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


def test_uninstalling_keeps_the_data_by_default(namespace, helm, values):
    keeping = {**values, "storage": {**values["storage"], "keep": True}}
    servers = {"historyServer": {"enabled": False}, "tensorboard": {"enabled": False}}
    helm.install(str(CHART), "second", {**keeping, **servers})
    helm.uninstall("second")
    assert namespace.names("persistent_volume_claim") == ["second-base"]
    namespace.core.delete_persistent_volume(f"{namespace.name}-second-base")
