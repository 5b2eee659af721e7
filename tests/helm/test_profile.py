"""The profile ``kubernetes``, the chart and the values for Airflow's chart name the same things."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from support.charts import AIRFLOW_VALUES, CHART, EVERYTHING, LAPTOP_VALUES, NAMESPACE, WITHOUT_VOLUME, find, render
from support.repository import REPOSITORY
from toposieve_airflow.profile import Profile, parse_profile

CONFIG = REPOSITORY / "dags" / "config"
PROFILE = yaml.safe_load((CONFIG / "kubernetes.yaml").read_text())
KUBERNETES = PROFILE["kubernetes"]
IN_IMAGE = "/opt/toposieve"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
LAPTOP = yaml.safe_load(LAPTOP_VALUES.read_text())


@pytest.fixture(scope="module")
def chart():
    return render({})


def rendered(values: dict[str, Any]) -> dict[str, Any]:
    """The files that Airflow's pods get, by name: the profile, and what pods are made from."""
    files = find(render(values), "ConfigMap", "toposieve-profile")["data"]
    return {name: yaml.safe_load(text) for name, text in files.items()}


def worker_of(pod: dict[str, Any]) -> dict[str, Any]:
    """The container that trains."""
    container: dict[str, Any] = pod["spec"]["containers"][0]
    return container


def checked(values: dict[str, Any]) -> Profile:
    return parse_profile(rendered(values)["kubernetes.yaml"], CHART / "kubernetes.yaml", REPOSITORY)


def test_the_chart_s_profile_is_the_repository_s():
    pods = {file: yaml.safe_load((CONFIG / file).read_text()) for file in ("gang-pod.yaml", "spark-pod.yaml")}
    files = rendered({})
    assert files.keys() == {"kubernetes.yaml", "task-pod.yaml", "pools.json", *pods}
    assert {file: files[file] for file in pods} == pods
    paths = {key: f"{IN_IMAGE}/{PROFILE[key]}" for key in ("jobs", "python")}
    spark = {key: f"{IN_IMAGE}/{PROFILE['spark'][key]}" for key in ("submit", "home")}
    assert files["kubernetes.yaml"] == {**PROFILE, **paths, "spark": {**PROFILE["spark"], **spark}}


def test_wherever_the_dags_come_from_the_jobs_are_those_of_the_image(tmp_path):
    profile = parse_profile(rendered({})["kubernetes.yaml"], tmp_path / "kubernetes.yaml", tmp_path)
    for path in (profile.jobs, profile.python, profile.spark.submit, profile.spark.home):
        assert path.is_relative_to(IN_IMAGE)


def test_namespace_is_the_one_of_the_manuals():
    assert KUBERNETES["namespace"] == NAMESPACE


def test_accounts_are_those_of_the_chart(chart):
    conf = PROFILE["spark"]["conf"]
    assert find(chart, "Role", conf["spark.kubernetes.authenticate.driver.serviceAccountName"])
    executor = conf["spark.kubernetes.authenticate.executor.serviceAccountName"]
    for without_rights in (executor, rendered({})["gang-pod.yaml"]["spec"]["serviceAccountName"]):
        assert find(chart, "ServiceAccount", without_rights)["automountServiceAccountToken"] is False


def test_the_profile_has_the_storage_of_the_chart():
    profile = checked({"storage": {"mountPath": "/physics", "existingClaim": "ours"}})
    assert (str(profile.base), profile.kubernetes.claim) == ("/physics", "ours")
    assert profile.spark.conf["spark.eventLog.dir"] == "file:/physics/spark-events"


def test_the_profile_has_the_store_of_the_chart_and_the_secret_s_name():
    profile = checked(WITHOUT_VOLUME)
    assert profile.places() == {key: WITHOUT_VOLUME["storage"][name] for key, name in (("base", "url"), ("raw", "raw"))}
    assert profile.kubernetes.claim is None
    assert profile.kubernetes.secret.model_dump() == {
        "name": "toposieve-store",
        "variables": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    }
    assert profile.spark.conf["spark.eventLog.enabled"] == "false"
    assert "spark.eventLog.dir" not in profile.spark.conf


def test_without_a_secret_pods_ask_in_their_own_role():
    storage = {"kind": "hdfs", "url": "hdfs://namenode:8020/toposieve"}
    profile = checked(WITHOUT_VOLUME | {"storage": storage})
    assert (profile.kubernetes.secret, profile.raw) == (None, None)


def test_event_logs_are_where_the_history_server_looks_for_them(chart):
    (history,) = find(chart, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["containers"]
    assert f"logDirectory={PROFILE['spark']['conf']['spark.eventLog.dir']} " in history["env"][0]["value"]
    assert checked({"historyServer": {"enabled": False}}).spark.conf["spark.eventLog.enabled"] == "false"


def test_changes_of_whoever_installs_it_win():
    profile = checked(EVERYTHING)
    assert profile.spark.conf["spark.executor.instances"] == "8"
    assert profile.spark.conf["spark.executor.cores"] == PROFILE["spark"]["conf"]["spark.executor.cores"]
    assert profile.kubernetes.images.spark == "registry.example.org/toposieve-spark:7"
    assert profile.kubernetes.images.training == "registry.example.org/toposieve-training-gpu:7"


def test_the_profile_of_a_laptop_is_small():
    assert checked(LAPTOP).spark.conf["spark.executor.instances"] == "1"
    container = worker_of(rendered(LAPTOP)["gang-pod.yaml"])
    assert container["resources"]["requests"] == {"cpu": "500m", "memory": "1500Mi"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("name", ["airflow", "spark", "training"])
def test_images_are_called_what_the_build_calls_them(name):
    command = ["docker/build.sh", "--dry-run", "--engine", "docker", name]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    assert f" --tag {VALUES['images']['prefix']}{name}:{VALUES['images']['tag']} " in built


def test_changes_of_pods_are_merged_as_kubectl_merges_them():
    base = {"name": "base", "env": [{"name": "HOME", "value": "/a"}, {"name": "B", "value": "b"}]}
    base |= {"volumeMounts": [{"name": "scratch", "mountPath": "/more"}]}
    gang = {"securityContext": {"runAsUser": None}, "tolerations": [{"operator": "Exists"}]}
    gang |= {"containers": [{"name": "side"}, base], "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}]}
    before, after = (rendered({"pods": {"gang": {"spec": spec}}})["gang-pod.yaml"]["spec"] for spec in ({}, gang))
    before["securityContext"].pop("runAsUser")
    assert after["securityContext"] == before["securityContext"]
    assert after["tolerations"] == [{"operator": "Exists"}]
    assert after["volumes"] == [*before["volumes"], gang["volumes"][0]]
    worker, side = after["containers"]
    assert side == {"name": "side"}
    assert worker["env"] == [base["env"][0], before["containers"][0]["env"][1], base["env"][1]]
    assert [mount["mountPath"] for mount in worker["volumeMounts"]] == ["/tmp", "/more"]
    assert worker["resources"] == before["containers"][0]["resources"]


def test_the_evaluation_is_as_a_gang_but_for_its_own_changes():
    def with_gpus(count):
        return {"spec": {"containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": count}}}]}}

    files = rendered({"pods": {"gang": with_gpus(1), "evaluation": with_gpus(None)}})
    assert files["kubernetes.yaml"]["kubernetes"]["pods"]["evaluation"] == "evaluation-pod.yaml"
    assert worker_of(files["gang-pod.yaml"])["resources"]["limits"].pop("nvidia.com/gpu") == 1
    assert worker_of(files["evaluation-pod.yaml"])["resources"]["limits"] == {"cpu": "4", "memory": "8Gi"}


def test_gangs_are_in_the_queue_that_the_chart_makes():
    labels = rendered(EVERYTHING)["gang-pod.yaml"]["metadata"]["labels"]
    (queue,) = [each for each in render(EVERYTHING) if each["kind"] == "LocalQueue"]
    assert labels == {"kueue.x-k8s.io/queue-name": queue["metadata"]["name"]}


def test_the_connection_that_airflow_has_is_the_profile_s():
    environment = {each["name"]: each["value"] for each in yaml.safe_load(AIRFLOW_VALUES.read_text())["env"]}
    connection = json.loads(environment[f"AIRFLOW_CONN_{PROFILE['spark']['connection'].upper()}"])
    assert connection["host"] == PROFILE["spark"]["master"]


def test_the_chart_s_own_pods_have_the_security_contexts_of_spark_s():
    pod = {"securityContext": {"runAsUser": None}, "containers": [{"name": "spark", "securityContext": {"a": "b"}}]}
    values = {"pods": {"spark": {"spec": pod}}}
    spark = rendered(values)["spark-pod.yaml"]["spec"]
    ours = find(render(values), "Deployment", "toposieve-history")["spec"]["template"]["spec"]
    assert "runAsUser" not in ours["securityContext"]
    assert ours["securityContext"] == spark["securityContext"]
    assert ours["containers"][0]["securityContext"] == spark["containers"][0]["securityContext"]


def test_paths_of_the_profile_are_in_airflow_s_image():
    image = (REPOSITORY / "docker/airflow/Dockerfile").read_text()
    assert f"PYSPARK_PYTHON={IN_IMAGE}/{PROFILE['python']} " in image.replace("\n", " ")
    assert f"SPARK_HOME={IN_IMAGE}/{PROFILE['spark']['home']} " in image


def test_no_path_names_a_version_of_python():
    files = [*CONFIG.glob("*.yaml"), *(REPOSITORY / "docker").glob("*/Dockerfile")]
    assert len(files) > 5
    assert not [file for file in files if re.search(r"python3\.\d", file.read_text(encoding="utf-8"))]
