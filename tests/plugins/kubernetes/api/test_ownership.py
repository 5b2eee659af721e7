import re

import pytest

from toposieve_airflow.kubernetes.api.ownership import work_name


def test_every_try_has_a_name_of_its_own() -> None:
    key = ("topology_classifier", "manual__1", "train", 0, 1)
    others = [("a", *key[1:]), (key[0], "b", *key[2:]), (*key[:2], "c", 0, 1), (*key[:3], 1, 1), (*key[:4], 2)]
    assert len({work_name(*each) for each in (key, *others)}) == 6
    assert work_name(*key) == work_name(*key)


@pytest.mark.parametrize("task_id", ["train", "group.train_the_MODEL", "3_fits", "x" * 200, "__", "ä" * 9])
def test_names_are_valid_host_names(task_id: str) -> None:
    name = work_name("dag", "run", task_id, 12, 123)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 52
