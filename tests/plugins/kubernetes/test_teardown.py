from types import SimpleNamespace

import pytest

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes import teardown
from toposieve_airflow.kubernetes.api.cluster import StillThere
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.teardown import RunTeardownOperator

# A run's name is no valid label: Airflow cuts it and adds a hash.
RUN = "manual__2026-01-01T00:00:00+00:00"


class Cluster:
    """Gangs and pods that are asked for, in order; pods stay where they are."""

    removed: list[str]

    def __init__(self, client: object, namespace: str) -> None:
        assert namespace == "here"

    def find_jobs(self, selector: str) -> list[object]:
        return []

    def remove(self, selector: str) -> None:
        self.removed.append(selector)

    def remove_pods(self, selector: str) -> None:
        self.removed.append(selector)
        raise StillThere("driver")


@pytest.mark.parametrize("instance", [None, "ours"])
def test_it_removes_by_the_labels_of_the_run_and_gangs_even_if_a_driver_stays(
    monkeypatch: pytest.MonkeyPatch, instance: str | None
) -> None:
    monkeypatch.setattr(Cluster, "removed", [], raising=False)
    for name in ("GangCluster", "SparkPods"):
        monkeypatch.setattr(teardown, name, Cluster)
    monkeypatch.setattr(teardown, "KubernetesHook", lambda *_, **__: SimpleNamespace(api_client=None))
    clean_up = RunTeardownOperator(task_id="clean_up", namespace="here", kubernetes_conn_id="a", instance=instance)
    with pytest.raises(StillThere):
        clean_up.execute(TaskInstance(task_id="clean_up", run_id=RUN).context())
    drivers, gangs = Cluster.removed
    assert drivers == f"{gangs},toposieve/task"
    spawner = TFSpawnerOperator(task_id="train", namespace="here", image="a", instance=instance)
    labels = spawner.pod_and_gang(TaskInstance(run_id=RUN).context())[1].all_labels
    wanted = dict(part.split("=") for part in gangs.split(","))
    assert wanted.items() <= labels.items()
    keys = {"dag_id", "run_id", "app.kubernetes.io/managed-by"}
    assert wanted.keys() == (keys if instance is None else {*keys, "toposieve/instance"})
