"""The profile ``kubernetes``, the chart and the values for Airflow's chart name the same things."""

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from support.charts import AIRFLOW_VALUES, CHART, EVERYTHING, LAPTOP_VALUES, NAMESPACE, WITHOUT_VOLUME, find, render
from support.repository import REPOSITORY
from toposieve_airflow.profiles import Profile, parse_profile

CONFIG = REPOSITORY / "dags" / "config"
PROFILE = yaml.safe_load((CONFIG / "kubernetes.yaml").read_text())
KUBERNETES = PROFILE["kubernetes"]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
LAPTOP = yaml.safe_load(LAPTOP_VALUES.read_text())


@pytest.fixture(scope="module")
def chart():
    return render({})


def rendered(values: dict[str, Any]) -> dict[str, Any]:
    """The profile that Airflow's pods get."""
    (text,) = find(render(values), "ConfigMap", "toposieve-profile")["data"].values()
    profile: dict[str, Any] = yaml.safe_load(text)
    return profile


def checked(values: dict[str, Any]) -> Profile:
    return parse_profile(rendered(values), CHART / "kubernetes.yaml", REPOSITORY)


def test_the_chart_s_profile_is_the_repository_s():
    assert rendered({}) == PROFILE


def test_namespace_is_the_one_of_the_manuals():
    assert KUBERNETES["namespace"] == NAMESPACE


def test_accounts_are_those_of_the_chart(chart):
    conf = PROFILE["spark"]["conf"]
    assert find(chart, "Role", conf["spark.kubernetes.authenticate.driver.serviceAccountName"])
    executor = conf["spark.kubernetes.authenticate.executor.serviceAccountName"]
    for without_rights in (executor, KUBERNETES["gang"]["service_account"]):
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
    profile = checked(LAPTOP)
    assert profile.kubernetes.gang.requests == {"cpu": "500m", "memory": "1500Mi"}
    assert profile.spark.conf["spark.executor.instances"] == "1"


@pytest.mark.parametrize("name", ["airflow", "spark", "training"])
def test_images_are_called_what_the_build_calls_them(name):
    command = ["docker/build.sh", "--dry-run", "--engine", "docker", name]
    built = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    assert f" --tag {VALUES['images']['prefix']}{name}:{VALUES['images']['tag']} " in built


def test_the_queue_of_gangs_is_the_chart_s():
    assert KUBERNETES["gang"]["queue"] in (None, VALUES["kueue"]["localQueue"])


def test_the_connection_that_airflow_has_is_the_profile_s():
    environment = {each["name"]: each["value"] for each in yaml.safe_load(AIRFLOW_VALUES.read_text())["env"]}
    connection = json.loads(environment[f"AIRFLOW_CONN_{PROFILE['spark']['connection'].upper()}"])
    assert connection["host"] == PROFILE["spark"]["master"]


def test_spark_pods_have_the_security_context_of_the_chart_s_pods(chart):
    pod = yaml.safe_load((CONFIG / "spark-pod.yaml").read_text())["spec"]
    ours = find(chart, "Deployment", "toposieve-history")["spec"]["template"]["spec"]
    assert pod["securityContext"] == ours["securityContext"]
    assert pod["containers"][0]["securityContext"] == ours["containers"][0]["securityContext"]


def test_paths_of_the_profile_are_in_airflow_s_image():
    image = (REPOSITORY / "docker/airflow/Dockerfile").read_text()
    assert f"PYSPARK_PYTHON=/opt/toposieve/{PROFILE['python']} " in image.replace("\n", " ")
    assert f"SPARK_HOME=/opt/toposieve/{PROFILE['spark']['home']} " in image


def test_no_path_names_a_version_of_python():
    files = [*CONFIG.glob("*.yaml"), *(REPOSITORY / "docker").glob("*/Dockerfile")]
    assert len(files) > 5
    assert not [file for file in files if re.search(r"python3\.\d", file.read_text(encoding="utf-8"))]
