import json
import subprocess
import sys

import pytest

from support.airflow_environment import ENVIRONMENT, REPOSITORY

LIMIT_S = 0.5

MEASURE = """
import json, sys, time
import airflow.sdk
from airflow.sdk import Asset, BaseOperator, CronPartitionTimetable, DAG, Param, PartitionedAssetTimetable
import airflow.providers.apache.spark.operators.spark_submit
DAG
before = set(sys.modules)
started = time.process_time()
import runpy
runpy.run_path(sys.argv[1])
print(json.dumps([time.process_time() - started, sorted(set(sys.modules) - before)]))
"""


@pytest.mark.parametrize("name", ["topology_classifier", "build_dataset", "simulate_events"])
def test_a_dag_adds_little_to_airflow_and_its_providers(name: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(REPOSITORY / "dags" / f"{name}.py")]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(REPOSITORY / "plugins")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, modules = json.loads(result.stdout.splitlines()[-1])
    assert seconds < LIMIT_S
    heavy = {module.partition(".")[0] for module in modules} & {"numpy", "pandas", "pyspark", "tensorflow", "toposieve"}
    assert not heavy
