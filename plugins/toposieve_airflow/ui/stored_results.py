"""Results in a store, shown from a copy of the small documents that say what there is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from airflow.sdk.exceptions import AirflowFailException

from toposieve_airflow.contract.exits import error_line
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.ui.results import Results

FRESH_S = 60.0
"""Seconds until the store is looked at again, when a page is asked for."""


class StoredResults(Results):
    """Results in a store.

    Args:
        url: Where all data lies.
        jobs: The jobs' environment, which reads from any store.
        copy: A folder for the copy.
    """

    def __init__(self, url: str, jobs: JobsEnvironment, copy: Path) -> None:
        """Read nothing yet."""
        self._url = url
        self._jobs = jobs
        self._copying = threading.Lock()
        self._asked_at = float("-inf")
        super().__init__(copy)
        self.why = "it is being looked at just now"

    def are_here(self) -> bool:
        """Whether the store could be read the last time; who asks while somebody else reads it does not wait."""
        if time.monotonic() - self._asked_at > FRESH_S and self._copying.acquire(blocking=False):
            try:
                self.why = self._copy_documents()
                self._asked_at = time.monotonic()
            finally:
                self._copying.release()
        return not self.why

    def _copy_documents(self) -> str:
        """Bring the copy up to date; returns what is in the way of that."""
        try:
            result = self._jobs.run_module("toposieve.copy_documents", self._url, str(self.base))
        except AirflowFailException as error:
            return str(error)
        return "" if result.returncode == 0 else error_line(result.stderr.splitlines())
