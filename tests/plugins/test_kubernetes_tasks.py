import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.kubernetes_tasks import KubernetesTasks
from toposieve_airflow.params import ConfigurationSchema
from toposieve_airflow.profiles import parse_profile
from toposieve_airflow.tf_spawner.pod_defaults import hardened


@pytest.mark.parametrize(("queue", "waits_in_the_triggerer"), [(None, False), ("training", True)])
def test_gangs_in_a_queue_take_no_worker_of_airflow(queue: str | None, waits_in_the_triggerer: bool) -> None:
    path = CONFIG_FOLDER / "kubernetes.yaml"
    values = yaml.safe_load(path.read_text())
    values["kubernetes"]["gang"]["queue"] = queue
    tasks = KubernetesTasks(parse_profile(values, path, REPOSITORY), ConfigurationSchema.load(CONFIG_FOLDER))
    step = {"arguments": [], "workers": 2}
    assert tasks.gang_operator(**tasks._gang("train"), step=step).deferrable is waits_in_the_triggerer


def test_spark_pods_are_given_up_with_their_node_as_soon_as_workers() -> None:
    pod = yaml.safe_load((CONFIG_FOLDER / "spark-pod.yaml").read_text())
    assert pod["spec"]["tolerations"] == hardened({"containers": []})["tolerations"]
