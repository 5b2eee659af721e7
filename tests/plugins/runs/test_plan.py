from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from toposieve_airflow.contract.step import ANY_PARTITION, RunSteps, Step
from toposieve_airflow.profile import load_profile
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.jobs_environment import JobsEnvironment
from toposieve_airflow.runs.partitions import PartitionError
from toposieve_airflow.runs.plan import ListOperator, PlanOperator, WaitOperator, _with_origin

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
    return {"params": {}, "dag": SimpleNamespace(params={}), "partition_key": None, "ti": TaskInstance()}


def test_days_are_the_result_and_the_rest_travels_by_name(make_plan, step: Step) -> None:
    tasks: RunSteps = {"ingest": step, "prepare": step, "train": [step, step], "evaluate": step}
    given = context()
    assert make_plan({"days": ["2026-01-01"], **tasks}, {"training": {"epochs": 2}}).execute(given) == ["2026-01-01"]
    assert given["ti"].xcoms == tasks


@pytest.mark.parametrize(("plan", "skipped"), [(["2026-01-01"], False), ([], False), (None, True)])
def test_what_waits_is_skipped_with_the_whole_run_only(plan: list[str] | None, skipped: bool) -> None:
    given: Any = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: {"plan": plan}[task_ids])}
    waits = WaitOperator(task_id="trained", plan="plan", trigger_rule="all_done")
    with pytest.raises(AirflowSkipException) if skipped else nullcontext():
        waits.execute(given)


@pytest.mark.parametrize(
    ("sources", "skipped"), [(["backfill"], True), (["backfill", "scheduled"], False), ([None], False), ([], False)]
)
def test_a_run_that_only_backfilled_days_have_started_is_skipped(
    sources: list[str | None], skipped: bool, make_plan, step: Step
) -> None:
    runs = [source and SimpleNamespace(run_type=source) for source in sources]
    events = [SimpleNamespace(source_dag_run=run) for run in runs]
    plan = make_plan({"days": ["2026-01-01"], "ingest": step}, {})
    given = {**context(), "triggering_asset_events": {assets.SELECTED: events} if events else {}}
    if skipped:
        with pytest.raises(AirflowSkipException, match="TRAIN=1"):
            plan.execute(given)
    else:
        assert plan.execute(given) == ["2026-01-01"]


def test_log_lists_every_output_of_the_run(make_plan, step: Step, capsys: pytest.CaptureFixture[str]) -> None:
    each: Step = {**step, "outputs": [f"/data/events/{ANY_PARTITION}"]}
    steps: RunSteps = {"days": ["2026-01-01", "2026-01-02"], "simulated_days": [], "simulate": each, "ingest": each}
    make_plan(steps, {}).execute(context())
    log = capsys.readouterr().out
    assert "ingest 2026-01-01 → /data/events/2026-01-01" in log
    assert "ingest 2026-01-02 → /data/events/2026-01-02" in log
    assert "simulate" not in log


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("training_epoch", "did you mean training_epochs"), ("colour", "the params are workers, training_epochs")],
)
def test_a_param_that_no_form_has_is_refused(name: str, remedy: str, make_plan, step: Step) -> None:
    params = {"workers": 2, "training_epochs": 6}
    given = {**context(), "params": {**params, name: 3}, "dag": SimpleNamespace(params=params)}
    with pytest.raises(AirflowFailException, match=f"unknown param {name}: {remedy}"):
        make_plan({"days": ["2026-01-01"], "ingest": step}, {}).execute(given)


def test_without_the_jobs_environment_the_plan_says_how_to_build_it(make_plan, step: Step) -> None:
    with pytest.raises(AirflowFailException, match=r"/no/python: No such file or directory: build .*make env"):
        make_plan({"days": ["2026-01-01"], "ingest": step}, {}, python="/no/python").execute(context())


def test_wrong_params_fail_without_retries(make_plan) -> None:
    with pytest.raises(AirflowFailException, match="which days"):
        make_plan(PartitionError("which days?"), {}).execute(context())


def test_configuration_is_checked_by_the_jobs_own_rules(make_plan, step: Step) -> None:
    configs = {"preparation": {"train_fraction": 0.9, "validation_fraction": 0.3}, "training": {"epochs": 0}}
    with pytest.raises(AirflowFailException) as caught:
        make_plan({"days": ["2026-01-01"], "ingest": step}, configs).execute(context())
    assert "below 1" in str(caught.value)
    assert "epochs" in str(caught.value)


def test_a_place_of_an_unknown_kind_fails_without_retries(make_plan, step: Step) -> None:
    plan = make_plan({"days": ["2026-01-01"], "ingest": step}, {}, base="/data", raw="gopher://host/raw")
    with pytest.raises(AirflowFailException, match="--raw gopher://host/raw: unknown scheme"):
        plan.execute(context())


def test_a_check_that_cannot_run_may_be_retried(make_plan, make_script, step: Step, tmp_path: Path) -> None:
    broken = make_script("import sys\nprint('no memory', file=sys.stderr)\nsys.exit(1)", "python")
    with pytest.raises(AirflowException, match="no memory") as caught:
        make_plan({"days": ["2026-01-01"], "ingest": step}, {}, python=broken).execute(context())
    assert not isinstance(caught.value, AirflowFailException)


def test_list_operator_gives_the_list(step: Step) -> None:
    assert ListOperator(task_id="models", items=[step]).execute({}) == [step]


@pytest.mark.parametrize(("user", "who"), [("ada", "ada"), (None, "Airflow")])
def test_a_run_that_records_a_reason_knows_who_asks_and_by_what_name(user: str | None, who: str) -> None:
    given = {"dag_run": SimpleNamespace(triggering_user_name=user, run_id="back")}
    assert _with_origin({"why": "worse"}, given) == {"why": "worse", "who": who, "order": "back"}
    assert _with_origin({"models": []}, given) == {"models": []}
