import json
import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.contract.step import ANY_PARTITION, STEP_VERSION, Step
from toposieve_airflow.local.spark_job import SparkJobOperator
from toposieve_airflow.runs.announcements import RUN_KEY
from toposieve_airflow.runs.jobs_environment import JobsEnvironment


@pytest.fixture
def make_operator(make_script, step: Step, jobs: JobsEnvironment, monkeypatch: pytest.MonkeyPatch):
    """An operator whose spark-submit is a script."""
    operators: list[SparkJobOperator] = []
    for name in jobs.variables:  # which a task leaves in its process
        monkeypatch.setenv(name, "")

    def make(text: str, **options: Any) -> SparkJobOperator:
        operator = SparkJobOperator(
            task_id="ingest",
            application="jobs/ingest.py",
            conn_id="spark_local",
            spark_binary=make_script(text, "spark-submit"),
            step=step,
            jobs=jobs,
            **options,
        )
        operators.append(operator)
        return operator

    yield make
    for operator in operators:  # the provider's hook leaves the pipe open, which is a warning in a long-lived process
        if operator._hook is not None and operator._hook._submit_sp is not None:
            operator._hook._submit_sp.stdout.close()


def test_job_gets_its_arguments_and_environment(make_operator, step: Step, tmp_path: Path) -> None:
    note = tmp_path / "note"
    operator = make_operator(
        f"import json, os, sys\njson.dump([sys.argv[1:], os.environ['GIVEN']], open({str(note)!r}, 'w'))",
        name="toposieve-ingest",
    )
    operator.execute({})
    arguments, given = json.loads(note.read_text())
    assert arguments == ["--master", "local[2]", "--name", "toposieve-ingest", "jobs/ingest.py", *step["arguments"]]
    assert given == "yes"


@pytest.mark.parametrize("version", [None, STEP_VERSION + 1])
def test_a_run_that_another_version_has_planned_is_told_what_to_do(
    make_operator, step: Step, version: int | None
) -> None:
    step["version"] = version  # type: ignore[typeddict-item]
    with pytest.raises(AirflowFailException, match=rf"of version {version}, not {STEP_VERSION}\): clear its task plan"):
        make_operator("").execute({})


def test_the_result_is_what_it_was_given(make_operator) -> None:
    assert make_operator("").execute({}) is None
    assert make_operator("", result=[{"label": "hlf"}]).execute({}) == [{"label": "hlf"}]


def test_log_says_where_input_and_output_are(make_operator, step: Step, capsys: pytest.CaptureFixture[str]) -> None:
    make_operator("").execute({})
    log = capsys.readouterr().out
    assert f"input: {step['inputs'][0]}" in log
    assert f"output: {step['outputs'][0]}" in log


def test_a_connection_that_is_missing_is_named_and_no_other_place_tried(
    make_operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_LOCAL")
    with pytest.raises(AirflowFailException, match="no connection spark_local, which says where Spark runs: add it"):
        make_operator("raise SystemExit('must not run')").execute({})


def test_exit_code_2_fails_without_retries_and_says_the_jobs_own_error(make_operator) -> None:
    text = "import sys\nprint('error: a.root: no tree Delphes')\nprint('26/01/01 INFO bye')\nsys.exit(2)"
    with pytest.raises(AirflowFailException) as caught:
        make_operator(text).execute({})
    assert str(caught.value) == "a.root: no tree Delphes"


def test_other_exit_codes_may_be_retried(make_operator) -> None:
    with pytest.raises(AirflowException, match=r"code is: 3(.|\n)*disk on fire") as caught:
        make_operator("import sys\nprint('disk on fire')\nsys.exit(3)").execute({})
    assert not isinstance(caught.value, AirflowFailException)


def test_a_run_that_only_the_log_names_is_passed_on_and_checked(make_operator, step: Step) -> None:
    run = Path(step["outputs"][0]) / "models" / "xgboost" / "1a2b"
    run.mkdir(parents=True)
    (run / "manifest-000001.json").touch()
    step |= {"label": "xgboost", "run_in_log": True, "config": {"seed": 1}}
    task = TaskInstance()
    make_operator(f"print('INFO train_trees: training xgboost on x, results in {run}')").execute(task.context())
    assert task.xcoms == {RUN_KEY: "xgboost=models/xgboost/1a2b"}
    with pytest.raises(OutputError, match="not where in"):
        make_operator("print('done')").execute(task.context())


def test_success_without_output_is_a_failure(make_operator, step: Step) -> None:
    step["config"] = {"seed": 1}
    with pytest.raises(OutputError, match="has no manifest"):
        make_operator("").execute({})


def test_a_step_of_any_partition_is_done_for_one(make_operator, step: Step, tmp_path: Path) -> None:
    note = tmp_path / "note"
    step |= {
        "arguments": ["--partition", ANY_PARTITION],
        "outputs": [f"{tmp_path}/{ANY_PARTITION}"],
        "config": {"a": 1},
    }
    operator = make_operator(f"import sys\nopen({str(note)!r}, 'w').write(sys.argv[-1])", partition="2026-03-04")
    with pytest.raises(OutputError, match="2026-03-04 has no manifest"):
        operator.execute({})
    assert note.read_text() == "2026-03-04"


def test_kill_ends_spark_submit_and_what_it_started(make_operator, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    operator = make_operator(
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n')\nprint('up', flush=True)\nchild.wait()"
    )
    failures: list[BaseException] = []

    def execute() -> None:
        try:
            operator.execute({})
        except AirflowException as error:
            failures.append(error)

    task = threading.Thread(target=execute)
    task.start()
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert task.is_alive()
    operator.on_kill()
    task.join(20)
    assert failures
    for pid in map(int, pids.read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert os.getpid() not in map(int, pids.read_text().split())
