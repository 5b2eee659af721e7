"""The command line of every task: kept as golden files, and parsed by the job's own parser."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.dags import load_dags
from support.kubernetes_gangs import TaskInstance
from toposieve_airflow.contract.step import Step, every_step
from toposieve_airflow.kubernetes.gang.manifests import job_manifest
from toposieve_airflow.kubernetes.spark.operator import SparkOnKubernetesOperator
from toposieve_airflow.local.gang import LocalGangOperator
from toposieve_airflow.local.spark_job import SparkJobOperator
from toposieve_airflow.profile import PROFILE_VARIABLE, load_profile
from toposieve_airflow.runs.announcements import RUN_KEY, with_trained
from toposieve_airflow.runs.factory import SCRIPTS

STAGE_OF: dict[str, str | None] = {
    "simulate": "simulation",
    "ingest": "ingest",
    "select": "selection",
    "prepare": "preparation",
    "tune": "search",
    "train": "training",
    "train_trees": "trees",
    "evaluate": "evaluation",
    "candidate": "publication",
    "publish": "publication",
    "export": None,
    "make_firmware": "firmware",
    "score": "decision",
}

RUNS: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "demo": ("topology_classifier", {"simulate": True, "partition_start": "2026-01-01"}, None),
    "range": (
        "topology_classifier",
        {
            "partition_start": "2026-01-01",
            "partition_end": "2026-01-03",
            "models": ["hlf"],
            "workers": 4,
            "on_bad_file": "quarantine",
            "replace": True,
            "drop_missing": True,
            "selection_jet_pt_min": 40,
            "training_epochs": 2,
        },
        None,
    ),
    "tuned": (
        "topology_classifier",
        {
            "partition_start": "2026-01-01",
            "models": ["hlf"],
            "tune": ["hlf", "xgboost"],
            "trees": ["xgboost"],
            "search_trials": 50,
        },
        None,
    ),
    "by_asset": ("topology_classifier", {"workers": 1}, "2026-02-01"),
    "one_day": ("build_dataset", {"samples": ["qcd", "wjets"]}, "2026-01-02"),
    "candidate": (
        "publish_model",
        {"label": "hlf", "publication_rate_max": 50, "order": "first", "firmware": True, "score_start": "2026-01-01"},
        "r",
    ),
    "rollback": (
        "publish_model",
        {"action": "rollback", "why": "rate too high", "who": "ada", "order": "back", "version": 2},
        None,
    ),
    "samples": ("simulate_events", {"partition_start": "2026-01-01", "simulation_pileup": 0}, None),
}
"""Golden file → DAG, params that differ from the defaults, partition key."""


def steps_of(dag: DAG, changes: dict[str, Any], key: str | None) -> Iterator[tuple[str, Step]]:
    """Steps of a run; evaluation's with the runs that its trainings name."""
    params = {**dag.params.validate(), **changes}
    steps = list(every_step(dag.get_task("plan").build_steps(params, key)))
    named = {
        (task, RUN_KEY): [name_of(step) for each, step in steps if each == task] for task in ("train", "train_trees")
    }
    context = TaskInstance(pulled=named).context()
    for task, step in steps:
        yield task, with_trained(step, context)


def name_of(training: Step) -> str:
    """What a training says of its run."""
    model = training["outputs"][0].rpartition("/")[2]
    return f"{training['label']}=models/{model}/0123456789abcdef"


def command(dag: DAG, task_id: str, step: Step) -> list[str]:
    """The whole command line that the operator of a task would run."""
    task = dag.get_task(task_id)
    operator = task.unmap({"step": step}) if task.is_mapped else task
    if isinstance(operator, SparkJobOperator):
        operator.application_args = step["arguments"]
        hook = operator._get_hook()
        return hook._build_spark_submit_command(operator.application)
    assert isinstance(operator, LocalGangOperator)
    operator.step = step
    return operator._command()


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest, dags: dict[str, DAG]) -> tuple[str, DAG, list[tuple[str, Step]]]:
    name, changes, key = RUNS[request.param]
    return request.param, dags[name], list(steps_of(dags[name], changes, key))


def test_golden(run: tuple[str, DAG, list[tuple[str, Step]]], check_golden: Callable[[str, str], None]) -> None:
    name, dag, steps = run
    lines = []
    for task, step in steps:
        lines.append(f"{task} {step['label']}, workers: {step['workers']}")
        lines += [f"    {word}" for word in command(dag, task, step)]
        lines += [f"    > {path}" for path in step["outputs"]]
    check_golden(f"commands_{name}.txt", "\n".join(lines).replace(str(REPOSITORY), "{repository}") + "\n")


def test_golden_on_kubernetes(monkeypatch: pytest.MonkeyPatch, check_golden: Callable[[str, str], None]) -> None:
    """What the same run does on a cluster: the command of each Spark job, the Job of each gang."""
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    dag = load_dags()["topology_classifier"]
    lines = []
    for task_id, step in steps_of(dag, RUNS["demo"][1] | {"tune": ["hlf"], "trees": ["xgboost"]}, None):
        task = dag.get_task(task_id)
        operator = task.unmap({"step": step}) if task.is_mapped else task
        operator.step = step
        context = TaskInstance(task_id=task_id).context()
        lines.append(f"--- {task_id} {step['label']}")
        if isinstance(operator, SparkOnKubernetesOperator):
            operator.name_pods(context)
            operator.application_args = step["arguments"]
            lines += operator._get_hook()._build_spark_submit_command(operator.application)
        else:
            lines.append(yaml.safe_dump(job_manifest(*operator.pod_and_gang(context)), sort_keys=False).rstrip())
    check_golden("kubernetes_demo.txt", "\n".join(lines).replace(str(REPOSITORY), "{repository}") + "\n")


def test_two_gangs_that_are_in_each_others_way_try_again_ever_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    assert load_dags()["topology_classifier"].get_task("train").partial_kwargs["retry_exponential_backoff"] == 2


def parse(steps: list[tuple[str, Step]]) -> list[dict[str, Any]]:
    """What the jobs' own parsers make of these steps, in the jobs' environment."""
    profile = load_profile(CONFIG_FOLDER)
    commands = [[SCRIPTS[task], STAGE_OF[task], step["arguments"]] for task, step in steps]
    result = subprocess.run(
        [str(profile.python), str(REPOSITORY / "tests" / "support" / "parse_commands.py")],
        env={**os.environ, **profile.job_environment()},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_jobs_understand_their_commands(run: tuple[str, DAG, list[tuple[str, Step]]]) -> None:
    _, _, steps = run
    for parsed, (task, step) in zip(parse(steps), steps, strict=True):
        assert parsed["base"] == str(load_profile(CONFIG_FOLDER).base)
        assert parsed["config"] == {**parsed["config"], **parsed["given"]}, task
        if task == "prepare":
            assert step["config"] == {"preparation": parsed["shown"]}


def test_jobs_take_urls_and_raw_data_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())
    values |= {"base": "s3://lhc/toposieve", "raw": "hdfs://name:8020/raw"}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv(PROFILE_VARIABLE, str(tmp_path / "profile.yaml"))
    steps = list(steps_of(load_dags()["topology_classifier"], RUNS["demo"][1], None))
    for parsed, (task, _) in zip(parse(steps), steps, strict=True):
        assert parsed["base"] == "s3://lhc/toposieve"
        assert parsed.get("raw") == ("hdfs://name:8020/raw" if task in ("simulate", "ingest", "select") else None)


def test_values_of_the_form_reach_the_jobs(dags: dict[str, DAG]) -> None:
    changes = {"partition_start": "2026-01-01", "selection_jet_pt_min": 41.5, "training_epochs": 9, "models": ["hlf"]}
    steps = list(steps_of(dags["topology_classifier"], changes, None))
    parsed = dict(zip((task for task, _ in steps), parse(steps), strict=True))
    assert parsed["select"]["config"]["jet_pt_min"] == 41.5
    assert parsed["train"]["config"]["epochs"] == 9
    assert parsed["train"]["config"]["model"] == "hlf"
    assert parsed["evaluate"]["labels"] == ["hlf=models/hlf/0123456789abcdef"]
    assert parsed["evaluate"]["dataset"] == parsed["train"]["dataset"] == parsed["prepare"]["dataset"]


def test_what_a_search_finds_is_trained_and_stands_in_the_report_beside_trees(dags: dict[str, DAG]) -> None:
    steps = list(steps_of(dags["topology_classifier"], RUNS["tuned"][1], None))
    parsed = [(task, step["label"], each) for (task, step), each in zip(steps, parse(steps), strict=True)]
    found = {(task, label): each for task, label, each in parsed}
    tune, trained = found["tune", "hlf"], found["train", "hlf_tuned"]
    assert tune["study"] == trained["study"]
    assert tune["config"]["trials"] == 50
    assert not {*trained["given"]} & {*trained["shown"]} - {"model"}  # of what decides, the search has the last word
    assert found["train_trees", "xgboost"]["config"]["models"] == ["xgboost"]
    tune_trees, trained = found["tune", "xgboost"], found["train_trees", "xgboost_tuned"]
    assert tune["study"] != tune_trees["study"] == trained["study"]
    assert trained["given"] == {"models": ["xgboost"]}
    [(_, _, evaluate)] = [each for each in parsed if each[0] == "evaluate"]
    assert evaluate["studies"] == [tune["study"], tune_trees["study"]]
    run = "0123456789abcdef"
    assert evaluate["labels"] == [
        f"hlf=models/hlf/{run}",
        f"hlf_tuned=models/hlf/{run}",
        f"xgboost=models/xgboost/{run}",
        f"xgboost_tuned=models/xgboost/{run}",
    ]


def test_every_script_exists() -> None:
    assert all((REPOSITORY / "jobs" / script).is_file() for script in SCRIPTS.values())
