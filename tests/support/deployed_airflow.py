"""Airflow as helm/airflow-values.yaml has the official chart install it, which is not to be had here.

Its parts are containers of one pod, beside a SQLite file; each task is a pod, made from what our own chart says.
"""

import base64
import configparser
import io
import secrets
from typing import Any

import yaml

from support.charts import AIRFLOW_VALUES, AIRFLOW_WITHOUT_VOLUME
from support.cluster import Namespace, image, wait_for

NAME = "airflow"
SERVER = "airflow-api-server"
PORT = 8080
VALUES = yaml.safe_load(AIRFLOW_VALUES.read_text())
WITHOUT_VOLUME = yaml.safe_load(AIRFLOW_WITHOUT_VOLUME.read_text())
TOKEN = "airflow-triggerer"
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
DATABASE = {"name": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "value": "sqlite:////tmp/airflow.db"}
KEYS = {
    "jwt-secret": "AIRFLOW__API_AUTH__JWT_SECRET",
    "api-secret-key": "AIRFLOW__API__SECRET_KEY",
    "fernet-key": "AIRFLOW__CORE__FERNET_KEY",
}
"""Key of the Secret → variable that the official chart makes of it."""


def install(namespace: Namespace, password: str) -> None:
    """Make what the manual makes by hand, then Airflow, and wait until it answers."""
    keys = dict.fromkeys(("jwt-secret", "api-secret-key"), secrets.token_hex(32))
    keys["fernet-key"] = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    for name, content in (("airflow-keys", keys), ("airflow-users", {"passwords.json": f'{{"admin": "{password}"}}'})):
        namespace.core.create_namespaced_secret(namespace.name, {"metadata": {"name": name}, "stringData": content})
    config = {"metadata": {"name": "airflow-config"}, "data": {"airflow.cfg": _configuration(namespace)}}
    namespace.core.create_namespaced_config_map(namespace.name, config)
    account = {"kubernetes.io/service-account.name": VALUES["triggerer"]["serviceAccount"]["name"]}
    token = {"metadata": {"name": TOKEN, "annotations": account}, "type": "kubernetes.io/service-account-token"}
    namespace.core.create_namespaced_secret(namespace.name, token)
    ports = {"selector": {"app": NAME}, "ports": [{"port": PORT}]}
    namespace.core.create_namespaced_service(namespace.name, {"metadata": {"name": SERVER}, "spec": ports})
    meta = {"name": NAME, "labels": {"app": NAME}}
    namespace.core.create_namespaced_pod(namespace.name, {"metadata": meta, "spec": _pod()})
    wait_for(lambda: _is_ready(namespace))


def _is_ready(namespace: Namespace) -> bool:
    states = namespace.core.read_namespaced_pod(NAME, namespace.name).status.container_statuses or []
    assert not any(each.restart_count for each in states), states
    return bool(states) and all(each.ready for each in states)


def _configuration(namespace: Namespace) -> str:
    """airflow.cfg: what the values say, and what the official chart adds."""
    repository, _, tag = image(NAME).rpartition(":")
    config = configparser.ConfigParser(interpolation=None)
    config.read_dict(VALUES["config"])
    config["core"]["executor"] = VALUES["executor"]
    config["core"]["execution_api_server_url"] = f"http://{SERVER}:{PORT}/execution/"
    config["kubernetes_executor"]["namespace"] = namespace.name
    config["kubernetes_executor"]["worker_container_repository"] = repository
    config["kubernetes_executor"]["worker_container_tag"] = tag
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _pod() -> dict[str, Any]:
    """The scheduler's account; the volumes and variables of all parts; the arguments that the values give, or none.

    The triggerer has another account: its token lies where that of the pod would.
    """
    token = {"name": "token", "secret": {"secretName": TOKEN}}
    logs = {"name": "logs", "persistentVolumeClaim": {"claimName": VALUES["logs"]["persistence"]["existingClaim"]}}
    config = {"name": "config", "configMap": {"name": "airflow-config"}}
    server = WITHOUT_VOLUME["apiServer"]
    probe = {"httpGet": {"path": "/api/v2/version", "port": PORT}, "periodSeconds": 2, "failureThreshold": 90}
    return {
        "serviceAccountName": VALUES["scheduler"]["serviceAccount"]["name"],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "securityContext": VALUES["securityContexts"]["pod"],
        "volumes": [*VALUES["volumes"], *server["extraVolumes"], logs, config, token],
        "initContainers": [_container("migrate", ["airflow", "db", "migrate"])],
        "containers": [
            _container("scheduler", VALUES["scheduler"]["args"]),
            _container("dag-processor", ["airflow", "dag-processor"]),
            _container("triggerer", ["airflow", "triggerer"], [{"name": "token", "mountPath": TOKEN_FOLDER}]),
            _container("api-server", VALUES["apiServer"]["args"], server["extraVolumeMounts"], readinessProbe=probe),
        ],
    }


def _container(name: str, args: list[str], mounts: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    config = {"name": "config", "mountPath": "/opt/airflow/airflow.cfg", "subPath": "airflow.cfg", "readOnly": True}
    logs = {"name": "logs", "mountPath": "/opt/airflow/logs"}
    keys = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": "airflow-keys", "key": key}}}
        for key, variable in KEYS.items()
    ]
    return {
        "name": name,
        "image": image(NAME),
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": [*VALUES["env"], *keys, DATABASE],
        "envFrom": yaml.safe_load(WITHOUT_VOLUME["extraEnvFrom"]),
        "securityContext": VALUES["securityContexts"]["containers"],
        "volumeMounts": [*VALUES["volumeMounts"], *(mounts or []), config, logs],
        **more,
    }


RUN = """
import json, sys, time
from toposieve_demo.api import Api, ApiError
url, password, dag_id, conf = sys.argv[1:]
try:
    Api(url, "admin", "wrong").get("/dags")
    sys.exit("any password is taken")
except ApiError as error:
    assert error.status == 401, error
api = Api(url, "admin", password)
while dag_id not in {each["dag_id"] for each in api.get("/dags")["dags"]}:
    time.sleep(1)
api.unpause(dag_id)
api.trigger(dag_id, "first", json.loads(conf))
while (state := api.run_state(dag_id, "first")) not in ("success", "failed"):
    time.sleep(1)
def log(task):
    path = f"/dags/{dag_id}/dagRuns/first/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    return api.get(path, map_index=task["map_index"])
tasks = [each for each in api.tasks(dag_id, "first") if each["try_number"]]
print(json.dumps({"state": state, "logs": {each["task_id"]: log(each) for each in tasks}}))
"""


def run(namespace: Namespace, password: str, dag_id: str, conf: str, seconds: float) -> str:
    """Run a DAG to its end, asked for through the Service; gives its state and the logs that the API server shows."""
    command = ["python", "-c", RUN, f"http://{SERVER}:{PORT}", password, dag_id, conf]
    done = namespace.execute(NAME, *command, container="scheduler", seconds=seconds)
    assert done.code == 0, done.output
    return done.output
