from collections import Counter
from inspect import signature

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.kubernetes.gang.parameters import AIRFLOW, POD, REFUSED


def test_each_parameter_of_the_provider_is_in_one_class_and_no_other() -> None:
    """After an upgrade: find out what a new one does, and put it where it belongs."""
    known = signature(KubernetesPodOperator.__init__).parameters.keys() - {"self", "kwargs"}
    assert Counter([*POD, *AIRFLOW, *REFUSED]) == Counter(known)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_a_gang_would_ignore_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"train: a gang does not know {name}: leave"):
        TFSpawnerOperator(task_id="train", image="a", **{name: object()})
