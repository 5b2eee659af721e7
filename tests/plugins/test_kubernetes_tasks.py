from typing import Any

import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes_tasks import KubernetesTasks
from toposieve_airflow.params import ConfigurationSchema
from toposieve_airflow.profiles import parse_profile
from toposieve_airflow.tf_spawner.manifests import job_manifest
from toposieve_airflow.tf_spawner.operator import TFSpawnerOperator
from toposieve_airflow.tf_spawner.pod_defaults import GPU, hardened

GPU_NODES = {
    "accelerator": "gpu",
    "accelerator_count": 2,
    "runtime_class": "nvidia",
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "reserved", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 7}],
    "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
}


def gang(task_id: str, **changes: Any) -> TFSpawnerOperator:
    """The operator of a task under the profile kubernetes with these changes of its section gang."""
    path = CONFIG_FOLDER / "kubernetes.yaml"
    values = yaml.safe_load(path.read_text())
    values["kubernetes"]["gang"] |= changes
    tasks = KubernetesTasks(parse_profile(values, path, REPOSITORY), ConfigurationSchema.load(CONFIG_FOLDER))
    step = {"arguments": [], "workers": 2}
    return tasks.gang_operator(**tasks._gang(task_id), step=step)  # type: ignore[return-value]


def pod_spec(operator: TFSpawnerOperator) -> dict[str, Any]:
    job = job_manifest(*operator.pod_and_gang(TaskInstance().context()))
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize(("queue", "waits_in_the_triggerer"), [(None, False), ("training", True)])
def test_gangs_in_a_queue_take_no_worker_of_airflow(queue: str | None, waits_in_the_triggerer: bool) -> None:
    assert gang("train", queue=queue).deferrable is waits_in_the_triggerer


def test_workers_run_on_the_nodes_that_the_profile_says() -> None:
    spec = pod_spec(gang("train", **GPU_NODES))
    assert spec["containers"][0]["resources"]["limits"][GPU] == "2"
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert GPU_NODES["tolerations"][0] in spec["tolerations"]
    assert spec["affinity"].keys() == {"podAffinity", "podAntiAffinity"}


def test_the_evaluation_takes_no_gpu_from_those_who_train() -> None:
    assert pod_spec(gang("evaluate", **GPU_NODES)) == pod_spec(gang("evaluate"))


def test_spark_pods_are_given_up_with_their_node_as_soon_as_workers() -> None:
    pod = yaml.safe_load((CONFIG_FOLDER / "spark-pod.yaml").read_text())
    assert pod["spec"]["tolerations"] == hardened({"containers": []})["tolerations"]
