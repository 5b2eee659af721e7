"""The whole DAG on a cluster: by an Airflow outside it, against the same chain on this machine; and by one inside."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.airflow_environment import REPOSITORY
from support.charts import RELEASE
from support.cluster import OURS, Namespace, image, pod_spec, wait_for
from support.dags import load_dags
from support.real_airflow import SMALL_SIMULATION, SMALL_TRAINING, real_airflow
from support.releases import shared_folder
from support.small_cluster import small_cluster, small_profile
from toposieve_airflow.factory import SCRIPTS
from toposieve_airflow.steps import Step, every_step

JOBS_PYTHON = REPOSITORY / ".venv-jobs/bin/python"
DAY = "2026-01-01"
CONF: dict[str, Any] = {"simulate": True, "partition_start": DAY, **SMALL_SIMULATION, **SMALL_TRAINING}
STAGES = ("events", "selected", "datasets", "models", "reports")
INSIDE_S = 600


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All data: the same path here and in every pod."""
    folder = shared_folder(tmp_path_factory.mktemp("storage"))
    (folder / "spark-events").mkdir(mode=0o777)
    (folder / "spark-events").chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def namespace(base: Path) -> Iterator[Namespace]:
    with small_cluster("dag", base) as made:
        yield made


@pytest.fixture(scope="module")
def profile(base: Path, namespace: Namespace) -> dict[str, Any]:
    """The profile kubernetes, for a small cluster."""
    return small_profile(base, namespace)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, namespace: Namespace, profile: dict[str, Any]) -> Iterator[Path]:
    """One run of the DAG by an Airflow that has the rights of the chart's account and no more; its report's folder."""
    folder = tmp_path_factory.mktemp("airflow")
    account = namespace.kubeconfig(f"{RELEASE}-runner", folder / "kubeconfig")
    with real_airflow(folder, profile, KUBECONFIG=str(account)) as airflow:
        run = airflow.start("topology_classifier", "whole", CONF)
        assert run.wait() == "success", run.failures()
        (folder,) = (airflow.base / "reports").iterdir()
        yield folder


@pytest.fixture(scope="module")
def local(report: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same stages on this machine, from the same raw files, trained by one process."""
    own = tmp_path_factory.mktemp("local")
    shutil.copytree(base / "raw", own / "raw")
    for task_id, step in steps():
        if task_id != "simulate":
            command = [JOBS_PYTHON, REPOSITORY / "jobs" / SCRIPTS[task_id], "--base", own, *step["arguments"][2:]]
            subprocess.run(command, check=True, capture_output=True)
    return own


def steps() -> Iterator[tuple[str, Step]]:
    """What the tasks of the run do, in order."""
    dag = load_dags()["topology_classifier"]
    return every_step(dag.get_task("plan").build_steps({**dag.params.validate(), **CONF}, None))


def files_of(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob(pattern)}


def check_same(on_cluster: Callable[[str], Path], local: Path) -> None:
    """Compare the folder of each stage with this machine's: the data to the byte, the metrics within tolerance."""
    for stage, pattern in (("selected", "*.parquet"), ("datasets", "*.tfrecord"), ("datasets", "scaling.json")):
        made = files_of(on_cluster(stage), pattern)
        assert made
        assert made == files_of(local / stage, pattern)
    ours, theirs = (
        json.loads(next(each.rglob("metrics.json")).read_text()) for each in (on_cluster("reports"), local / "reports")
    )
    assert ours["cutflow"] == theirs["cutflow"]
    for model, results in ours["models"].items():
        for name, auc in results["auc"].items():
            assert auc["value"] == pytest.approx(theirs["models"][model]["auc"][name]["value"], abs=1e-3)


@pytest.fixture(scope="module")
def outside(report: Path, base: Path) -> Callable[[str], Path]:
    """Where that run's stages are: put aside, for another run on the same files."""

    def place(stage: str) -> Path:
        return base / f"{stage}-outside"

    for stage in STAGES:
        (base / stage).rename(place(stage))
    return place


def test_what_the_cluster_makes_is_what_this_machine_makes(outside: Callable[[str], Path], local: Path) -> None:
    check_same(outside, local)


def test_nothing_is_left_on_the_cluster(report: Path, namespace: Namespace) -> None:
    wait_for(lambda: not namespace.names("pod", OURS))
    wait_for(lambda: not namespace.names("pod", "spark-role=executor"))


# --- Airflow in a pod ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inside(outside: object, base: Path, namespace: Namespace, profile: dict[str, Any]) -> str:
    """What Airflow's own image prints that runs the DAG on the same files, with the chart's account and no more."""
    own_profile = profile | {"spark": {**profile["spark"], "master": "k8s://https://kubernetes.default.svc"}}
    (base / "profile.yaml").write_text(yaml.safe_dump(own_profile))
    # The command that runs the DAG there changes some params for a demonstration: all are given.
    conf = {**load_dags()["topology_classifier"].params.validate(), **CONF, "simulate": False}
    namespace.start("airflow", image("airflow"), **airflow_pod(base, conf))
    wait_for(lambda: phase(namespace) in ("Succeeded", "Failed"), INSIDE_S)
    log = namespace.core.read_namespaced_pod_log("airflow", namespace.name, _preload_content=False)
    printed = str(log.data.decode())
    assert phase(namespace) == "Succeeded", printed
    return printed


def airflow_pod(base: Path, conf: dict[str, Any]) -> dict[str, Any]:
    """A pod of Airflow's image that sees all data, runs the DAG once, and ends."""
    command = ["python", "-m", "toposieve_airflow.local.demo", "--home", "/tmp/airflow", "--conf", json.dumps(conf)]
    environment = [{"name": "TOPOSIEVE_PROFILE", "value": str(base / "profile.yaml")}]
    spec = pod_spec(image("airflow"), args=command, env=environment)
    spec["containers"][0]["volumeMounts"].append({"name": "base", "mountPath": str(base)})
    spec["volumes"].append({"name": "base", "persistentVolumeClaim": {"claimName": f"{RELEASE}-base"}})
    return {**spec, "serviceAccountName": f"{RELEASE}-runner"}


def phase(namespace: Namespace) -> str:
    return str(namespace.core.read_namespaced_pod("airflow", namespace.name).status.phase)


def test_airflow_in_a_pod_runs_the_dag_with_the_rights_of_the_chart(inside: str, base: Path, local: Path) -> None:
    assert "evaluate                     success" in inside
    assert inside.splitlines()[-2].startswith("report: ")
    check_same(lambda stage: base / stage, local)


def test_airflow_in_a_pod_leaves_nothing_on_the_cluster(inside: str, namespace: Namespace) -> None:
    wait_for(lambda: not namespace.names("pod", OURS))
