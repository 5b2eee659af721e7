"""The profile for YARN. That its settings do what they say is tested on a real YARN, in integration/storage."""

import pytest

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.dags import load_dags
from toposieve_airflow.profile import PROFILE_VARIABLE, load_profile


def test_it_can_be_read_and_keeps_all_data_on_hdfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "yarn")
    profile = load_profile(CONFIG_FOLDER)
    assert profile.spark.master == "yarn"
    assert profile.places() == {"base": "hdfs://NAMENODE:8020/toposieve"}
    assert profile.spark.conf["spark.yarn.dist.archives"].count(profile.base) == 2


def test_the_driver_runs_in_the_environment_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "yarn")
    ingest = load_dags()["build_dataset"].get_task("ingest")
    assert ingest.partial_kwargs["conf"]["spark.pyspark.driver.python"] == str(REPOSITORY / ".venv-jobs/bin/python")
