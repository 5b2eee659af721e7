"""The jobs' own Python environment, as Airflow's tasks use it: for the jobs, and for the commands that check things."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow.sdk.exceptions import AirflowFailException

from toposieve_airflow.runs.credentials import credentials


@dataclass(frozen=True)
class JobsEnvironment:
    """How a job is started beside Airflow.

    Attributes:
        python: Python of the jobs' environment.
        variables: Environment variables on top of Airflow's own.
        connections: Kind of store → Airflow connection with its credentials.
    """

    python: str
    variables: Mapping[str, str] = field(default_factory=dict)
    connections: Mapping[str, str] = field(default_factory=dict)

    def own_variables(self) -> dict[str, str]:
        """Environment variables on top of Airflow's own, credentials included; for a process, and for nothing else.

        Raises:
            CredentialsError: A connection is not as the jobs need it.
        """
        return {**self.variables, **credentials(self.connections)}

    def run_module(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module of the jobs' library to its end.

        Raises:
            CredentialsError: A connection is not as the jobs need it.
            AirflowFailException: There is no such Python.
        """
        environment = {**os.environ, **self.own_variables()}
        command = [self.python, "-m", module, *arguments]
        try:
            return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        except OSError as error:
            raise self.missing(error) from None

    def missing(self, error: OSError) -> AirflowFailException:
        """What to say where there is no such Python."""
        return AirflowFailException(
            f"{self.python}: {error.strerror}: build this environment (make env; for firmware, make firmware-env), or "
            "name its Python in the profile"
        )
