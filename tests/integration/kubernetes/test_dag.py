"""The whole DAG on a cluster: by an Airflow outside, all data on a volume; by one deployed as documented, all in S3.

Both against the same chain on this machine.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support import deployed_airflow
from support.airflow_environment import REPOSITORY
from support.charts import RELEASE
from support.cluster import OURS, Namespace, admission, new_namespace, wait_for
from support.dags import load_dags
from support.real_airflow import SMALL_SIMULATION, SMALL_TRAINING, DagRun, RealAirflow, real_airflow
from support.releases import shared_folder, volume_on
from support.servers.s3_server import BUCKET, S3Server
from support.small_cluster import SMALL, chart_profile, same_path, small_cluster
from toposieve_airflow.contract.step import Step, every_step
from toposieve_airflow.runs.factory import SCRIPTS

JOBS_PYTHON = REPOSITORY / ".venv-jobs/bin/python"
DAY = "2026-01-01"
CONF: dict[str, Any] = {"simulate": True, "partition_start": DAY, **SMALL_SIMULATION, **SMALL_TRAINING}
URL, SECRET = f"s3://{BUCKET}/toposieve", "toposieve-store"
INSIDE_S = 900
QUEUED_S = 25
"""Long enough for the triggerer to look at a gang."""

QUEUE = {"kueue.x-k8s.io/queue-name": "training"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data: the same path here and in every pod."""
    return shared_folder(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def namespace(base: Path) -> Iterator[Namespace]:
    with small_cluster("dag", same_path(base)) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, namespace: Namespace) -> Iterator[RealAirflow]:
    """An Airflow outside, that has the rights of the chart's account and no more; rules decide what is published."""
    folder = tmp_path_factory.mktemp("airflow")
    account = namespace.kubeconfig(f"{RELEASE}-runner", folder / "kubeconfig")
    profile = chart_profile(namespace) | {"approval": {"by_rules": True}}
    with real_airflow(folder, profile, KUBECONFIG=str(account)) as made:
        yield made


@pytest.fixture(scope="module")
def report(airflow: RealAirflow) -> Path:
    """The report of one run of the DAG; its folder."""
    finish(airflow.start("topology_classifier", "whole", CONF))
    (folder,) = (airflow.base / "reports").iterdir()
    return folder


@pytest.fixture(scope="module")
def decided(airflow: RealAirflow, report: Path, base: Path) -> Path:
    """What the model of that report decided on the day, once it was published and exported; its folder."""
    asked = {"report": report.name, "publication_auc_min": 0.001, "score_start": DAY}
    finish(airflow.start("publish_model", "published", asked))
    return base / "decisions" / "topology" / "000001" / DAY


def finish(run: DagRun) -> None:
    assert run.wait() == "success", run.failures()


@pytest.fixture(scope="module")
def local(report: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same stages on this machine, from the same raw files, trained by one process."""
    own = tmp_path_factory.mktemp("local")
    shutil.copytree(base / "raw", own / "raw")
    trained: list[str] = []
    for task_id, step in steps():
        if task_id != "simulate":
            labels = ["--labels", *trained] if task_id == "evaluate" else []
            told = run_here(SCRIPTS[task_id], own, *step["arguments"][2:], *labels)
            if task_id == "train":
                trained.append(f"{step['label']}={re.findall(r'results in .*/(models/.+)', told)[-1]}")
    return own


def run_here(script: str, base: Path, *arguments: str) -> str:
    """Run a job on this machine; what it has told."""
    command = [JOBS_PYTHON, REPOSITORY / "jobs" / script, "--base", base, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def steps() -> Iterator[tuple[str, Step]]:
    """What the tasks of the run do, in order."""
    dag = load_dags()["topology_classifier"]
    return every_step(dag.get_task("plan").build_steps({**dag.params.validate(), **CONF}, None))


def files_of(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern)}


def check_same(on_cluster: Path, local: Path) -> None:
    """Compare what the stages made with this machine's: the data to the byte, the metrics within tolerance."""
    for stage, pattern in (("selected", "*.parquet"), ("datasets", "*.tfrecord"), ("datasets", "scaling.json")):
        made = files_of(on_cluster / stage, pattern)
        assert made
        assert made == files_of(local / stage, pattern)
    ours, theirs = (
        json.loads(next(each.rglob("metrics.json")).read_text()) for each in (on_cluster / "reports", local / "reports")
    )
    assert ours["cutflow"] == theirs["cutflow"]
    for model, results in ours["models"].items():
        for name, auc in results["auc"].items():
            assert auc["value"] == pytest.approx(theirs["models"][model]["auc"][name]["value"], abs=1e-3)


def test_what_the_cluster_makes_is_what_this_machine_makes(base: Path, local: Path) -> None:
    check_same(base, local)


def test_a_model_that_the_cluster_publishes_decides_as_it_does_here(decided: Path, base: Path, local: Path) -> None:
    shutil.copytree(base / "registry", local / "registry")
    run_here("score.py", local, "--partition", DAY)
    made = files_of(decided, "*.parquet")
    assert made
    assert made == files_of(local / decided.relative_to(base), "*.parquet")


def test_nothing_is_left_on_the_cluster(decided: Path, namespace: Namespace) -> None:
    wait_for(lambda: not namespace.names("pod", OURS))
    wait_for(lambda: not namespace.names("pod", "spark-role=executor"))


# --- Airflow in a namespace of its own, a pod for each task, all data in an object store ------------------------------


@pytest.fixture(scope="module")
def s3(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An object store that pods reach."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "server", namespace.host_address())
    yield server.wait()
    server.stop()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is behind the volume of the tasks' logs."""
    return shared_folder(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def control(logs: Path) -> Iterator[Namespace]:
    """A namespace for Airflow."""
    with new_namespace("dag-airflow") as made:
        yield made


@pytest.fixture(scope="module")
def volumeless(s3: S3Server, control: Namespace, logs: Path) -> Iterator[Namespace]:
    """A namespace with our chart, for the jobs of the Airflow in the other one, and no volume."""
    # The images' own certificates, whatever variable the machine that built them has left there.
    content = {**s3.environment, "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    storage = {"kind": "s3", "url": URL, "secret": SECRET, "variables": list(content)}
    ports = {"storePorts": [urlsplit(s3.endpoint).port]}
    airflow = {"namespace": control.name, "logs": volume_on(logs)}
    queued = {"gang": {"metadata": {"labels": QUEUE}}, "evaluation": {"metadata": {"labels": dict.fromkeys(QUEUE)}}}
    queued["gang"] |= SMALL["pods"]["gang"]
    with small_cluster("dag-s3", storage, networkPolicy=ports, airflow=airflow, pods=queued) as made:
        for each in (made, control):
            each.core.create_namespaced_secret(each.name, {"metadata": {"name": SECRET}, "stringData": content})
        yield made


@pytest.fixture(scope="module")
def inside(report: Path, base: Path, s3: S3Server, volumeless: Namespace, control: Namespace) -> dict[str, Any]:
    """State and logs of the run by which that Airflow has processed the same raw files, with the chart's accounts."""
    copy_tree(s3, str(base / "raw"), f"{URL}/raw")
    password = secrets.token_urlsafe()
    deployed_airflow.install(control, password)
    conf = json.dumps({**CONF, "simulate": False})
    with admission(volumeless, QUEUED_S):
        told = deployed_airflow.run(control, password, "topology_classifier", conf, INSIDE_S)
    run: dict[str, Any] = json.loads(told.splitlines()[-1])
    assert run["state"] == "success", told
    return run


def copy_tree(s3: S3Server, source: str, target: str) -> None:
    """Copy a folder to or from the object store."""
    environment = os.environ | s3.environment | {"PYTHONPATH": str(REPOSITORY / "tests")}
    subprocess.run([JOBS_PYTHON, "-m", "support.copy_tree", source, target], env=environment, check=True)


@pytest.fixture(scope="module")
def fetched(inside: dict[str, Any], s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies in the object store after that run."""
    folder = tmp_path_factory.mktemp("fetched")
    copy_tree(s3, URL, str(folder))
    return folder


def test_the_documented_deployment_runs_the_dag_without_a_volume_for_data(
    inside: dict[str, Any], fetched: Path, local: Path, volumeless: Namespace, control: Namespace
) -> None:
    check_same(fetched, local)
    assert not volumeless.names("persistent_volume_claim")
    wait_for(lambda: not volumeless.names("pod", OURS))
    wait_for(lambda: not control.names("pod", "kubernetes_executor=True"))


def test_gangs_wait_for_their_queue_in_its_triggerer(inside: dict[str, Any]) -> None:
    told = json.dumps(inside["logs"]["train"])
    assert "the gang waits for its queue to admit it" in told
    assert "goes on without a trigger" not in told


def test_logs_of_its_tasks_are_shown_when_their_pods_are_gone(inside: dict[str, Any]) -> None:
    assert f"output: {URL}/reports/" in json.dumps(inside["logs"]["evaluate"])
    assert "results in" in json.dumps(inside["logs"]["train"])


def test_no_pod_of_a_job_can_mount_airflow_s_secrets(
    inside: dict[str, Any], volumeless: Namespace, control: Namespace
) -> None:
    assert {"airflow-keys", "airflow-users"} <= set(control.names("secret"))
    assert volumeless.names("secret", "!owner") == [SECRET]


def test_no_key_of_the_store_is_in_what_was_published_or_logged(fetched: Path, logs: Path, s3: S3Server) -> None:
    secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
    files = [path for folder in (fetched, logs) for path in folder.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(logs) for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]
