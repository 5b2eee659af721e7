import json
from typing import Any

import pytest

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.contract.step import OF_EACH_PARTITION, STEP_VERSION, RunSteps, Step, every_step, of_partition
from toposieve_airflow.profile import Profile, load_profile
from toposieve_airflow.runs.params import ConfigurationSchema, decision_params, publication_params
from toposieve_airflow.runs.partitions import PartitionError
from toposieve_airflow.runs.steps import (
    Commands,
    StepError,
    build_dataset_steps,
    publish_model_steps,
    simulate_events_steps,
    topology_classifier_steps,
)

STAGES = ("simulation", "ingest", "selection", "preparation", "search", "training", "trees", "evaluation")
BASE = "/data"


def test_who_changes_what_a_step_has_counts_on() -> None:
    keys = "arguments config files inputs label outputs run_in_log runs version workers"
    assert (STEP_VERSION, " ".join(sorted(Step.__annotations__))) == (1, keys)


@pytest.fixture(scope="module")
def schema() -> ConfigurationSchema:
    return ConfigurationSchema.load(CONFIG_FOLDER)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return load_profile(CONFIG_FOLDER)


@pytest.fixture
def params(schema: ConfigurationSchema) -> dict[str, Any]:
    return {
        "partition_start": "2026-01-01",
        "partition_end": "2026-01-02",
        "samples": ["qcd", "ttbar", "wjets"],
        "models": ["hlf", "inclusive"],
        "seeds": 1,
        "tune": [],
        "trees": [],
        "workers": 2,
        "simulate": False,
        "on_bad_file": "fail",
        "drop_missing": False,
        "replace": False,
        **{name: param.resolve() for name, param in schema.stage_params(STAGES).items()},
    }


@pytest.fixture
def build(schema: ConfigurationSchema, profile: Profile):
    def build(params: dict[str, Any], key: str | None = None) -> RunSteps:
        return topology_classifier_steps(Commands(BASE, params, schema), params, key, profile)

    return build


def test_one_step_for_each_day_and_each_model(build, params: dict[str, Any]) -> None:
    steps = build(params)
    assert [step["label"] for task, step in every_step(steps) if task == "ingest"] == ["2026-01-01", "2026-01-02"]
    assert [step["label"] for step in steps["train"]] == ["hlf", "inclusive"]
    assert all(step["workers"] == 2 for step in steps["train"])
    assert steps["prepare"]["inputs"] == ["/data/selected/2026-01-01", "/data/selected/2026-01-02"]


def test_simulation_is_wanted_only_if_asked_for(build, params: dict[str, Any]) -> None:
    assert build(params)["simulated_days"] == []
    assert build({**params, "simulate": True})["simulated_days"] == ["2026-01-01", "2026-01-02"]


def test_what_a_task_fetches_does_not_grow_with_the_number_of_days(build, params: dict[str, Any]) -> None:
    short, long = build(params), build({**params, "partition_end": "2026-10-27"})
    assert len(long["days"]) == 300
    assert len(json.dumps(long["days"])) < 5000
    for task in ("simulate", "ingest", "select"):
        assert long[task] == short[task]
        assert len(json.dumps(long[task])) < 2000


def test_keys_of_one_sample_are_not_looked_for_in_the_manifests_of_all(build, params: dict[str, Any]) -> None:
    simulate = build({**params, "simulation_qcd_fast": True})["simulate"]
    assert '"qcd_fast": true' in simulate["arguments"][3]
    assert "qcd_fast" not in simulate["config"]
    assert "pileup" in simulate["config"]


def test_what_no_manifest_shows_is_given_to_the_job_and_not_looked_for(build, params: dict[str, Any]) -> None:
    steps = build(params)
    prepare, ingest, train = steps["prepare"], steps["ingest"], steps["train"][0]
    assert '"store_events": false' in ingest["arguments"][3]
    assert ingest["config"] == {"entries_per_unit": 10_000}
    assert "effective_events_min" in prepare["arguments"][3]
    assert "effective_events_min" not in prepare["config"]["preparation"]
    assert "events_per_shard" in prepare["config"]["preparation"]
    assert '"checkpoint_steps": 200' in train["arguments"][3]
    assert "checkpoint_steps" not in train["config"]
    assert "epochs" in train["config"]


def test_partition_key_is_used_without_a_range(build, params: dict[str, Any]) -> None:
    steps = build({**params, "partition_start": None, "partition_end": None}, "2026-03-03")
    assert steps["days"] == ["2026-03-03"]


def test_what_changes_a_dataset_changes_its_name_and_nothing_else_does(build, params: dict[str, Any]) -> None:
    def dataset(**changes: Any) -> str:
        return build({**params, **changes})["prepare"]["label"]

    assert dataset(selection_jet_pt_min=40) != dataset()
    assert dataset(preparation_seed=2) != dataset()
    assert dataset(partition_end="2026-01-03") != dataset()
    assert dataset(training_epochs=1, workers=4, models=["hlf"], simulate=True, replace=True) == dataset()
    assert dataset(preparation_effective_events_min=0.005, ingest_store_events=True) == dataset()


def test_what_changes_a_report_changes_its_name(build, params: dict[str, Any]) -> None:
    def report(**changes: Any) -> str:
        return build({**params, **changes})["evaluate"]["label"]

    assert len({report(), report(training_epochs=1), report(evaluation_seed=2)}) == 3
    assert report(workers=4) == report()


def test_a_model_that_is_trained_alone_completes_the_report_on_all(build, params: dict[str, Any]) -> None:
    alone = build({**params, "models": ["hlf"]})["evaluate"]
    assert alone["outputs"] == build(params)["evaluate"]["outputs"]
    assert "--keep-labels" in alone["arguments"]
    assert alone["runs"] == ["hlf"]


def test_each_seed_of_a_model_is_a_run_of_its_own_beside_the_others(build, params: dict[str, Any]) -> None:
    steps = build({**params, "seeds": 2, "training_seed": 7})
    seeds = {step["label"]: step["config"]["seed"] for step in steps["train"]}
    assert seeds == {"hlf": 7, "inclusive": 7, "hlf_seed8": 8, "inclusive_seed8": 8}
    assert steps["evaluate"]["runs"] == list(seeds)
    assert len(steps["evaluate"]["inputs"]) == 3
    trees = build({**params, "models": ["hlf"], "trees": ["xgboost"], "seeds": 2, "trees_seed": 3})
    seeds = {step["label"]: step["config"]["seed"] for step in trees["train_trees"]}
    assert seeds == {"xgboost": 3, "xgboost_seed4": 4}
    assert trees["evaluate"]["runs"] == ["hlf", "hlf_seed2", *seeds]
    assert steps["evaluate"]["label"] == build({**params, "training_seed": 7})["evaluate"]["label"]


def test_a_search_is_of_its_dataset_and_configuration(build, params: dict[str, Any]) -> None:
    def study(**changes: Any) -> str:
        [tune] = build({**params, "tune": ["hlf"], **changes})["tune"]
        return tune["outputs"][0]

    assert len({study(), study(tune=["inclusive"]), study(search_seed=2), study(preparation_seed=2)}) == 4
    assert study(training_epochs=1, models=["hlf"], trees=["xgboost"]) == study()
    assert build(params)["tune"] == build(params)["train_trees"] == []


def test_tuned_models_and_trees_stand_in_the_report_of_all(build, params: dict[str, Any]) -> None:
    more = {**params, "models": ["hlf"], "tune": ["hlf"], "trees": ["xgboost", "lightgbm"], "trees_xgboost_depth": 4}
    steps = build(more)
    assert steps["evaluate"]["outputs"] == build(params)["evaluate"]["outputs"]
    assert steps["evaluate"]["runs"] == ["hlf", "hlf_tuned", "xgboost", "lightgbm"]
    models = [f"/data/models/{model}" for model in ("hlf", "xgboost", "lightgbm")]
    assert steps["evaluate"]["inputs"][1:] == [*steps["tune"][0]["outputs"], *models]
    xgboost, lightgbm = steps["train_trees"]
    assert xgboost["config"] == {"model": "xgboost", "seed": 1} | {
        f"xgboost_{key}": value for key, value in {"rounds": 100, "rate": 0.3, "depth": 4}.items()
    }
    assert not [key for key in lightgbm["config"] if key.startswith("xgboost")]
    tuned = build({**more, "tune": ["xgboost", "hlf"]})
    assert [step["label"] for step in tuned["train"]] == ["hlf", "hlf_tuned"]
    assert [step["label"] for step in tuned["train_trees"]] == ["xgboost", "lightgbm", "xgboost_tuned"]
    assert tuned["tune"][0]["outputs"][0] in tuned["train_trees"][-1]["inputs"]


def test_every_search_is_checked_before_the_run(schema: ConfigurationSchema, params: dict[str, Any]) -> None:
    commands = Commands(BASE, {**params, "tune": ["hlf", "inclusive"]}, schema)
    assert [config["model"] for config in commands.checked("search")] == ["hlf", "inclusive"]
    assert Commands(BASE, params, schema).checked("search") == []
    of_trees = Commands(BASE, {**params, "tune": ["xgboost"], "search_space": "published"}, schema).checked("search")
    assert [sorted(config) for config in of_trees] == [["batch_trials", "model", "seed", "trials"]]
    assert commands.checked("training") == [commands.config("training")]


def test_output_of_training_and_evaluation_is_checked_too(build, params: dict[str, Any]) -> None:
    steps = build({**params, "training_epochs": 3, "evaluation_seed": 4})
    assert [step["config"]["model"] for step in steps["train"]] == ["hlf", "inclusive"]
    assert all(step["config"]["epochs"] == 3 and step["run_in_log"] for step in steps["train"])
    assert steps["evaluate"]["config"]["seed"] == 4


@pytest.mark.parametrize(("operators", "at_least"), [("local", 1), ("kubernetes", 1.25)])
def test_a_worker_waits_for_its_peers_longer_than_its_operator(
    schema: ConfigurationSchema, profile: Profile, params: dict[str, Any], operators: str, at_least: float
) -> None:
    profile = profile.model_copy(update={"operators": operators})
    steps = topology_classifier_steps(Commands(BASE, params, schema), params, None, profile)
    arguments = steps["train"][0]["arguments"]
    patience_s = int(arguments[arguments.index("--startup-timeout") + 1])
    assert (patience_s > at_least * profile.training.startup_timeout_s) is (operators == "kubernetes")


def test_the_samples_of_a_run_are_the_classes_of_its_dataset(build, params: dict[str, Any]) -> None:
    prepare = build({**params, "samples": ["wjets", "qcd"]})["prepare"]
    config = json.loads(prepare["arguments"][prepare["arguments"].index("--config") + 1])
    assert config["classes"] == prepare["config"]["preparation"]["classes"] == ["qcd", "wjets"]


def test_a_run_with_one_sample_is_refused(build, params: dict[str, Any]) -> None:
    with pytest.raises(StepError, match=r"samples: only qcd.*give two or more"):
        build({**params, "samples": ["qcd"]})


def test_replace_bad_and_missing_files_reach_the_jobs(build, params: dict[str, Any]) -> None:
    assert "--drop-missing" not in build(params)["ingest"]["arguments"]
    steps = build({**params, "replace": True, "on_bad_file": "quarantine", "drop_missing": True})
    assert all("--replace" in steps[task]["arguments"] for task in ("simulate", "ingest", "select", "prepare"))
    ingest = steps["ingest"]["arguments"]
    assert ingest[ingest.index("--on-bad-file") + 1] == "quarantine"
    assert "--drop-missing" in ingest


def test_build_dataset_needs_a_partition_key(
    schema: ConfigurationSchema, profile: Profile, params: dict[str, Any]
) -> None:
    commands = Commands(BASE, params, schema)
    steps = build_dataset_steps(commands, params, "2026-01-05", profile)
    assert steps.keys() == {"days", "ingest", "select"}
    assert next(every_step(steps))[1]["outputs"] == ["/data/events/2026-01-05"]
    with pytest.raises(PartitionError, match="airflow backfill create"):
        build_dataset_steps(commands, params, None, profile)


def test_simulate_events_has_a_step_for_each_day(
    schema: ConfigurationSchema, profile: Profile, params: dict[str, Any]
) -> None:
    steps = simulate_events_steps(Commands(BASE, params, schema), params, None, profile)
    assert [(task, step["label"]) for task, step in every_step(steps)] == [
        ("simulate", "2026-01-01"),
        ("simulate", "2026-01-02"),
    ]


def test_data_may_lie_under_urls_and_raw_elsewhere(
    schema: ConfigurationSchema, profile: Profile, params: dict[str, Any]
) -> None:
    commands = Commands("s3://lhc/toposieve", params, schema, raw="root://eos//store/raw")
    steps = topology_classifier_steps(commands, params, None, profile)
    day = {task: of_partition(steps[task], "2026-01-01") for task in OF_EACH_PARTITION}
    for step in day.values():
        assert step["arguments"][:2] == ["--base", "s3://lhc/toposieve"]
    raw = [f"root://eos//store/raw/{sample}/2026-01-01" for sample in params["samples"]]
    assert day["simulate"]["outputs"] == day["ingest"]["inputs"] == raw
    assert steps["evaluate"]["outputs"][0].startswith("s3://lhc/toposieve/reports/2026-01-01_2026-01-02-")
    assert day["select"]["inputs"] == ["s3://lhc/toposieve/events/2026-01-01", *raw]
    for arguments in (step["arguments"] for step in day.values()):
        assert arguments[arguments.index("--raw") + 1] == "root://eos//store/raw"


def test_without_raw_of_its_own_no_job_is_told_one(build, params: dict[str, Any]) -> None:
    assert not any("--raw" in step["arguments"] for _, step in every_step(build(params)))


def test_samples_are_not_simulated_into_what_can_only_be_read(
    schema: ConfigurationSchema, profile: Profile, params: dict[str, Any]
) -> None:
    commands = Commands(BASE, params, schema, raw="root://eos//store/raw")
    for steps, wanted in ((topology_classifier_steps, True), (simulate_events_steps, False)):
        with pytest.raises(StepError, match="root://eos//store/raw, which can only be read: run without simulation"):
            steps(commands, {**params, "simulate": wanted}, None, profile)
    assert topology_classifier_steps(commands, params, None, profile)
    writable = Commands(BASE, params, schema, raw="s3://lhc/raw")
    assert simulate_events_steps(writable, params, None, profile)


def publish(schema: ConfigurationSchema, profile: Profile, key: str | None = "r", **changes: Any) -> RunSteps:
    """Steps that publish a model."""
    form = {**publication_params(), **decision_params(), **schema.stage_params(("publication", "decision", "firmware"))}
    params = {"order": "run", "replace": False, **{name: param.resolve() for name, param in form.items()}, **changes}
    return publish_model_steps(Commands(BASE, params, schema), params, key, profile)


def test_old_days_are_decided_on_again_if_they_are_given(schema: ConfigurationSchema, profile: Profile) -> None:
    steps = publish(schema, profile, score_start="2026-01-31", score_end="2026-02-01", decision_target=0.9)
    scored = [step for task, step in every_step(steps) if task == "score"]
    assert [step["label"] for step in scored] == ["2026-01-31", "2026-02-01"]
    assert [step["inputs"][1] for step in scored] == ["/data/selected/2026-01-31", "/data/selected/2026-02-01"]
    assert all(step["config"] == {"target": 0.9} for step in scored)
    assert publish(schema, profile)["scored_days"] == []
    with pytest.raises(PartitionError, match="score_end 2026-01-01 is before score_start 2026-01-02"):
        publish(schema, profile, score_start="2026-01-02", score_end="2026-01-01")


def test_firmware_is_made_if_it_is_asked_for_and_where_it_can_be(schema: ConfigurationSchema, profile: Profile) -> None:
    (step,) = publish(schema, profile, firmware=True, firmware_epochs=3)["make_firmware"]
    assert step["config"]["epochs"] == 3
    assert step["files"] == ["firmware.json"]
    elsewhere = profile.model_copy(update={"firmware_python": None})
    assert publish(schema, elsewhere)["make_firmware"] == []
    with pytest.raises(StepError, match=r"no environment that makes any \(firmware_python is null\): run without"):
        publish(schema, elsewhere, firmware=True)


def test_the_report_to_decide_by_is_that_of_the_form_or_the_key(schema: ConfigurationSchema, profile: Profile) -> None:
    def report(given: str | None, key: str | None) -> str:
        arguments = publish(schema, profile, key, report=given)["candidate"]["arguments"]
        return arguments[arguments.index("--report") + 1]

    assert report(None, "r") == "r"
    assert report("other", "r") == "other"
    with pytest.raises(StepError, match="no report has started this run: give the name of one"):
        report(None, None)


def test_who_goes_back_has_to_say_why(schema: ConfigurationSchema, profile: Profile) -> None:
    params = {"action": "rollback", "why": ""}
    with pytest.raises(StepError, match="who goes back has to say why"):
        publish_model_steps(Commands(BASE, params, schema), params, None, profile)
