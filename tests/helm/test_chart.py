"""The chart as Helm renders it."""

import helm_python
import pytest

from support.charts import CHART, EVERYTHING, NAMESPACE, NOTHING, RELEASE, find, render, render_files

VARIANTS = {"defaults": {}, "everything": EVERYTHING, "nothing": NOTHING}
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
    del files["NOTES.txt"]
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
    assert subjects == {f"{RELEASE}-{role}": [{**account, "name": f"{RELEASE}-{role}"}] for role in ("runner", "spark")}
    assert find(everything, "ServiceAccount", f"{RELEASE}-training")["automountServiceAccountToken"] is False


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
    objects = render({"storage": {"existingClaim": "ours"}})
    assert not [each for each in objects if each["kind"] == "PersistentVolumeClaim"]
    volumes = find(objects, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "base", "persistentVolumeClaim": {"claimName": "ours"}} in volumes


def test_event_logs_may_lie_in_an_object_store():
    objects = render({"historyServer": {"eventLogs": "s3a://bucket/logs"}})
    (container,) = find(objects, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["containers"]
    assert container["env"][0]["value"] == "-Dspark.history.fs.logDirectory=s3a://bucket/logs"
    assert "mkdir" not in container["args"][-1]


def test_the_profile_comes_through_unchanged(everything):
    assert find(everything, "ConfigMap", "toposieve-profile")["data"] == {"kubernetes.yaml": EVERYTHING["profile"]}


@pytest.mark.parametrize(
    ("values", "command"),
    [({}, "--set-file profile=dags/config/kubernetes.yaml"), (EVERYTHING, "--values helm/airflow-values.yaml")],
)
def test_the_notes_say_the_next_command(values, command):
    assert command in render_files(values)["NOTES.txt"]


def test_tensorboard_without_storage_is_refused():
    with pytest.raises(helm_python.HelmError, match=r"storage\.enabled=true or tensorboard\.enabled=false"):
        render({**NOTHING, "tensorboard": {"enabled": True}})
