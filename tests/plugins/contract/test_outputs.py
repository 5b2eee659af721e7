import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.airflow_environment import CONFIG_FOLDER
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.outputs import (
    RUN_KEY,
    JobLog,
    OutputError,
    check_outputs,
    name_run,
    with_run,
    with_trained,
)
from toposieve_airflow.profile import load_profile
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.steps import Step

CONFIG = {"jet_pt_min": 30.0}


@pytest.fixture
def real_jobs() -> JobsEnvironment:
    """The jobs' own environment, which has the true check."""
    profile = load_profile(CONFIG_FOLDER)
    return JobsEnvironment(str(profile.python), profile.job_environment())


@pytest.fixture
def folder(step: Step) -> Path:
    """Output folder with a manifest that lists one file of five bytes."""
    folder = Path(step["outputs"][0])
    folder.mkdir()
    (folder / "a.parquet").write_bytes(b"12345")
    output = {"path": "a.parquet", "bytes": 5, "checksum": "00000000"}
    unit = {"source": "a", "source_checksum": "", "entry_start": 0, "entry_stop": 1, "counts": {}, "outputs": [output]}
    manifest: dict[str, Any] = {"stage": "select", "config_hash": "", "config": CONFIG, "units": [unit]}
    (folder / "manifest-000001.json").write_text(json.dumps(manifest | {"code_version": ""}))
    step["config"] = CONFIG
    return folder


def test_the_jobs_own_check_has_the_last_word(step: Step, folder: Path, real_jobs: JobsEnvironment) -> None:
    (folder / "cutflow.json").write_text('{"qcd": {"events": 5}}')
    assert check_outputs(step, real_jobs, ["cutflow.json"]) == {"cutflow.json": {"qcd": {"events": 5}}}
    (folder / "a.parquet").write_bytes(b"123")
    step["files"] = ["report.html"]
    with pytest.raises(OutputError) as caught:
        check_outputs(step, real_jobs)
    assert str(caught.value).splitlines() == [
        f"{folder}/a.parquet has 3 bytes where its manifest says 5",
        f"{folder}/report.html is missing, though the job says that it is done",
    ]


def test_a_check_that_cannot_be_made_is_no_success(step: Step, jobs: JobsEnvironment) -> None:
    step["files"] = ["report.html"]
    with pytest.raises(OutputError, match=r"No module named .toposieve"):
        check_outputs(step, replace(jobs, variables={}))


def test_step_without_promises_needs_no_check(step: Step) -> None:
    check_outputs(step, JobsEnvironment("/no/such/python"))


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


@pytest.mark.parametrize("base", ["/data", "s3://lhc", "hdfs://name:8020/a b"])
def test_a_training_names_its_run_as_evaluation_takes_it(step: Step, base: str) -> None:
    instance = TaskInstance()
    trained: Step = {**step, "label": "hlf", "run_in_log": True, "outputs": [f"{base}/models/hlf/1a2b"]}
    name_run(trained, instance.context())
    assert instance.xcoms == {RUN_KEY: "hlf=models/hlf/1a2b"}
    name_run(step, {})  # type: ignore[typeddict-item]


def test_evaluation_gets_trees_beside_networks(step: Step) -> None:
    pulled = {("train", RUN_KEY): ["a=models/hlf/1"], ("train_trees", RUN_KEY): ["b=models/xgboost/2", None]}
    given = with_trained({**step, "runs": ["a", "b", "c"]}, TaskInstance(pulled=pulled).context())["arguments"]
    assert given[-5:] == ["--labels", "a=models/hlf/1", "b=models/xgboost/2", "--missing", "c"]


@pytest.mark.parametrize(
    ("found", "more"),
    [
        (["a=models/hlf/1", "b=models/gru/2"], ["--labels", "a=models/hlf/1", "b=models/gru/2"]),
        (["b=models/gru/2"], ["--labels", "b=models/gru/2", "--missing", "a"]),
        ([None], ["--missing", "a", "b"]),
    ],
)
def test_evaluation_gets_the_runs_that_trainings_name(step: Step, found: list[str | None], more: list[str]) -> None:
    instance = TaskInstance(pulled={("train", RUN_KEY): found})
    given = with_trained({**step, "runs": ["a", "b"]}, instance.context())["arguments"]
    assert given == [*step["arguments"], *more]
    assert with_trained(step, {}) == step  # type: ignore[typeddict-item]


def test_what_a_job_has_compared_is_kept() -> None:
    log = JobLog(logging.getLogger("task"))
    log("2026-01-01 00:00:00,000 INFO publish_model: version 2 of topology:")
    assert log.comparison is None
    log('2026-01-01 00:00:00,000 INFO publish_model: comparison: {"version": 2, "changes": [{"what": "AUC"}]}')
    assert log.comparison == {"version": 2, "changes": [{"what": "AUC"}]}
