import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import support.airflow_environment  # noqa: F401  makes the settings that airflow reads when it is imported

if TYPE_CHECKING:
    from toposieve_airflow.contract.step import Step
    from toposieve_airflow.runs.jobs_environment import JobsEnvironment

CHECKER = """
import json, sys
from pathlib import Path
for folder in json.loads(sys.argv[1])["outputs"]:
    if not Path(folder, "manifest-000001.json").exists():
        sys.exit(f"error: {folder} has no manifest")
"""
"""In place of the jobs' own check, which needs their environment."""


@pytest.fixture
def jobs(tmp_path: Path) -> "JobsEnvironment":
    """An environment of jobs in which output is good if it has a manifest."""
    from toposieve_airflow.runs.jobs_environment import JobsEnvironment

    library = tmp_path / "library" / "toposieve"
    library.mkdir(parents=True)
    (library / "check_outputs.py").write_text(CHECKER)
    return JobsEnvironment(sys.executable, {"PYTHONPATH": str(library.parent), "GIVEN": "yes"})


@pytest.fixture
def step(tmp_path: Path) -> "Step":
    """A step whose output folder is empty and promises nothing."""
    from toposieve_airflow.contract.step import STEP_VERSION

    return {
        "version": STEP_VERSION,
        "label": "2026-01-01",
        "arguments": ["--base", str(tmp_path)],
        "inputs": [str(tmp_path / "raw")],
        "outputs": [str(tmp_path / "events")],
        "config": {},
        "files": [],
        "run_in_log": False,
        "workers": 1,
    }


@pytest.fixture
def make_script(tmp_path: Path):
    """Write an executable Python script and return its path."""

    def make(text: str, name: str = "job.py") -> str:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a file and return its path."""

    def make(content: str | bytes, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make
