import re

import pytest

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.kubernetes.api.ownership import work_name

KEY = {"dag_id": "topology_classifier", "run_id": "manual__1", "task_id": "train", "map_index": 0, "try_number": 1}


def test_every_try_has_a_name_of_its_own() -> None:
    others = {"dag_id": "a", "run_id": "b", "task_id": "c", "map_index": 1, "try_number": 2}
    instances = [TaskInstance(**KEY), *(TaskInstance(**KEY | {key: value}) for key, value in others.items())]
    assert len({work_name(ti, instance) for ti in instances for instance in (None, "theirs")}) == 12
    assert work_name(TaskInstance(**KEY), None) == work_name(TaskInstance(**KEY), None)


@pytest.mark.parametrize("task_id", ["train", "group.train_the_MODEL", "3_fits", "x" * 200, "__", "ä" * 9])
def test_names_are_valid_host_names(task_id: str) -> None:
    name = work_name(TaskInstance("dag", task_id, "run", map_index=12, try_number=123), None)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 52
