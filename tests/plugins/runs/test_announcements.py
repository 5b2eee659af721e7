import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from support.airflow_environment import CONFIG_FOLDER
from support.kubernetes_gangs import TaskInstance
from support.ui_results import metrics
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.contract.step import Step
from toposieve_airflow.profile import load_profile
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.announcements import (
    CUTFLOW,
    METRICS,
    RUN_KEY,
    check_and_announce,
    check_outputs,
    extra,
    name_run,
    with_trained,
)
from toposieve_airflow.runs.jobs_environment import JobsEnvironment

CONFIG = {"jet_pt_min": 30.0}
COUNTS = {"events": 28, "lepton_pt": 20, "isolated_lepton": 17}


def test_a_selection_tells_its_cutflow(step: Step) -> None:
    content = {"qcd": {**COUNTS, "weighted": {"events": 82.0}}, "quarantined": []}
    told = extra(assets.SELECTED.name, step, {CUTFLOW: content})
    assert told == {"cutflow": {"qcd": COUNTS}, "path": step["outputs"][0]}


def test_a_report_tells_what_the_pages_show_of_it(step: Step) -> None:
    told = extra(assets.REPORT.name, step, {METRICS: {**metrics("r"), "packages": {"numpy": "2"}}})
    assert told["models"]["hlf"]["auc"]["qcd"] == {"value": 0.9, "error": 0.002}
    assert (told["report"], told["path"]) == ("r", step["outputs"][0])
    assert "packages" not in told
    assert json.loads(json.dumps(told)) == told


def test_a_dataset_and_a_model_tell_their_names(step: Step) -> None:
    assert extra(assets.DATASET.name, {**step, "label": "x"}, {})["dataset"] == "x"
    told = extra(assets.MODEL.name, {**step, "label": "hlf_tuned", "outputs": ["s3://lhc/models/hlf/0a1b"]}, {})
    assert told == {"model": "hlf", "run": "0a1b", "path": "s3://lhc/models/hlf/0a1b"}


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


@pytest.fixture
def telling_jobs(jobs: JobsEnvironment, step: Step) -> JobsEnvironment:
    """A check that finds all well, and tells what it was asked to tell."""
    checker = Path(jobs.variables["PYTHONPATH"]) / "toposieve" / "check_outputs.py"
    checker.write_text(
        f"import json, sys\nprint(json.dumps({{n: {{'qcd': {COUNTS}}} for n in json.loads(sys.argv[1])['told']}}))"
    )
    step["config"] = {"seed": 1}
    return jobs


def test_events_are_told_after_the_check(step: Step, telling_jobs: JobsEnvironment) -> None:
    events = OutletEventAccessors()
    check_and_announce(step, telling_jobs, [assets.SELECTED], {"outlet_events": events})  # type: ignore[typeddict-item]
    assert events[assets.SELECTED].extra["cutflow"] == {"qcd": COUNTS}
    assert not events[assets.SELECTED].partition_keys  # that of the run


def test_a_report_is_a_partition_of_its_own_whichever_the_run_is_of(step: Step, telling_jobs: JobsEnvironment) -> None:
    checker = Path(telling_jobs.variables["PYTHONPATH"]) / "toposieve" / "check_outputs.py"
    checker.write_text(f"import json\nprint({json.dumps({METRICS: metrics('r')})!r})")
    events = OutletEventAccessors()
    announced = {**step, "label": "r"}
    check_and_announce(announced, telling_jobs, [assets.REPORT], {"outlet_events": events})  # type: ignore[arg-type, typeddict-item]
    assert events[assets.REPORT].partition_keys == {"r"}
    assert events[assets.REPORT].extra["report"] == "r"


def test_without_an_asset_nothing_is_asked_for(step: Step, telling_jobs: JobsEnvironment) -> None:
    check_and_announce(step, telling_jobs, [], {})  # type: ignore[typeddict-item]


def test_output_that_is_not_there_is_not_announced(step: Step, jobs: JobsEnvironment) -> None:
    step["config"], events = {"seed": 1}, OutletEventAccessors()
    with pytest.raises(OutputError, match="has no manifest"):
        check_and_announce(step, jobs, [assets.SELECTED], {"outlet_events": events})  # type: ignore[typeddict-item]
    assert not events


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
