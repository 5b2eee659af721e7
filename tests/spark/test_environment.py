import os
import sys

import pytest

from toposieve.spark.environment import FOREIGN, JOBS_FOLDER, ignored, own_environment

SHELL = {name: "/opt/none" for name in FOREIGN}


def test_a_job_started_by_hand_has_its_own_spark_and_python_and_names_what_it_ignores() -> None:
    made = own_environment(SHELL, is_local=True)
    assert "/opt/none" not in made.values()
    assert made["PYSPARK_PYTHON"] == made["PYSPARK_DRIVER_PYTHON"] == sys.executable
    assert made["SPARK_CONF_DIR"] == f"{made['SPARK_HOME']}/conf"
    assert ignored(SHELL, made) == list(FOREIGN)


def test_nothing_is_said_of_a_clean_shell() -> None:
    assert ignored({}, own_environment({}, is_local=True)) == []


def test_under_spark_submit_the_submitters_settings_stand() -> None:
    given = {**SHELL, "PYSPARK_GATEWAY_PORT": "1", "SPARK_LOCAL_IP": "203.0.113.1"}
    made = own_environment(given, is_local=True)
    assert {name: made[name] for name in given} == given
    assert ignored(given, made) == []


@pytest.mark.parametrize("name", ["HADOOP_CONF_DIR", "SPARK_SUBMIT_OPTS", "PYSPARK_SUBMIT_ARGS", "AWS_ACCESS_KEY_ID"])
def test_settings_of_stores_and_of_the_submission_are_obeyed(name: str) -> None:
    assert own_environment({name: "given"}, is_local=True)[name] == "given"


def test_only_a_local_job_stays_on_the_loopback_address() -> None:
    given = {"SPARK_LOCAL_IP": "203.0.113.1"}
    assert own_environment(given, is_local=True)["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert own_environment(given, is_local=False) == {**own_environment({}, is_local=False), **given}


def test_this_library_comes_first_in_the_path_of_python() -> None:
    made = own_environment({"PYTHONPATH": "/opt/none"}, is_local=True)
    assert made["PYTHONPATH"].split(os.pathsep) == [str(JOBS_FOLDER), "/opt/none"]
