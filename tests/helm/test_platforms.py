"""What pods are on the platforms that the example values are for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.charts import find, render
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.gang.manifests import job_manifest
from toposieve_airflow.kubernetes.tasks import KubernetesTasks
from toposieve_airflow.profile import parse_profile
from toposieve_airflow.runs.params import ConfigurationSchema

Objects = dict[str, dict[str, Any]]
QUEUED = ("LocalQueue", "PriorityClass")


@pytest.fixture(params=["company", "kueue"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Objects]:
    """Name of example values, and the objects that they decide, by what they are."""
    values = yaml.safe_load((REPOSITORY / "helm" / f"{request.param}.yaml").read_text())
    rendered = render(values)
    for name, text in find(rendered, "ConfigMap", "toposieve-profile")["data"].items():
        (tmp_path / name).write_text(text)
    profile = parse_profile(
        yaml.safe_load((tmp_path / "kubernetes.yaml").read_text()), tmp_path / "kubernetes.yaml", REPOSITORY
    )
    tasks = KubernetesTasks(profile, ConfigurationSchema.load(CONFIG_FOLDER))
    template = Path(tasks.spark_options("ingest")["conf"]["spark.kubernetes.driver.podTemplateFile"])
    spark = yaml.safe_load(template.read_text(encoding="utf-8"))
    objects = {f"{each['kind']} {each['metadata']['name']}": each for each in rendered if each["kind"] in QUEUED}
    gangs = {f"gang of {task_id}": job(tasks, task_id, size) for task_id, size in (("train", 2), ("evaluate", 1))}
    task = yaml.safe_load((tmp_path / "task-pod.yaml").read_text(encoding="utf-8"))
    return request.param, {**objects, "tasks' pods": task, "Spark's pods": spark, **gangs}


def job(tasks: KubernetesTasks, task_id: str, workers: int) -> dict[str, Any]:
    """The Job of a gang."""
    operator = tasks.gang_operator(**tasks._gang(task_id), step={"arguments": [], "workers": workers})
    return job_manifest(*operator.pod_and_gang(TaskInstance(task_id=task_id).context()))


def test_golden(platform: tuple[str, Objects], check_golden: Callable[[str, str], None]) -> None:
    name, objects = platform
    text = "".join(f"# --- {what}\n{yaml.safe_dump(each)}" for what, each in objects.items())
    check_golden(f"helm/platform_{name}.yaml", text)


def test_each_pod_s_priority_class_is_there(platform: tuple[str, Objects]) -> None:
    _, objects = platform
    named = {each["priorityClassName"] for each in pods(objects) if "priorityClassName" in each}
    assert named == {name.split()[1] for name in objects if name.startswith("PriorityClass ")}


def test_no_pod_has_a_fixed_user_where_the_cluster_gives_one(platform: tuple[str, Objects]) -> None:
    name, objects = platform
    users = {"runAsUser", "runAsGroup", "fsGroup"}
    assert {key for pod in pods(objects) for key in pod["securityContext"]} & users == (
        set() if name == "company" else users
    )


def pods(objects: Objects) -> list[dict[str, Any]]:
    """The specs of all pods."""
    gangs = [each["spec"]["template"]["spec"] for each in objects.values() if each["kind"] == "Job"]
    return [*(objects[f"{whose} pods"]["spec"] for whose in ("tasks'", "Spark's")), *gangs]
