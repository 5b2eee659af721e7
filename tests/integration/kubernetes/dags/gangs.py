"""A DAG of two gangs of tiny pods, and the task that removes what they may leave."""

import os
from datetime import timedelta

from airflow.sdk import DAG

from toposieve_airflow.tf_spawner.operator import TFSpawnerOperator
from toposieve_airflow.tf_spawner.teardown import GangTeardownOperator

COUNT = """
import time
for i in range({{ params.steps }}):
    print("step", i)
    time.sleep(.5)
"""
NAMESPACE = os.environ["TOPOSIEVE_TEST_NAMESPACE"]


def step(label: str) -> dict[str, object]:
    """What a gang is to do."""
    nothing: dict[str, object] = {"inputs": [], "outputs": [], "config": {}, "files": [], "run_in_log": False}
    return {"label": label, "arguments": [COUNT, label], "workers": 2, "wanted": True, **nothing}


with DAG("gangs", schedule=None, params={"steps": 4}):
    train = TFSpawnerOperator.partial(
        task_id="train",
        namespace=NAMESPACE,
        image=os.environ["TOPOSIEVE_TEST_IMAGE"],
        cmds=["python3", "-u", "-c"],
        startup_timeout_seconds=60,
        retries=2,
        retry_delay=timedelta(seconds=1),
        map_index_template="{{ task.step.label }}",
    ).expand(step=[step("hlf"), step("inclusive")])
    train >> GangTeardownOperator(task_id="clean_up", namespace=NAMESPACE).as_teardown()
