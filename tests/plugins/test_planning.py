from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.jobs_environment import JobsEnvironment
from toposieve_airflow.partitions import PartitionError
from toposieve_airflow.planning import PlanOperator, StepsOperator
from toposieve_airflow.profiles import load_profile
from toposieve_airflow.steps import RunSteps, Step

PYTHON = str(load_profile(CONFIG_FOLDER).python)


class TaskInstance:
    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def make_plan():
    def make(steps: RunSteps | Exception, configs: dict[str, Any], python: str = PYTHON, **places: str) -> PlanOperator:
        def build_steps(params: Any, key: str | None) -> RunSteps:
            if isinstance(steps, Exception):
                raise steps
            return steps

        return PlanOperator(
            task_id="plan",
            build_steps=build_steps,
            build_configs=lambda params: configs,
            places=places,
            jobs=JobsEnvironment(python, {"PYTHONPATH": str(REPOSITORY / "jobs")}),
        )

    return make


def context() -> dict[str, Any]:
    return {"params": {}, "partition_key": None, "ti": TaskInstance()}


def test_days_are_the_result_and_the_rest_travels_by_name(make_plan, step: Step) -> None:
    steps: RunSteps = {"days": [{"ingest": step}], "prepare": step, "train": [step, step], "evaluate": step}
    given = context()
    assert make_plan(steps, {"training": {"epochs": 2}}).execute(given) == [{"ingest": step}]
    assert given["ti"].xcoms == {"prepare": step, "train": [step, step], "evaluate": step}


def test_log_lists_every_output_of_the_run(make_plan, step: Step, capsys: pytest.CaptureFixture[str]) -> None:
    unwanted: Step = {**step, "label": "not this", "wanted": False}
    make_plan({"days": [{"simulate": unwanted, "ingest": step}]}, {}).execute(context())
    log = capsys.readouterr().out
    assert f"ingest 2026-01-01 → {step['outputs'][0]}" in log
    assert "not this" not in log


def test_wrong_params_fail_without_retries(make_plan) -> None:
    with pytest.raises(AirflowFailException, match="which days"):
        make_plan(PartitionError("which days?"), {}).execute(context())


def test_configuration_is_checked_by_the_jobs_own_rules(make_plan, step: Step) -> None:
    configs = {"preparation": {"train_fraction": 0.9, "validation_fraction": 0.3}, "training": {"epochs": 0}}
    with pytest.raises(AirflowFailException) as caught:
        make_plan({"days": [{"ingest": step}]}, configs).execute(context())
    assert "below 1" in str(caught.value)
    assert "epochs" in str(caught.value)


def test_a_place_of_an_unknown_kind_fails_without_retries(make_plan, step: Step) -> None:
    plan = make_plan({"days": [{"ingest": step}]}, {}, base="/data", raw="gopher://host/raw")
    with pytest.raises(AirflowFailException, match="--raw gopher://host/raw: unknown scheme"):
        plan.execute(context())


def test_a_check_that_cannot_run_may_be_retried(make_plan, make_script, step: Step, tmp_path: Path) -> None:
    broken = make_script("import sys\nprint('no memory', file=sys.stderr)\nsys.exit(1)", "python")
    with pytest.raises(AirflowException, match="no memory") as caught:
        make_plan({"days": [{"ingest": step}]}, {}, python=broken).execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_steps_operator_gives_the_list(step: Step) -> None:
    assert StepsOperator(task_id="models", steps=[step]).execute({}) == [step]
