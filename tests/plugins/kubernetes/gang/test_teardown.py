from types import SimpleNamespace

import pytest

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.gang import teardown
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.gang.teardown import GangTeardownOperator


@pytest.mark.parametrize("instance", [None, "ours"])
def test_it_removes_by_the_labels_that_the_runs_gangs_carry(
    monkeypatch: pytest.MonkeyPatch, instance: str | None
) -> None:
    removed: list[str] = []

    class Cluster:
        def __init__(self, client: object, namespace: str) -> None:
            assert namespace == "toposieve"

        def find_jobs(self, selector: str) -> list[object]:
            return []

        def remove(self, selector: str) -> None:
            removed.append(selector)

    monkeypatch.setattr(teardown, "GangCluster", Cluster)
    monkeypatch.setattr(teardown, "KubernetesHook", lambda *_, **__: SimpleNamespace(api_client=None))
    # A run's name is no valid label: Airflow cuts it and adds a hash.
    task = TaskInstance(task_id="clean_up", run_id="manual__2026-01-01T00:00:00+00:00")
    cluster = {"namespace": "toposieve", "kubernetes_conn_id": "a", "instance": instance}
    GangTeardownOperator(task_id="clean_up", **cluster).execute(task.context())
    spawner = TFSpawnerOperator(task_id="train", namespace="toposieve", image="a", instance=instance)
    labels = spawner.pod_and_gang(TaskInstance(run_id=task.run_id).context())[1].all_labels
    wanted = dict(part.split("=") for part in removed[0].split(","))
    assert wanted.items() <= labels.items()
    keys = {"dag_id", "run_id", "app.kubernetes.io/managed-by"}
    assert wanted.keys() == (keys if instance is None else {*keys, "toposieve/instance"})
