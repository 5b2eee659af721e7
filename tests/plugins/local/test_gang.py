import json
import logging
import threading
from pathlib import Path

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.contract.step import Step
from toposieve_airflow.local.gang import LocalGangOperator
from toposieve_airflow.runs.announcements import RUN_KEY
from toposieve_airflow.runs.jobs_environment import JobsEnvironment


@pytest.fixture
def make_gang(make_script, step: Step, jobs: JobsEnvironment):
    def make(text: str, workers: int) -> LocalGangOperator:
        step["workers"] = workers
        return LocalGangOperator(
            task_id="train",
            application=make_script(text),
            jobs=jobs,
            step=step,
        )

    return make


def test_each_worker_gets_its_tf_config_and_the_jobs_arguments(make_gang, tmp_path: Path, step: Step) -> None:
    text = (
        "import json, os, sys\nconfig = json.loads(os.environ['TF_CONFIG'])\nindex = config['task']['index']\n"
        f"json.dump([config, sys.argv[1:], os.environ['GIVEN']], open({str(tmp_path)!r} + f'/worker{{index}}', 'w'))"
    )
    make_gang(text, workers=3).execute({})
    notes = [json.loads((tmp_path / f"worker{index}").read_text()) for index in range(3)]
    clusters = [note[0]["cluster"] for note in notes]
    assert clusters[0] == clusters[1] == clusters[2]
    assert len(set(clusters[0]["worker"])) == 3
    assert all(note[1:] == [step["arguments"], "yes"] for note in notes)


def test_a_run_that_another_version_has_planned_starts_no_worker(make_gang, step: Step, tmp_path: Path) -> None:
    gang = make_gang(f"open({str(tmp_path / 'started')!r}, 'w')", workers=1)
    step["version"] -= 1
    with pytest.raises(AirflowFailException, match="planned by another version"):
        gang.execute({})
    assert not (tmp_path / "started").exists()


def test_one_worker_runs_without_tf_config(make_gang, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "left over")
    make_gang("import os, sys\nsys.exit('TF_CONFIG' in os.environ)", workers=1).execute({})


def test_a_job_learns_its_task_the_same_in_every_try(
    make_gang, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"DAG_ID": "chain", "DAG_RUN_ID": "manual", "TASK_ID": "train", "TRY_NUMBER": "2"}.items():
        monkeypatch.setenv(f"AIRFLOW_CTX_{name}", value)
    make_gang(f"import os\nopen({str(tmp_path / 'task')!r}, 'w').write(os.environ['TOPOSIEVE_TASK'])", 1).execute({})
    assert (tmp_path / "task").read_text() == "chain manual train"


def test_each_worker_logs_under_its_own_name(make_gang, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_gang(
            "import os, json\nprint('epoch of', json.loads(os.environ['TF_CONFIG'])['task']['index'])", 2
        ).execute({})
    lines = {
        record.name: record.getMessage() for record in caplog.records if record.name.startswith("toposieve.worker")
    }
    assert lines == {f"toposieve.worker.{index}": f"[worker {index}] epoch of {index}" for index in (0, 1)}


def test_an_environment_that_is_not_there_is_not_tried_again(make_gang) -> None:
    gang = make_gang("", workers=1)
    gang.jobs = JobsEnvironment("/none/bin/python")
    with pytest.raises(AirflowFailException, match=r"/none/bin/python: No such file .* make firmware-env"):
        gang.execute({})


def test_invalid_input_is_not_retried(make_gang) -> None:
    with pytest.raises(AirflowFailException, match="exit code 2: no such dataset"):
        make_gang("import sys\nprint('error: no such dataset', file=sys.stderr)\nsys.exit(2)", 2).execute({})


def test_a_lost_worker_fails_the_task_so_that_it_is_retried(make_gang) -> None:
    text = (
        "import json, os, signal, sys\nif json.loads(os.environ['TF_CONFIG'])['task']['index'] == 1:\n"
        "    print('last words', flush=True); os.kill(os.getpid(), signal.SIGKILL)\nsignal.pause()"
    )
    with pytest.raises(AirflowException, match="worker 1 was ended by signal 9: last words") as caught:
        make_gang(text, 2).execute({})
    assert not isinstance(caught.value, AirflowFailException)
    assert not psutil.Process().children()


def test_promised_files_are_checked(make_gang, step: Step) -> None:
    step["files"] = ["metrics.json"]
    with pytest.raises(OutputError, match=f"{step['outputs'][0]} has no manifest"):
        make_gang("", 1).execute({})


def test_the_run_that_the_log_names_is_checked(make_gang, step: Step, tmp_path: Path) -> None:
    step["run_in_log"], step["config"] = True, {"epochs": 2}
    run = tmp_path / "models" / "hlf" / "1a2b"
    gang = make_gang(f"print('2026-01-01 12:00:00,000 INFO train: training hlf on x, results in {run}')", 2)
    with pytest.raises(OutputError, match=f"{run} has no manifest"):
        gang.execute({})
    run.mkdir(parents=True)
    (run / "manifest-000001.json").write_text("{}")
    instance = TaskInstance()
    gang.execute(instance.context())
    assert instance.xcoms == {RUN_KEY: f"{step['label']}=models/hlf/1a2b"}


def test_evaluation_is_told_the_runs(make_gang, step: Step, tmp_path: Path) -> None:
    step["runs"] = ["hlf"]
    instance = TaskInstance(pulled={("train", RUN_KEY): ["hlf=models/hlf/1a2b"]})
    make_gang(f"import sys\nopen({str(tmp_path / 'told')!r}, 'w').write(' '.join(sys.argv[-2:]))", 1).execute(
        instance.context()
    )
    assert (tmp_path / "told").read_text() == "--labels hlf=models/hlf/1a2b"


def test_a_job_that_names_no_run_is_a_failure(make_gang, step: Step) -> None:
    step["run_in_log"] = True
    with pytest.raises(OutputError, match=f"not where in {step['outputs'][0]}"):
        make_gang("", 1).execute({})


@pytest.mark.parametrize("on_term", ["SIG_DFL", "exit with 0"])
def test_kill_ends_all_workers_and_is_no_success(make_gang, tmp_path: Path, on_term: str) -> None:
    handler = "signal.SIG_DFL" if on_term == "SIG_DFL" else "lambda *_: sys.exit(0)"
    text = (
        f"import os, signal, sys\nsignal.signal(signal.SIGTERM, {handler})\n"
        f"open({str(tmp_path)!r} + f'/pid{{os.getpid()}}', 'w').close()\nsignal.pause()"
    )
    gang = make_gang(text, 2)
    failures: list[BaseException] = []

    def execute() -> None:
        try:
            gang.execute({})
        except AirflowException as error:
            failures.append(error)

    task = threading.Thread(target=execute)
    task.start()
    while len(list(tmp_path.glob("pid*"))) < 2:
        assert task.is_alive()
    gang.on_kill()
    task.join(20)
    assert failures
    assert not psutil.Process().children()
