import json
from pathlib import Path

import pytest
from airflow.sdk.execution_time.context import OutletEventAccessors

from support.ui_results import metrics
from toposieve_airflow.contract.outputs import OutputError
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.announcements import CUTFLOW, METRICS, check_and_announce, extra
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.steps import Step

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
