"""The profile ``kubernetes``, the chart and the values for Airflow's chart name the same things."""

import json

import pytest
import yaml

from support.charts import AIRFLOW_VALUES, CHART, NAMESPACE, find, render
from support.repository import REPOSITORY

CONFIG = REPOSITORY / "dags" / "config"
PROFILE = yaml.safe_load((CONFIG / "kubernetes.yaml").read_text())
KUBERNETES, CONF = PROFILE["kubernetes"], PROFILE["spark"]["conf"]
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.fixture(scope="module")
def chart():
    return render({})


def test_namespace_is_the_one_of_the_manuals():
    assert KUBERNETES["namespace"] == NAMESPACE


def test_accounts_are_those_of_the_chart(chart):
    driver = CONF["spark.kubernetes.authenticate.driver.serviceAccountName"]
    assert find(chart, "Role", driver)
    worker = find(chart, "ServiceAccount", KUBERNETES["gang"]["service_account"])
    assert worker["automountServiceAccountToken"] is False


def test_data_and_event_logs_are_where_the_chart_has_them(chart):
    assert find(chart, "PersistentVolumeClaim", KUBERNETES["claim"])
    assert PROFILE["base"] == VALUES["storage"]["mountPath"]
    (history,) = find(chart, "Deployment", "toposieve-history")["spec"]["template"]["spec"]["containers"]
    assert history["env"][0]["value"].endswith(f"={CONF['spark.eventLog.dir']}")


@pytest.mark.parametrize("name", ["spark", "training"])
def test_images_are_those_of_the_chart(name):
    image = VALUES["images"][name]
    assert KUBERNETES["images"][name] == f"{image['repository']}:{image['tag']}"
    assert f'image.title="{image["repository"]}"' in (REPOSITORY / f"docker/{name}/Dockerfile").read_text()


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
