"""Credentials reach the jobs' environment, and nothing else that can be read: one marker, looked for everywhere."""

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.dags import load_dags
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.step import Step
from toposieve_airflow.kubernetes.gang.manifests import job_manifest
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.local.gang import LocalGangOperator
from toposieve_airflow.local.spark_job import SparkJobOperator
from toposieve_airflow.profile import PROFILE_VARIABLE
from toposieve_airflow.runs.credentials import VARIABLES

from .test_commands import RUNS, steps_of

MARKER = "marker5f2c"
CONNECTIONS = {
    "s3": {"login": MARKER, "password": MARKER, "extra": {"aws_session_token": MARKER}},
    "hdfs": {"login": "physics", "extra": {"kerberos_cache": f"/run/{MARKER}"}},
    "root": {"extra": {"x509_proxy": f"/run/{MARKER}"}},
}
KEYS = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]

# Airflow itself uses a deprecated name of pathspec.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


@pytest.fixture
def make_dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], DAG]]:
    """Make the whole chain, under a profile with all data in S3 and every kind of connection."""

    def make(profile: str) -> DAG:
        values = yaml.safe_load((CONFIG_FOLDER / f"{profile}.yaml").read_text())
        values |= {"base": "s3://lhc/toposieve", "connections": {kind: f"store_{kind}" for kind in CONNECTIONS}}
        values["spark"]["submit"] = str(submit(tmp_path))
        if profile == "kubernetes":
            pods = {role: str(CONFIG_FOLDER / file) for role, file in values["kubernetes"]["pods"].items()}
            secret = {"name": "toposieve-store", "variables": KEYS}
            values["kubernetes"] |= {"claim": None, "secret": secret, "pods": pods}
        (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
        monkeypatch.setenv(PROFILE_VARIABLE, str(tmp_path / "profile.yaml"))
        for kind, fields in CONNECTIONS.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_STORE_{kind.upper()}", json.dumps({"conn_type": "generic", **fields}))
        return load_dags()["topology_classifier"]

    before = dict(os.environ)
    yield make
    os.environ.clear()
    os.environ.update(before)


def submit(folder: Path) -> Path:
    """A spark-submit that only says which of the variables with credentials it has, and not their values."""
    path = folder / "spark-submit"
    names = sorted({variable for kind in VARIABLES.values() for variable in kind.values()})
    path.write_text(f"#!{sys.executable}\nimport os\nprint('has', *(name for name in {names} if name in os.environ))\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def operator_of(dag: DAG, task_id: str, step: Step) -> Any:
    task = dag.get_task(task_id)
    operator = task.unmap({"step": step}) if task.is_mapped else task
    operator.step = step
    return operator


def rendered(operator: Any, step: Step) -> str:
    """What a task hands to others: a command line, or the manifest of pods."""
    context = TaskInstance(task_id=operator.task_id).context()
    if isinstance(operator, TFSpawnerOperator):
        return yaml.safe_dump(job_manifest(*operator.pod_and_gang(context)))
    if isinstance(operator, LocalGangOperator):
        return " ".join(operator._command())
    assert isinstance(operator, SparkJobOperator)
    if isinstance(operator, SparkOnKubernetesOperator):
        operator.name_pods(context)
    operator.application_args = step["arguments"]
    return " ".join(operator._get_hook()._build_spark_submit_command(operator.application))


@pytest.mark.parametrize("profile", ["local", "kubernetes"])
def test_no_command_manifest_or_xcom_shows_a_credential(make_dag: Callable[[str], DAG], profile: str) -> None:
    dag = make_dag(profile)
    steps = list(steps_of(dag, RUNS["demo"][1], None))
    texts = [rendered(operator_of(dag, task_id, step), step) for task_id, step in steps]
    for text in (*texts, json.dumps(steps), json.dumps(DagSerialization.to_dict(dag)), repr(dag.task_dict)):
        assert MARKER not in text
        assert "executorEnv" not in text


def test_they_are_in_the_environment_of_spark_submit_and_not_in_the_log(
    make_dag: Callable[[str], DAG], capfd: pytest.CaptureFixture[str]
) -> None:
    dag = make_dag("local")
    step = dict(steps_of(dag, RUNS["demo"][1], None))["select"]
    operator = operator_of(dag, "select", {**step, "config": {}})
    operator.execute(TaskInstance(task_id="select").context())
    operator._hook._submit_sp.stdout.close()  # which the provider leaves open
    log = "".join(capfd.readouterr())
    assert "has AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN HADOOP_USER_NAME KRB5CCNAME" in log
    assert MARKER not in log


def test_they_are_in_the_environment_of_workers(make_dag: Callable[[str], DAG]) -> None:
    dag = make_dag("local")
    step = dict(steps_of(dag, RUNS["demo"][1], None))["train"]
    for environment in operator_of(dag, "train", step)._environments(2):
        assert environment["AWS_SECRET_ACCESS_KEY"] == MARKER
        assert MARKER not in environment["TF_CONFIG"]


def test_pods_take_them_from_the_secret_by_name(make_dag: Callable[[str], DAG]) -> None:
    dag = make_dag("kubernetes")
    steps = dict(steps_of(dag, RUNS["demo"][1], None))
    spark = rendered(operator_of(dag, "select", steps["select"]), steps["select"])
    for role in ("driver", "executor"):
        assert f"spark.kubernetes.{role}.secrets.toposieve-store=/etc/toposieve/store" in spark
        assert f"spark.kubernetes.{role}.secretKeyRef.{KEYS[0]}=toposieve-store:{KEYS[0]}" in spark
    assert "persistentVolumeClaim" not in spark
    pod = yaml.safe_load(rendered(operator_of(dag, "train", steps["train"]), steps["train"]))
    spec = pod["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    references = {each["name"]: each["valueFrom"] for each in container["env"] if each["name"] in KEYS}
    assert references == {key: {"secretKeyRef": {"name": "toposieve-store", "key": key}} for key in KEYS}
    assert {"name": "store", "secret": {"secretName": "toposieve-store"}} in spec["volumes"]
    assert not [each for each in spec["volumes"] if "persistentVolumeClaim" in each]


def test_no_file_of_the_repository_has_the_marker_of_these_tests() -> None:
    golden = [path for path in (REPOSITORY / "tests" / "golden").rglob("*") if path.is_file()]
    assert golden
    assert not [path for path in golden if MARKER in path.read_text()]
