import logging

import pytest

from toposieve_airflow.contract.outputs import JobLog, with_run
from toposieve_airflow.contract.step import Step


@pytest.mark.parametrize("run", ["/data/models/hlf/1a2b", "s3://lhc/models/hlf/1a2b", "hdfs://name:8020/a b/1a2b"])
def test_a_run_is_found_in_its_log_wherever_it_lies(step: Step, run: str) -> None:
    log = JobLog(logging.getLogger("task"))
    log(f"2026-01-01 12:00:00,000 INFO train: training hlf on x, results in {run}")
    assert with_run({**step, "run_in_log": True}, log.runs)["outputs"] == [run]


def test_each_worker_logs_under_its_own_name(caplog: pytest.LogCaptureFixture) -> None:
    log = JobLog(logging.getLogger("task"))
    with caplog.at_level(logging.INFO):
        for line in ("[worker 1] 100 % done", "[worker 12] results in /data/models/hlf/1a2b", "alone"):
            log(line)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("toposieve.worker.1", "[worker 1] 100 % done"),
        ("toposieve.worker.12", "[worker 12] results in /data/models/hlf/1a2b"),
        ("task", "alone"),
    ]
    assert log.runs == ["/data/models/hlf/1a2b"]


@pytest.mark.parametrize("line", ["no results in sight", "results in 3 folders"])
def test_other_lines_name_no_run(line: str) -> None:
    log = JobLog(logging.getLogger("task"))
    log(line)
    assert log.runs == []


def test_what_a_job_has_compared_is_kept() -> None:
    log = JobLog(logging.getLogger("task"))
    log("2026-01-01 00:00:00,000 INFO publish_model: version 2 of topology:")
    assert log.comparison is None
    log('2026-01-01 00:00:00,000 INFO publish_model: comparison: {"version": 2, "changes": [{"what": "AUC"}]}')
    assert log.comparison == {"version": 2, "changes": [{"what": "AUC"}]}
