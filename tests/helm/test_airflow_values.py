"""The values for the official Airflow chart name what our chart and our images provide."""

import asyncio
import re
import shlex
import socket
from pathlib import Path

import pytest
import yaml

import support.airflow_environment  # noqa: F401  makes the settings that airflow reads when it is imported
from support.charts import (
    AIRFLOW_VALUES,
    AIRFLOW_WITHOUT_VOLUME,
    CHART,
    EVERYTHING,
    WITHOUT_VOLUME,
    find,
    render,
    render_files,
)
from support.repository import REPOSITORY
from toposieve_airflow.profile import SECRET_FOLDER

VALUES = yaml.safe_load(AIRFLOW_VALUES.read_text())
CHART_VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
WITHOUT = yaml.safe_load(AIRFLOW_WITHOUT_VOLUME.read_text())
COMPONENTS = ("workers", "triggerer", "scheduler", "dagProcessor", "apiServer")
IMAGE = (REPOSITORY / "docker/airflow/Dockerfile").read_text()


@pytest.fixture(scope="module")
def ours():
    return render(EVERYTHING)


def volume(name):
    (found,) = [each for each in VALUES["volumes"] if each["name"] == name]
    return found


def mount(name, section="workers"):
    (found,) = [each for each in VALUES["volumeMounts"] + VALUES[section]["extraVolumeMounts"] if each["name"] == name]
    return found


def mount_path(name):
    return mount(name)["mountPath"]


@pytest.mark.parametrize("section", [VALUES["scheduler"], VALUES["workers"]["kubernetes"], VALUES["triggerer"]])
def test_accounts_are_those_that_our_chart_makes(ours, section):
    account = section["serviceAccount"]
    assert account["create"] is False
    assert find(ours, "ServiceAccount", account["name"])
    assert find(ours, "RoleBinding", account["name"])
    assert VALUES["allowPodLaunching"] is False  # else that chart binds a role of its own to these accounts


def test_the_data_is_where_our_chart_puts_it(ours):
    claim = volume("base")["persistentVolumeClaim"]["claimName"]
    assert find(ours, "PersistentVolumeClaim", claim)
    for component in COMPONENTS:
        assert mount("base", component)["mountPath"] == CHART_VALUES["storage"]["mountPath"]
        assert mount("base", component).get("readOnly", False) == (component == "apiServer")


def test_logs_outlive_their_pods():
    assert Path(VALUES["config"]["logging"]["base_log_folder"]).parent == Path(mount_path("base"))


def test_the_profile_is_the_one_of_our_config_map(ours):
    files = find(ours, "ConfigMap", volume("profile")["configMap"]["name"])["data"]
    (variable,) = [each for each in VALUES["env"] if each["name"] == "TOPOSIEVE_PROFILE"]
    path = Path(variable["value"])
    assert str(path.parent) == mount_path("profile")
    profile = yaml.safe_load(files[path.name])
    assert set(profile["kubernetes"]["pods"].values()) == files.keys() - {path.name}


def test_the_spark_connection_is_one_that_the_hook_reads(monkeypatch):
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    (variable,) = [each for each in VALUES["env"] if each["name"].startswith("AIRFLOW_CONN_")]
    monkeypatch.setenv(variable["name"], variable["value"])
    connection = SparkSubmitHook(conn_id=variable["name"].removeprefix("AIRFLOW_CONN_").lower())._connection
    assert connection["master"] == "k8s://https://kubernetes.default.svc"
    assert connection["deploy_mode"] == "cluster"


def test_security_contexts_are_those_of_our_chart(ours):
    pod = find(ours, "Deployment", "toposieve-history")["spec"]["template"]["spec"]
    assert VALUES["securityContexts"]["pod"] == pod["securityContext"]
    assert VALUES["securityContexts"]["containers"] == pod["containers"][0]["securityContext"]
    assert (VALUES["uid"], VALUES["gid"]) == (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"])
    assert mount_path("scratch") == "/tmp"  # all that may be written, with a read-only root


def test_the_image_is_ours_and_of_the_locked_version():
    images = CHART_VALUES["images"]
    assert VALUES["defaultAirflowRepository"] == f"{images['prefix']}airflow"
    assert VALUES["defaultAirflowTag"] == images["tag"]
    requirements = (REPOSITORY / "requirements/airflow-image.txt").read_text()
    locked = re.search(r"^apache-airflow==(\S+)", requirements, re.MULTILINE)
    assert locked is not None
    assert VALUES["airflowVersion"] == locked[1]


def test_dags_come_from_the_image():
    assert f"AIRFLOW__CORE__DAGS_FOLDER={VALUES['config']['core']['dags_folder']}" in IMAGE


def test_the_users_are_where_airflow_looks_for_them():
    assert VALUES["config"]["core"]["simple_auth_manager_passwords_file"] == "/tmp/passwords.json"
    place = mount("users", "apiServer")["mountPath"]
    assert f"cp {place}/passwords.json /tmp/" in VALUES["apiServer"]["args"][-1]


def test_the_api_server_listens_on_both_families():
    *_, option, host = shlex.split(VALUES["apiServer"]["args"][-1])

    async def families():  # as Airflow's server listens
        async with await asyncio.get_running_loop().create_server(asyncio.Protocol, host, 0) as server:
            return {each.family for each in server.sockets}

    assert option == "--host"
    there = {socket.AF_INET, socket.AF_INET6} if socket.has_dualstack_ipv6() else {socket.AF_INET}
    assert asyncio.run(families()) == there


def test_tasks_outlive_an_api_server_that_is_drained_or_away():
    server, config = VALUES["apiServer"], VALUES["config"]
    assert server["podDisruptionBudget"]["enabled"]
    assert 1 <= server["podDisruptionBudget"]["config"]["maxUnavailable"] < server["replicas"]
    # Of the five attempts of a heartbeat each waits for a second at least.
    shortest_s, longest_s = (config["workers"]["max_failed_heartbeats"] * seconds for seconds in (4, 10))
    assert shortest_s > 300
    assert config["scheduler"]["task_instance_heartbeat_timeout"] > longest_s


def test_the_notes_install_the_chart_version_that_these_values_are_for():
    version = re.search(r"written for its version (\S+),", AIRFLOW_VALUES.read_text())
    assert version is not None
    assert f"--version {version[1]} " in render_files(EVERYTHING)["NOTES.txt"]


def test_the_manual_makes_every_secret():
    (users,) = VALUES["apiServer"]["extraVolumes"]
    named = {VALUES["jwtSecretName"], VALUES["apiSecretKeySecretName"], users["secret"]["secretName"]}
    manual, notes = (REPOSITORY / "README.md").read_text(), render_files(EVERYTHING)["NOTES.txt"]
    assert set(re.findall(r"create secret generic (\S+)", manual)) == {*named, "airflow-database", "toposieve-store"}
    assert set(re.findall(r"create secret generic (\S+)", notes)) == named
    assert set(re.findall(r"^#   (airflow-\S+)", AIRFLOW_VALUES.read_text(), re.MULTILINE)) == named


def test_without_a_volume_pods_have_all_others_and_the_secret_of_the_store():
    def without(name, mounts):
        return [each for each in mounts if each["name"] != name]

    for key in ("volumes", "volumeMounts"):
        assert without("store", WITHOUT[key]) == without("base", VALUES[key])
    for component in COMPONENTS:
        kept = without("base", VALUES[component]["extraVolumeMounts"])
        assert WITHOUT[component]["extraVolumeMounts"] == kept
    secret = WITHOUT_VOLUME["storage"]["secret"]
    assert {"name": "store", "secret": {"secretName": secret, "optional": True}} in WITHOUT["volumes"]
    assert {"name": "store", "mountPath": SECRET_FOLDER, "readOnly": True} in WITHOUT["volumeMounts"]
    assert yaml.safe_load(WITHOUT["extraEnvFrom"]) == [{"secretRef": {"name": secret, "optional": True}}]
    assert WITHOUT["config"]["logging"]["base_log_folder"] == "/opt/airflow/logs"
    assert "--values helm/airflow-without-volume.yaml" in render_files(WITHOUT_VOLUME)["NOTES.txt"]
    assert "airflow-without-volume" not in render_files(EVERYTHING)["NOTES.txt"]
