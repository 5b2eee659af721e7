import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.kubernetes_tasks import KubernetesTasks
from toposieve_airflow.params import ConfigurationSchema
from toposieve_airflow.profiles import parse_profile


@pytest.mark.parametrize(("queue", "waits_in_the_triggerer"), [(None, False), ("training", True)])
def test_gangs_in_a_queue_take_no_worker_of_airflow(queue: str | None, waits_in_the_triggerer: bool) -> None:
    path = CONFIG_FOLDER / "kubernetes.yaml"
    values = yaml.safe_load(path.read_text())
    values["kubernetes"]["gang"]["queue"] = queue
    tasks = KubernetesTasks(parse_profile(values, path, REPOSITORY), ConfigurationSchema.load(CONFIG_FOLDER))
    step = {"arguments": [], "workers": 2}
    assert tasks.gang_operator(**tasks._gang("train"), step=step).deferrable is waits_in_the_triggerer
