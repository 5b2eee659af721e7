import re
import runpy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import DAG, CronPartitionTimetable, PartitionedAssetTimetable, TriggerRule
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DagRunInfo

from support.airflow_environment import CONFIG_FOLDER, REPOSITORY
from support.dags import load_dags
from toposieve_airflow.profile import PROFILE_VARIABLE, ProfileError, load_profile
from toposieve_airflow.runs import assets
from toposieve_airflow.runs.plan import ListOperator, PlanOperator, WaitOperator
from toposieve_airflow.runs.script_plan import ScriptPlanOperator

# Airflow itself uses a deprecated name of pathspec.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")

FORBIDDEN_IMPORT = re.compile(r"^\s*(?:from|import) (toposieve|numpy|pyspark|tensorflow|pandas)\b", re.MULTILINE)
OF_GANGS = ("train", "evaluate", "candidate", "publish", "export", "make_firmware")


def options(task: Any) -> dict[str, Any]:
    """What a task was made with, mapped or not."""
    names = ("owner", "retries", "pool", "execution_timeout", "outlets", "trigger_rule", "retry_delay")
    return {name: getattr(task, name) for name in names}


def test_every_file_is_a_dag_of_its_name(dags: dict[str, DAG]) -> None:
    assert {path.stem for path in (REPOSITORY / "dags").glob("*.py")} == set(dags)
    assert all(dag.dag_id == name for name, dag in dags.items())


def test_airflow_can_store_and_read_it(dag: DAG) -> None:
    dag.check_cycle()
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert stored.task_dict.keys() == dag.task_dict.keys()


def test_whole_chain_in_order(dags: dict[str, DAG]) -> None:
    dag = dags["topology_classifier"]
    upstream = {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "plan": [],
        "simulated_days": ["plan"],
        "simulate": ["plan", "simulated_days"],
        "ingest": ["plan", "simulate"],
        "select": ["ingest", "plan"],
        "prepare": ["plan", "select"],
        "searches": ["plan"],
        "tune": ["prepare", "searches"],
        "searched": ["tune"],
        "train": ["prepare", "searched"],
        "trees": ["plan"],
        "train_trees": ["prepare", "searched", "trees"],
        "trained": ["train", "train_trees"],
        "evaluate": ["plan", "prepare", "trained"],
    }


def test_on_kubernetes_a_teardown_ends_it_when_no_task_can_have_a_pod_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    dag = load_dags()["topology_classifier"]
    clean_up = dag.get_task("clean_up")
    assert clean_up.is_teardown
    assert clean_up.upstream_task_ids == dag.task_dict.keys() - {
        "plan",
        "simulated_days",
        "searches",
        "searched",
        "trees",
        "trained",
        "clean_up",
    }
    assert clean_up.namespace == load_profile(CONFIG_FOLDER).kubernetes.namespace


@pytest.mark.parametrize("name", ["build_dataset", "simulate_events"])
def test_on_kubernetes_no_dag_leaves_pods_nor_takes_them_from_a_task(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    tasks = load_dags()[name].task_dict
    assert tasks["clean_up"].is_teardown
    assert tasks["clean_up"].upstream_task_ids == tasks.keys() - {"plan", "clean_up"}


def test_skipped_simulation_does_not_skip_the_rest(dags: dict[str, DAG]) -> None:
    rules = {task.task_id: TriggerRule(task.trigger_rule) for task in dags["topology_classifier"].tasks}
    assert rules.pop("ingest") is TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assert {rules.pop("searched"), rules.pop("trained")} == {TriggerRule.ALL_DONE}
    assert set(rules.values()) == {TriggerRule.ALL_SUCCESS}


def test_mapped_over_days_and_models(dags: dict[str, DAG]) -> None:
    mapped = {
        name: {task.task_id for task in dag.tasks if isinstance(task, MappedOperator)} for name, dag in dags.items()
    }
    assert mapped == {
        "topology_classifier": {"simulate", "ingest", "select", "tune", "train", "train_trees"},
        "build_dataset": {"ingest", "select"},
        "simulate_events": {"simulate"},
        "publish_model": {"make_firmware", "score"},
        "spawn_training": set(),
    }


def test_owner_retries_timeout_and_pool_are_set_on_purpose(dag: DAG) -> None:
    profile = load_profile(CONFIG_FOLDER)
    pools, limits = profile.pools, profile.timeouts_min.model_dump()
    expected_pool = dict.fromkeys(OF_GANGS, pools.training.name)
    for task in dag.tasks:
        given = options(task)
        assert given["owner"] == "toposieve"
        if task.task_id == "approve":  # it waits without a process
            assert (given["retries"], given["execution_timeout"]) == (0, None)
            assert task.response_timeout == timedelta(hours=profile.approval.hours)
            continue
        plans = isinstance(task, PlanOperator | ScriptPlanOperator | ListOperator | WaitOperator)
        assert given["execution_timeout"] == timedelta(minutes=limits["plan" if plans else task.task_id])
        if plans:
            assert given["retries"] == 0
            continue
        assert given["retries"] >= 1
        assert given["retry_delay"] == timedelta(seconds=30)
        assert given["pool"] == expected_pool.get(task.task_id, pools.spark.name)


def test_assets_of_each_stage(dags: dict[str, DAG]) -> None:
    announced = {
        (name, task.task_id): list(task.outlets) for name, dag in dags.items() for task in dag.tasks if task.outlets
    }
    assert announced == {
        ("build_dataset", "ingest"): [assets.EVENTS],
        ("build_dataset", "select"): [assets.SELECTED],
        ("topology_classifier", "prepare"): [assets.DATASET],
        ("topology_classifier", "train"): [assets.MODEL],
        ("topology_classifier", "train_trees"): [assets.MODEL],
        ("topology_classifier", "evaluate"): [assets.REPORT],
    }


def test_nothing_schedules_itself(dags: dict[str, DAG]) -> None:
    schedule = dags["topology_classifier"].schedule
    assert isinstance(schedule, PartitionedAssetTimetable)
    assert schedule.asset_condition == assets.SELECTED
    own = {outlet for task in dags["topology_classifier"].tasks for outlet in task.outlets}
    assert assets.SELECTED not in own
    assert dags["simulate_events"].schedule is None


def test_a_report_asks_for_an_approval(dags: dict[str, DAG]) -> None:
    dag = dags["publish_model"]
    assert isinstance(dag.schedule, PartitionedAssetTimetable)
    assert dag.schedule.asset_condition == assets.REPORT
    upstream = {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "plan": [],
        "candidate": ["plan"],
        "approve": ["candidate", "plan"],
        "publish": ["approve"],
        "export": ["plan", "publish"],
        "scored_days": ["plan"],
        "score": ["export", "plan", "scored_days"],
        "firmware": ["plan"],
        "make_firmware": ["export", "firmware"],
    }
    assert dag.max_active_runs > 1  # one that waits must not keep a newer one from superseding it


def test_firmware_is_made_by_its_own_environment_and_not_on_kubernetes(
    dags: dict[str, DAG], monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile(CONFIG_FOLDER)
    pythons = {name: dags["publish_model"].get_task(name) for name in ("make_firmware", "export")}
    assert pythons["make_firmware"].partial_kwargs["jobs"].python == str(profile.firmware_python)
    assert pythons["export"].jobs.python == str(profile.python)
    monkeypatch.setenv(PROFILE_VARIABLE, "kubernetes")
    tasks = load_dags()["publish_model"].task_dict
    assert not {"firmware", "make_firmware"} & tasks.keys()
    assert tasks["clean_up"].upstream_task_ids == {"candidate", "publish", "export", "score"}


def test_only_those_whom_the_profile_names_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())
    values["approval"] = {"users": ["ada"], "hours": 2}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setenv(PROFILE_VARIABLE, str(tmp_path / "profile.yaml"))
    approve = load_dags()["publish_model"].get_task("approve")
    assert approve.assigned_users == [{"id": "ada", "name": "ada"}]
    assert (approve.by_rules, approve.response_timeout) == (False, timedelta(hours=2))


def test_a_day_is_built_at_midnight_after_it(dags: dict[str, DAG]) -> None:
    schedule = dags["build_dataset"].schedule
    assert isinstance(schedule, CronPartitionTimetable)
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dags["build_dataset"])).timetable
    earliest, latest = (stored._align_to_next(dags["build_dataset"].start_date.replace(day=day)) for day in (1, 3))
    infos: list[DagRunInfo] = list(stored.iter_partition_dagrun_infos(earliest=earliest, latest=latest))
    assert [info.partition_key for info in infos] == ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.mark.parametrize("profile", ["local", "kubernetes"])
def test_each_task_says_what_it_does(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROFILE_VARIABLE, profile)
    for dag in load_dags().values():
        for task in dag.tasks:
            assert task.doc_md.endswith("."), task.task_id


def test_form_has_valid_defaults_and_says_what_each_field_is(dag: DAG) -> None:
    dag.params.validate()
    for name in dag.params:
        param = dag.params.get_param(name)
        assert param.description, name
        assert param.schema["section"], name


def test_form_of_the_whole_chain(dags: dict[str, DAG]) -> None:
    names = set(dags["topology_classifier"].params)
    asked = {
        "samples",
        "models",
        "workers",
        "partition_start",
        "partition_end",
        "simulate",
        "on_bad_file",
        "replace",
        "drop_missing",
    }
    assert asked <= names
    assert {"training_epochs", "selection_jet_pt_min", "simulation_pileup"} <= names


def test_documentation_says_where_the_output_goes(dag: DAG) -> None:
    assert dag.doc_md
    assert "Where things are" in dag.doc_md
    assert "raw/{sample}/{day}/" in dag.doc_md


@pytest.mark.parametrize("folder", ["dags", "plugins"])
def test_neither_the_library_nor_heavy_packages_are_imported(folder: str) -> None:
    for path in Path(REPOSITORY / folder).rglob("*.py"):
        assert not FORBIDDEN_IMPORT.search(path.read_text()), path


def test_no_path_depends_on_the_run_or_the_date() -> None:
    for folder in ("dags", "plugins"):
        for path in Path(REPOSITORY / folder).rglob("*.py"):
            assert not re.search(r"\{\{\s*(ds|run_id|ts|logical_date)", path.read_text()), path


def test_a_misspelt_key_of_the_profile_fails_the_import_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load((CONFIG_FOLDER / "local.yaml").read_text())
    values["bsae"] = values.pop("base")
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(values))
    monkeypatch.setenv(PROFILE_VARIABLE, str(broken))
    with pytest.raises(ProfileError, match=r"broken\.yaml: base: missing key; bsae: unknown key"):
        runpy.run_path(str(REPOSITORY / "dags" / "build_dataset.py"))
