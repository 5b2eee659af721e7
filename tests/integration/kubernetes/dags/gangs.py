"""DAGs with the profile's own tasks: gangs of tiny pods that count, at once or from a queue, a driver that does so, and
real training."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from toposieve_airflow.contract.step import STEP_VERSION, RunSteps, Step
from toposieve_airflow.kubernetes.gang.operator import TFSpawnerOperator
from toposieve_airflow.profile import Profile
from toposieve_airflow.runs import params
from toposieve_airflow.runs.factory import MODEL_LABEL, form, tasks_for
from toposieve_airflow.runs.steps import Commands

COUNT = """
import time
for i in range({{ params.steps }}):
    print("step", i)
    time.sleep(.5)
"""
RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=1)}
SOON: dict[str, Any] = {"poll_interval": 0.5}
QUEUED: dict[str, Any] = {"gang_queue": "training", "deferrable": True, **SOON}

tasks = tasks_for(Path(__file__).parents[4] / "dags" / "config")


def count(label: str, *arguments: str) -> Step:
    """What somebody who counts is to do."""
    nothing: dict[str, Any] = {"inputs": [], "outputs": [], "config": {}, "files": [], "run_in_log": False}
    return {"version": STEP_VERSION, "label": label, "arguments": [*arguments], "workers": 2, **nothing}


def train(commands: Commands, values: Mapping[str, Any], key: str | None, profile: Profile) -> RunSteps:
    """What the gangs that train are to do."""
    steps = [commands.train("small", model, profile.training.startup_timeout_s) for model in values["models"]]
    return {"days": [], "train": steps}


def counting(dag_id: str, **options: Any) -> None:
    """Make a DAG of two gangs of tiny pods."""
    pods = {"image": os.environ["TOPOSIEVE_TEST_IMAGE"], "cmds": ["python3", "-u", "-c"]}
    with DAG(dag_id, schedule=None, params={"steps": 4}):
        gangs = TFSpawnerOperator.partial(
            **tasks._gang("train") | pods | RETRIES | options, map_index_template=MODEL_LABEL
        ).expand(step=[count(label, COUNT, label) for label in ("hlf", "inclusive")])
        gangs >> tasks.clean_up()


counting("counting", deferrable=False, **SOON)
counting("queued", **QUEUED)

with DAG("driver", schedule=None, params={"steps": 4}):
    application = {"application": f"local://{tasks.profile.base}/count.py"}
    step = count("driver", "{{ params.steps }}")
    tasks.spark_operator(**tasks._spark("simulate") | application | RETRIES, step=step) >> tasks.clean_up()

stages = ("training",)
choices = {"models": tasks.schema.models(), "workers": params.workers_param()}
with DAG("training", schedule=None, params=form(choices, tasks.schema.stage_params(stages))):
    plan = tasks.plan(stages, train)
    (
        plan
        >> tasks.gang_per_model("train", tasks.listed("models", plan, "train"), **RETRIES, **QUEUED)
        >> tasks.clean_up()
    )
