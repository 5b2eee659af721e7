"""What all tests share. Importable in both environments: import pyspark, airflow and the like inside the fixtures."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from support.failures import remember_failure
from support.servers.fixtures import (  # noqa: F401  # fixtures
    _servers,
    hdfs_server,
    kafka_broker,
    s3_server,
    xrootd_server,
    yarn_server,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TESTS = Path(__file__).parent
GOLDEN_FOLDER = TESTS / "golden"
DELPHES_VARIABLE = "TOPOSIEVE_TEST_DELPHES"

# The same examples in every run, and no time limit: kernels compile on their first call.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write tests/golden anew from what the code gives now; then read the diff",
    )
    parser.addoption(
        "--faults",
        choices=["today", "all"],
        default="today",
        help="which tests marked faults to run: those of today's share, and those that the code has not borne, or all",
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what has failed in CI, and why, where some tests are tried twice: its last lines say it."""
    if report.failed and os.environ.get("CI"):
        crash = getattr(report.longrepr, "reprcrash", None)
        lines = str(crash.message if crash else report.longrepr).split("\n")
        remember_failure(f"{report.nodeid} ({report.when}): " + " | ".join(lines[:2] + lines[2:][-2:])[:500])


@pytest.fixture(scope="session")
def spark() -> "Iterator[SparkSession]":
    """The one Spark session of all tests; jobs that run in this process find it and leave it running."""
    from toposieve.spark.session import spark_session

    with pytest.MonkeyPatch.context() as patch:
        # Tasks import handlers from tests/support.
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])))
        with spark_session("tests", master="local[2]") as session:
            yield session


@pytest.fixture(scope="session")
def delphes_file() -> Path:
    """A true Delphes file, with split branches and without MuonTight; in CI there must be one."""
    path = os.environ.get(DELPHES_VARIABLE)
    if path:
        return Path(path)
    remedy = f"left out: set {DELPHES_VARIABLE} to the path of a true Delphes ROOT file, which this test reads"
    return pytest.fail(remedy, pytrace=False) if os.environ.get("CI") else pytest.skip(remedy)


@pytest.fixture(scope="session")
def flat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for a true Delphes file where there is none: as many branches and events, but flat ones."""
    from support.delphes_files import write_wide
    from support.events import random_events

    return write_wide(tmp_path_factory.mktemp("delphes") / "flat.root", random_events(seed=9, n=25, particles=30))


@pytest.fixture(params=["delphes_file", "flat_file"])
def wide_file(request: pytest.FixtureRequest) -> Path:
    """A file of 1,138 branches: a true one, and one that is written."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with a file in tests/golden, or write that file if ``--update-golden`` is given."""

    def check(name: str, text: str) -> None:
        path = GOLDEN_FOLDER / name
        if request.config.getoption("--update-golden"):
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest with --update-golden"
        assert text == path.read_text(), f"{path} differs: if that is meant, run pytest with --update-golden"

    return check
