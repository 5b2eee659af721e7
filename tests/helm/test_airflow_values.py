"""The values for the official Airflow chart name what our chart and our images provide."""

import asyncio
import json
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
IMAGE = (REPOSITORY / "docker/airflow/Dockerfile").read_text()


@pytest.fixture(scope="module")
def ours():
    return render(EVERYTHING)


def volume(name):
    (found,) = [each for each in VALUES["volumes"] if each["name"] == name]
    return found


def mount(name, mounts=VALUES["volumeMounts"]):
    (found,) = [each for each in mounts if each["name"] == name]
    return found


def mount_path(name):
    return mount(name)["mountPath"]


def task_pod(values):
    """What the pod of a task is made from, and its container."""
    files = find(render(values), "ConfigMap", "toposieve-profile")["data"]
    pod = yaml.safe_load(files[Path(VALUES["config"]["kubernetes_executor"]["pod_template_file"]).name])
    return pod, pod["spec"]["containers"][0]


@pytest.mark.parametrize("section", [VALUES["scheduler"], VALUES["workers"]["kubernetes"], VALUES["triggerer"]])
def test_accounts_are_those_that_our_chart_makes(ours, section):
    account = section["serviceAccount"]
    assert account["create"] is False
    assert find(ours, "ServiceAccount", account["name"])
    assert find(ours, "RoleBinding", account["name"])
    assert VALUES["allowPodLaunching"] is False  # else that chart binds a role of its own to these accounts


def test_the_data_is_where_our_chart_puts_it(ours):
    server = VALUES["apiServer"]
    (claim,) = [each["persistentVolumeClaim"] for each in server["extraVolumes"] if each["name"] == "base"]
    assert find(ours, "PersistentVolumeClaim", claim["claimName"])
    assert mount("base", server["extraVolumeMounts"]) == {
        "name": "base",
        "mountPath": CHART_VALUES["storage"]["mountPath"],
        "readOnly": True,
    }


def test_logs_outlive_their_pods_on_a_volume_that_no_job_sees(ours):
    persistence = VALUES["logs"]["persistence"]
    assert persistence["enabled"]
    assert find(ours, "PersistentVolumeClaim", persistence["existingClaim"])
    files = find(ours, "ConfigMap", "toposieve-profile")["data"]
    with_logs = {name for name, text in files.items() if persistence["existingClaim"] in text}
    assert with_logs == {"task-pod.yaml"}


def test_a_task_s_pod_is_as_airflow_s_other_pods(ours):
    pod, container = task_pod(EVERYTHING)
    assert pod["spec"]["securityContext"] == VALUES["securityContexts"]["pod"]
    assert container["securityContext"] == VALUES["securityContexts"]["containers"]
    assert pod["spec"]["serviceAccountName"] == VALUES["workers"]["kubernetes"]["serviceAccount"]["name"]
    assert pod["spec"]["restartPolicy"] == "Never"
    for each in VALUES["volumeMounts"]:
        assert each in container["volumeMounts"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["spec"]["volumes"]}
    (profile,) = container["env"]
    assert profile in VALUES["env"]


def test_a_task_sees_all_data_or_has_the_secret_of_the_store():
    pod, container = task_pod({"storage": {"existingClaim": "ours", "mountPath": "/physics"}})
    assert mount("base", container["volumeMounts"])["mountPath"] == "/physics"
    (base,) = [each for each in pod["spec"]["volumes"] if each["name"] == "base"]
    assert base["persistentVolumeClaim"]["claimName"] == "ours"
    pod, container = task_pod(WITHOUT_VOLUME | {"airflow": {"logs": {"enabled": False}}})
    assert "persistentVolumeClaim" not in yaml.safe_dump(pod)
    assert mount("store", container["volumeMounts"])["mountPath"] == SECRET_FOLDER
    secret = WITHOUT_VOLUME["storage"]["secret"]
    assert container["envFrom"] == [{"secretRef": {"name": secret, "optional": True}}]


def test_what_differs_in_a_task_s_pod_is_said_in_the_chart_s_values():
    big = {"name": "base", "resources": {"requests": {"memory": "4Gi"}, "limits": {"memory": "4Gi"}}}
    _, container = task_pod({"pods": {"task": {"spec": {"containers": [big]}}}})
    assert container["resources"] == {"requests": {"cpu": "250m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}


def test_the_scheduler_makes_the_pools_of_the_profile():
    values = {"profile": {"pools": {"spark": {"slots": 9}}}}
    files = find(render(values), "ConfigMap", "toposieve-profile")["data"]
    path = re.search(r"pools import (\S+) && exec airflow scheduler$", VALUES["scheduler"]["args"][-1])
    assert path is not None
    assert str(Path(path[1]).parent) == mount_path("profile")
    pools = json.loads(files[Path(path[1]).name])
    wanted = yaml.safe_load(files["kubernetes.yaml"])["pools"].values()
    assert {name: pool["slots"] for name, pool in pools.items()} == {each["name"]: each["slots"] for each in wanted}
    assert pools["spark"]["slots"] == 9
    assert all(pool["description"] for pool in pools.values())  # without one Airflow refuses it


def test_nobody_waits_for_a_hook_and_no_key_is_made_in_one():
    job = VALUES["migrateDatabaseJob"]
    assert (job["useHelmHooks"], job["applyCustomEnv"]) == (False, False)
    assert VALUES["createUserJob"]["enabled"] is False
    assert VALUES["fernetKeySecretName"] == VALUES["jwtSecretName"]


def test_the_profile_is_the_one_of_our_config_map(ours):
    files = find(ours, "ConfigMap", volume("profile")["configMap"]["name"])["data"]
    (variable,) = [each for each in VALUES["env"] if each["name"] == "TOPOSIEVE_PROFILE"]
    path = Path(variable["value"])
    assert str(path.parent) == mount_path("profile")
    profile = yaml.safe_load(files[path.name])
    assert set(profile["kubernetes"]["pods"].values()) == files.keys() - {path.name, "task-pod.yaml", "pools.json"}


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
    place = mount("users", VALUES["apiServer"]["extraVolumeMounts"])["mountPath"]
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
    users = mount("users", VALUES["apiServer"]["extraVolumes"])
    named = {VALUES["jwtSecretName"], VALUES["apiSecretKeySecretName"], users["secret"]["secretName"]}
    manual, notes = (REPOSITORY / "README.md").read_text(), render_files(EVERYTHING)["NOTES.txt"]
    assert set(re.findall(r"create secret generic (\S+)", manual)) == {*named, "airflow-database", "toposieve-store"}
    assert set(re.findall(r"create secret generic (\S+)", notes)) == named
    assert set(re.findall(r"^#   (airflow-\S+)", AIRFLOW_VALUES.read_text(), re.MULTILINE)) == named


def test_without_a_volume_the_api_server_has_the_secret_of_the_store():
    def without(name, items):
        return [each for each in items if each["name"] != name]

    for key in ("extraVolumes", "extraVolumeMounts"):
        assert without("store", WITHOUT["apiServer"][key]) == without("base", VALUES["apiServer"][key])
    secret = WITHOUT_VOLUME["storage"]["secret"]
    assert {"name": "store", "secret": {"secretName": secret, "optional": True}} in WITHOUT["apiServer"]["extraVolumes"]
    assert mount("store", WITHOUT["apiServer"]["extraVolumeMounts"])["mountPath"] == SECRET_FOLDER
    assert yaml.safe_load(WITHOUT["extraEnvFrom"]) == [{"secretRef": {"name": secret, "optional": True}}]
    assert WITHOUT["logs"]["persistence"] == {"enabled": False}
    assert "--values helm/airflow-without-volume.yaml" in render_files(WITHOUT_VOLUME)["NOTES.txt"]
    assert "airflow-without-volume" not in render_files(EVERYTHING)["NOTES.txt"]
