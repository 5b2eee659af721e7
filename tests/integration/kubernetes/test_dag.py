"""The whole DAG on a cluster: by an Airflow outside, all data on a volume; by one inside, all in an object store.

Both against the same chain on this machine.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.airflow_environment import REPOSITORY
from support.charts import RELEASE
from support.cluster import OURS, Namespace, image, pod_spec, wait_for
from support.dags import load_dags
from support.real_airflow import SMALL_SIMULATION, SMALL_TRAINING, real_airflow
from support.releases import shared_folder
from support.servers.s3_server import BUCKET, S3Server
from support.small_cluster import chart_profile, same_path, small_cluster
from toposieve_airflow.contract.step import Step, every_step
from toposieve_airflow.runs.factory import SCRIPTS

JOBS_PYTHON = REPOSITORY / ".venv-jobs/bin/python"
DAY = "2026-01-01"
CONF: dict[str, Any] = {"simulate": True, "partition_start": DAY, **SMALL_SIMULATION, **SMALL_TRAINING}
URL, SECRET = f"s3://{BUCKET}/toposieve", "toposieve-store"
INSIDE_S = 600


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data: the same path here and in every pod."""
    return shared_folder(tmp_path_factory.mktemp("storage"))


@pytest.fixture(scope="module")
def namespace(base: Path) -> Iterator[Namespace]:
    with small_cluster("dag", same_path(base)) as made:
        yield made


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, namespace: Namespace) -> Iterator[Path]:
    """One run of the DAG by an Airflow that has the rights of the chart's account and no more; its report's folder."""
    folder = tmp_path_factory.mktemp("airflow")
    account = namespace.kubeconfig(f"{RELEASE}-runner", folder / "kubeconfig")
    with real_airflow(folder, chart_profile(namespace), KUBECONFIG=str(account)) as airflow:
        run = airflow.start("topology_classifier", "whole", CONF)
        assert run.wait() == "success", run.failures()
        (folder,) = (airflow.base / "reports").iterdir()
        yield folder


@pytest.fixture(scope="module")
def local(report: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same stages on this machine, from the same raw files, trained by one process."""
    own = tmp_path_factory.mktemp("local")
    shutil.copytree(base / "raw", own / "raw")
    trained: list[str] = []
    for task_id, step in steps():
        if task_id != "simulate":
            command = [JOBS_PYTHON, REPOSITORY / "jobs" / SCRIPTS[task_id], "--base", own, *step["arguments"][2:]]
            command += ["--labels", *trained] if task_id == "evaluate" else []
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert done.returncode == 0, done.stdout
            if task_id == "train":
                trained.append(f"{step['label']}={re.findall(r'results in .*/(models/.+)', done.stdout)[-1]}")
    return own


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


def test_nothing_is_left_on_the_cluster(report: Path, namespace: Namespace) -> None:
    wait_for(lambda: not namespace.names("pod", OURS))
    wait_for(lambda: not namespace.names("pod", "spark-role=executor"))


# --- Airflow in a pod, all data in an object store --------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An object store that pods reach."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "server", namespace.host_address())
    yield server.wait()
    server.stop()


@pytest.fixture(scope="module")
def volumeless(s3: S3Server) -> Iterator[Namespace]:
    """A namespace with our chart, and no volume."""
    # The images' own certificates, whatever variable the machine that built them has left there.
    content = {**s3.environment, "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    storage = {"kind": "s3", "url": URL, "secret": SECRET, "variables": list(content)}
    ports = {"storePorts": [urlsplit(s3.endpoint).port]}
    with small_cluster("dag-s3", storage, networkPolicy=ports) as made:
        made.core.create_namespaced_secret(made.name, {"metadata": {"name": SECRET}, "stringData": content})
        yield made


@pytest.fixture(scope="module")
def inside(report: Path, base: Path, s3: S3Server, volumeless: Namespace) -> str:
    """What Airflow's own image prints that runs the DAG on the same raw files, with the chart's account and no more."""
    copy_tree(s3, str(base / "raw"), f"{URL}/raw")
    # The command that runs the DAG there changes some params for a demonstration: all are given.
    conf = {**load_dags()["topology_classifier"].params.validate(), **CONF, "simulate": False}
    volumeless.start("airflow", image("airflow"), **airflow_pod(conf))
    wait_for(lambda: phase(volumeless) in ("Succeeded", "Failed"), INSIDE_S)
    log = volumeless.core.read_namespaced_pod_log("airflow", volumeless.name, _preload_content=False)
    printed = str(log.data.decode())
    assert phase(volumeless) == "Succeeded", printed
    return printed


def airflow_pod(conf: dict[str, Any]) -> dict[str, Any]:
    """A pod of Airflow's image, with the chart's profile and the store's keys, that runs the DAG once, and ends."""
    command = ["python", "-m", "toposieve_demo.demo", "--home", "/tmp/airflow", "--conf", json.dumps(conf)]
    profile = {"name": "TOPOSIEVE_PROFILE", "value": "/etc/toposieve/profile/kubernetes.yaml"}
    spec = pod_spec(image("airflow"), args=command, env=[profile], envFrom=[{"secretRef": {"name": SECRET}}])
    spec["containers"][0]["volumeMounts"].append({"name": "profile", "mountPath": "/etc/toposieve/profile"})
    spec["volumes"].append({"name": "profile", "configMap": {"name": f"{RELEASE}-profile"}})
    return {**spec, "serviceAccountName": f"{RELEASE}-runner"}


def phase(namespace: Namespace) -> str:
    return str(namespace.core.read_namespaced_pod("airflow", namespace.name).status.phase)


def copy_tree(s3: S3Server, source: str, target: str) -> None:
    """Copy a folder to or from the object store."""
    environment = os.environ | s3.environment | {"PYTHONPATH": str(REPOSITORY / "tests")}
    subprocess.run([JOBS_PYTHON, "-m", "support.copy_tree", source, target], env=environment, check=True)


@pytest.fixture(scope="module")
def fetched(inside: str, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies in the object store after that run."""
    folder = tmp_path_factory.mktemp("fetched")
    copy_tree(s3, URL, str(folder))
    return folder


def test_airflow_in_a_pod_runs_the_dag_without_a_volume(
    inside: str, fetched: Path, local: Path, volumeless: Namespace
) -> None:
    assert "evaluate                     success" in inside
    assert inside.splitlines()[-2].startswith(f"report: {URL}/reports/")
    check_same(fetched, local)
    assert not volumeless.names("persistent_volume_claim")
    wait_for(lambda: not volumeless.names("pod", OURS))


def test_no_key_of_the_store_is_in_what_was_published_or_printed(inside: str, fetched: Path, s3: S3Server) -> None:
    secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in inside
    assert not [path for path in fetched.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
