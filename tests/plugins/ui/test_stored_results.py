import sys
import threading
from pathlib import Path

import pytest

from support.ui_results import metrics, write_report
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.ui import stored_results
from toposieve_airflow.ui.stored_results import StoredResults


class Jobs(JobsEnvironment):
    """A jobs' environment whose copies are made by a function."""

    def run_module(self, module, *arguments):
        from subprocess import CompletedProcess

        assert module == "toposieve.copy_documents"
        self.variables["copy"](*arguments)
        return CompletedProcess([], 0, "", "")


def test_the_store_is_looked_at_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(("a", "b"))
    copy = {"copy": lambda url, folder: write_report(Path(folder), metrics(next(names)))}
    results = StoredResults("s3://lhc/x", Jobs("", copy), tmp_path)
    assert [results.are_here(), results.are_here()] == [True, True]
    assert [written.report.report for written in results.reports()] == ["a"]
    monkeypatch.setattr(stored_results, "FRESH_S", -1)
    assert results.are_here()
    assert [written.report.report for written in results.reports()] == ["a", "b"]


def test_nobody_waits_for_another_who_reads_the_store(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    results = StoredResults("s3://lhc/x", Jobs("", {"copy": lambda *_: (begun.set(), go_on.wait(30))}), tmp_path)
    first = threading.Thread(target=results.are_here)
    first.start()
    assert begun.wait(30)
    assert not results.are_here()
    assert "just now" in results.why
    go_on.set()
    first.join()
    assert results.are_here()


def test_without_the_jobs_environment_it_says_so(tmp_path: Path) -> None:
    results = StoredResults("s3://lhc/x", JobsEnvironment("/no/such/python"), tmp_path)
    assert not results.are_here()
    assert "/no/such/python: No such file or directory" in results.why


def test_a_connection_that_is_not_there_is_named(tmp_path: Path) -> None:
    results = StoredResults("s3://lhc/x", JobsEnvironment(sys.executable, connections={"s3": "none"}), tmp_path)
    assert not results.are_here()
    assert "Airflow has no connection none" in results.why
