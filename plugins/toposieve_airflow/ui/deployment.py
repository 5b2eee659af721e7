"""The deployment whose results are shown: its profile, and what the repository says of stages and samples."""

from __future__ import annotations

import atexit
import runpy
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from airflow.configuration import conf

from toposieve_airflow.contract.exits import error_line
from toposieve_airflow.profile import is_url, load_profile
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.params import ConfigurationSchema
from toposieve_airflow.ui.results import Results
from toposieve_airflow.ui.stored_results import StoredResults


class StoreError(Exception):
    """What lies in a store cannot be read from here; the message says why, as the jobs say it."""


@dataclass(frozen=True)
class Deployment:
    """What the pages show.

    Attributes:
        base: Where all data lies, as the profile says it.
        results: What can be seen of it from here.
        samples: Those that a day should have.
        code_numbers: Stage → number of its code today.
        jobs: The jobs' environment, which reads from any store.
        links: Name → address of what else shows runs.
    """

    base: str
    results: Results
    samples: Sequence[str]
    code_numbers: Mapping[str, int]
    jobs: JobsEnvironment
    links: Mapping[str, str]

    @property
    def is_in_store(self) -> bool:
        """Whether the data lies in a store rather than on a disk."""
        return is_url(self.base)

    def read_text(self, path: str) -> str:
        """A text below the base, from its store.

        Raises:
            StoreError: It is not there, or the store cannot be reached with the credentials at hand.
            CredentialsError: A connection is not as the jobs need it.
        """
        result = self.jobs.run_module("toposieve.read_object", f"{self.base}/{path}")
        if result.returncode != 0:
            raise StoreError(error_line(result.stderr.splitlines()))
        return result.stdout


@cache
def deployment() -> Deployment:
    """The one of this Airflow; its profile is read once.

    Raises:
        ProfileError: The profile is missing or wrong.
    """
    config_folder = Path(conf.get_mandatory_value("core", "dags_folder")) / "config"
    profile = load_profile(config_folder)
    samples = ConfigurationSchema.load(config_folder).samples().value
    links = {name: str(address) for name, address in profile.links.items()}
    jobs = JobsEnvironment(str(profile.python), profile.job_environment(), profile.connections.given())
    results = _stored(profile.base, jobs) if is_url(profile.base) else Results(Path(profile.base))
    return Deployment(profile.base, results, samples, _code_numbers(profile.jobs), jobs, links)


def _stored(url: str, jobs: JobsEnvironment) -> StoredResults:
    copy = tempfile.mkdtemp(prefix="toposieve-")
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    return StoredResults(url, jobs, Path(copy))


def _code_numbers(jobs: Path) -> Mapping[str, int]:
    """As the jobs' library has them, in a module that needs nothing; without it, no code is called another one."""
    path = jobs / "toposieve" / "code_numbers.py"
    numbers: Mapping[str, int] = runpy.run_path(str(path))["CODE_NUMBERS"] if path.is_file() else {}
    return numbers
