from typing import TYPE_CHECKING

import pytest

from support.dags import DAG_IDS, load_dags

if TYPE_CHECKING:
    from airflow.sdk import DAG


@pytest.fixture(scope="session")
def dags() -> "dict[str, DAG]":
    """Every DAG, by its name."""
    return load_dags()


@pytest.fixture(scope="session", params=DAG_IDS)
def dag(request: pytest.FixtureRequest, dags: "dict[str, DAG]") -> "DAG":
    """Each DAG in turn."""
    return dags[request.param]
