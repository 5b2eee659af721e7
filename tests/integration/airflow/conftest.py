"""One real Airflow for all tests here: its home, data and profile in a temporary folder."""

from collections.abc import Iterator

import pytest
import yaml

from support.airflow_environment import CONFIG_FOLDER
from support.real_airflow import RealAirflow, real_airflow
from toposieve_demo.airflow_home import USER


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealAirflow]:
    folder = tmp_path_factory.mktemp("airflow")
    values = yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())
    values["base"] = str(folder / "work")
    values["spark"]["master"] = "local[1]"  # two days at a time, in place of two cores for one
    values["pools"]["spark"]["slots"] = 2
    # Who is asked has to answer within a minute, and nobody waits for longer.
    values["approval"] = {"hours": 0.015, "users": [USER]}
    users = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,eve:op"}
    with real_airflow(folder, values, **users) as airflow:
        yield airflow
