"""The chart as Helm renders it."""

from pathlib import Path

import helm_python
import pytest
import yaml

from support.charts import (
    CHART,
    EVERYTHING,
    KIND,
    LAPTOP_VALUES,
    NAMESPACE,
    NOTHING,
    RELEASE,
    WITHOUT_VOLUME,
    find,
    render,
    render_files,
)
from toposieve_airflow.kubernetes.api.ownership import MANAGED_BY

TWO_NAMESPACES = NOTHING | {"airflow": {"namespace": "airflow"}, "storage": {"hostPath": "/srv/toposieve"}}
VARIANTS = {
    "defaults": {},
    "everything": EVERYTHING,
    "nothing": NOTHING,
    "two_namespaces": TWO_NAMESPACES,
    "without_volume": WITHOUT_VOLUME,
}
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "Pod")


@pytest.fixture(scope="module")
def everything():
    return render(EVERYTHING)


def test_helm_lint_finds_nothing_but_the_missing_icon():
    report = helm_python.lint(str(CHART))
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_rendered_text(variant, check_golden):
    files = render_files(VARIANTS[variant])
    del files["NOTES.txt"], files["profile.yaml"]  # which test_profile.py compares with the repository's
    parts = [f"# --- {name}\n{text.strip()}\n" for name, text in files.items() if text.strip()]
    check_golden(f"helm/{variant}.yaml", "".join(parts))


def test_every_pod_meets_the_restricted_level(everything):
    workloads = [each for each in everything if each["kind"] in WORKLOADS]
    assert {each["metadata"]["name"] for each in workloads} == {"toposieve-history", "toposieve-tensorboard"}
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_a_service_finds_its_pods(everything):
    for name in ("toposieve-history", "toposieve-tensorboard"):
        labels = find(everything, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        selector = find(everything, "Service", name)["spec"]["selector"]
        assert selector.items() <= labels.items()


def test_rights_are_named_and_stay_in_the_namespace(everything):
    assert not [each for each in everything if each["kind"].startswith("Cluster")]
    for role in (each for each in everything if each["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"]


def test_each_role_is_bound_to_its_account_and_training_has_none(everything):
    bindings = [each for each in everything if each["kind"] == "RoleBinding"]
    subjects = {each["roleRef"]["name"]: each["subjects"] for each in bindings}
    account = {"kind": "ServiceAccount", "namespace": NAMESPACE}
    assert subjects == {
        f"{RELEASE}-{role}": [{**account, "name": f"{RELEASE}-{role}"}] for role in ("scheduler", "runner", "spark")
    }
    assert find(everything, "ServiceAccount", f"{RELEASE}-training")["automountServiceAccountToken"] is False


def test_airflow_in_a_namespace_of_its_own_may_start_jobs_and_no_job_can_be_where_its_secrets_are():
    objects = render(TWO_NAMESPACES)

    def places(kind):
        return {
            each["metadata"]["name"]: each["metadata"].get("namespace", NAMESPACE)
            for each in objects
            if each["kind"] == kind
        }

    accounts = places("ServiceAccount")
    assert accounts == {f"{RELEASE}-{role}": "airflow" for role in ("scheduler", "runner")} | {
        f"{RELEASE}-{role}": NAMESPACE for role in ("spark", "training")
    }
    assert places("ConfigMap") == {f"{RELEASE}-profile": "airflow"}
    assert places("Role") == {
        f"{RELEASE}-scheduler": "airflow",
        f"{RELEASE}-runner": NAMESPACE,
        f"{RELEASE}-spark": NAMESPACE,
    }
    assert places("RoleBinding") == places("Role")
    for binding in (each for each in objects if each["kind"] == "RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject["namespace"] == accounts[subject["name"]]
    profile = yaml.safe_load(find(objects, "ConfigMap", f"{RELEASE}-profile")["data"]["kubernetes.yaml"])
    assert profile["kubernetes"]["namespace"] == NAMESPACE


def test_two_namespaces_have_a_claim_each_on_the_same_directory():
    objects = render(TWO_NAMESPACES)
    claims = [
        each for each in objects if each["kind"] == "PersistentVolumeClaim" and "base" in each["metadata"]["name"]
    ]
    assert {each["metadata"]["namespace"] for each in claims} == {NAMESPACE, "airflow"}
    for claim in claims:
        volume = find(objects, "PersistentVolume", claim["spec"]["volumeName"])
        assert volume["spec"]["claimRef"]["namespace"] == claim["metadata"]["namespace"]
        assert volume["spec"]["hostPath"]["path"] == "/srv/toposieve"
    provided = TWO_NAMESPACES | {"storage": {"storageClassName": "nfs"}}
    claims = [each for each in render(provided) if each["metadata"]["name"] == f"{RELEASE}-base"]
    assert [each["metadata"]["namespace"] for each in claims] == [NAMESPACE]
    assert "make a claim toposieve-base in namespace airflow" in render_files(provided)["NOTES.txt"]
    assert "make a claim" not in render_files(TWO_NAMESPACES)["NOTES.txt"]


def test_a_driver_hears_executors_alone():
    policy = find(render({}), "NetworkPolicy", "toposieve-spark")["spec"]
    assert policy["podSelector"]["matchLabels"] == {**MANAGED_BY, "spark-role": "driver"}
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": {**MANAGED_BY, "spark-role": "executor"}}}]}]


def test_workers_of_gangs_reach_each_other_and_nobody_else_unasked():
    policy = find(render({}), "NetworkPolicy", "toposieve-training")["spec"]
    gangs = {"matchExpressions": [{"key": "toposieve/gang", "operator": "Exists"}]}
    assert policy["podSelector"] == gangs
    assert policy["ingress"] == [{"from": [{"podSelector": gangs}]}]
    peers, dns = policy["egress"]
    assert peers == {"to": [{"podSelector": gangs}]}
    assert {port["port"] for port in dns["ports"]} == {53}


def test_uninstalling_keeps_the_data_unless_told_otherwise():
    for keep in (True, False):
        claim = find(render({"storage": {"keep": keep}}), "PersistentVolumeClaim", "toposieve-base")
        assert claim["metadata"].get("annotations", {}) == ({"helm.sh/resource-policy": "keep"} if keep else {})


def test_a_claim_that_is_there_already_is_used_and_none_made():
    objects = render({"storage": {"existingClaim": "ours"}, "airflow": {"logs": {"existingClaim": "logs"}}})
    assert not [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    assert "claimName: logs" in find(objects, "ConfigMap", "toposieve-profile")["data"]["task-pod.yaml"]
    volumes = find(objects, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "base", "persistentVolumeClaim": {"claimName": "ours"}} in volumes


def with_storage(**storage):
    return WITHOUT_VOLUME | {"storage": WITHOUT_VOLUME["storage"] | storage}


def test_without_a_claim_no_volume_is_made_or_mounted():
    text = "".join(render_files(WITHOUT_VOLUME | {"airflow": {"logs": {"enabled": False}}}).values())
    assert "kind: PersistentVolume" not in text
    assert "claimName" not in text
    assert "s3://lhc/toposieve" in render_files(WITHOUT_VOLUME)["NOTES.txt"]


@pytest.mark.parametrize(("server", "reads"), [("historyServer", "event logs"), ("tensorboard", "models/")])
@pytest.mark.parametrize("kind", ["s3", "hdfs"])
def test_servers_that_read_a_volume_are_refused_without_one(server, reads, kind):
    values = with_storage(kind=kind, url=f"{kind}://lhc/toposieve") | {server: {"enabled": True}}
    with pytest.raises(
        helm_python.HelmError, match=rf"{server}\.enabled: it reads {reads} .*set {server}.enabled=false"
    ):
        render(values)


@pytest.mark.parametrize(
    ("kind", "given", "ports"), [("s3", [], [443]), ("hdfs", [], [8020, 9866]), ("s3", [9000], [9000])]
)
def test_workers_reach_the_store_where_there_is_no_volume(kind, given, ports):
    values = with_storage(kind=kind, url=f"{kind}://lhc/toposieve") | {"networkPolicy": {"storePorts": given}}
    _, _, store = find(render(values), "NetworkPolicy", "toposieve-training")["spec"]["egress"]
    assert store == {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}


def test_no_pod_reaches_the_servers_that_ask_for_no_password(everything):
    policy = find(everything, "NetworkPolicy", "toposieve-servers")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy
    (expression,) = policy["podSelector"]["matchExpressions"]
    for name in ("toposieve-history", "toposieve-tensorboard"):
        labels = find(everything, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert labels[expression["key"]] in expression["values"]


def test_with_a_quota_every_container_asks_for_something():
    objects = render({"quota": {"requests.cpu": 4}})
    (limit,) = find(objects, "LimitRange", RELEASE)["spec"]["limits"]
    assert limit["defaultRequest"].keys() == {"cpu", "memory"}
    assert not [each for each in render({}) if each["kind"] == "LimitRange"]


def test_the_history_server_forgets_and_has_the_heap_that_it_was_given():
    objects = render({"historyServer": {"heap": "2g", "keepFor": "7d"}})
    (container,) = find(objects, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["SPARK_DAEMON_MEMORY"] == "2g"
    assert "cleaner.enabled=true -Dspark.history.fs.cleaner.maxAge=7d" in environment["SPARK_HISTORY_OPTS"]


def test_two_namespaces_may_have_the_same_priority_class(everything):
    priority = find(everything, "PriorityClass", f"{NAMESPACE}-{RELEASE}-training")
    assert priority["preemptionPolicy"] == "Never"


def test_a_directory_of_the_machine_has_to_be_there(everything):
    volume = find(everything, "PersistentVolume", f"{NAMESPACE}-{RELEASE}-base")
    assert volume["spec"]["hostPath"] == {"path": "/srv/toposieve", "type": "Directory"}


def test_kind_s_node_sees_the_directory_of_the_laptop_s_values():
    (node,) = yaml.safe_load(KIND.read_text())["nodes"]
    paths = {path for mount in node["extraMounts"] for path in mount.values()}
    laptop = yaml.safe_load(LAPTOP_VALUES.read_text())
    assert paths == {laptop["storage"]["hostPath"]}
    assert Path(laptop["airflow"]["logs"]["hostPath"]).parent == Path(*paths)


def test_the_notes_install_airflow_s_image_of_the_same_build():
    notes = render_files(EVERYTHING)["NOTES.txt"]
    assert "--values helm/airflow-values.yaml" in notes
    assert "Repository=registry.example.org/toposieve-airflow --set-string defaultAirflowTag=7" in notes
    assert "create secret generic airflow-users" in notes
