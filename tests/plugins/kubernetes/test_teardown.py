import pytest

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes import teardown
from toposieve_airflow.kubernetes.api.cluster import StillThere
from toposieve_airflow.kubernetes.gang.teardown import GangTeardownOperator
from toposieve_airflow.kubernetes.teardown import RunTeardownOperator


def test_gangs_go_too_even_if_a_driver_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []

    class Pods:
        def remove_pods(self, selector: str) -> None:
            removed.append(selector)
            raise StillThere("driver")

    monkeypatch.setattr(teardown, "spark_pods", lambda connection, namespace: Pods())
    monkeypatch.setattr(GangTeardownOperator, "execute", lambda self, context: removed.append("gangs"))
    with pytest.raises(StillThere):
        RunTeardownOperator(task_id="clean_up", namespace="here", kubernetes_conn_id="a", instance="ours").execute(
            TaskInstance().context()
        )
    labels = "app.kubernetes.io/managed-by=toposieve,dag_id=topology_classifier,run_id=manual__1"
    assert removed == [f"{labels},toposieve/instance=ours,toposieve/task", "gangs"]
