import json

import pytest
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.exceptions import ParamValidationError

from support.airflow_environment import CONFIG_FOLDER
from toposieve_airflow.runs import params
from toposieve_airflow.runs.params import ConfigurationSchema

STAGES = ("simulation", "ingest", "selection", "preparation", "search", "training", "trees", "evaluation")


@pytest.fixture(scope="module")
def schema() -> ConfigurationSchema:
    return ConfigurationSchema.load(CONFIG_FOLDER)


def values(form: dict[str, Param]) -> dict[str, object]:
    return {name: param.resolve() for name, param in form.items()}


def test_every_key_of_every_stage_is_in_the_form_with_its_default(schema: ConfigurationSchema) -> None:
    form = schema.stage_params(STAGES)
    exported = json.loads((CONFIG_FOLDER / "schema.json").read_text())
    for stage in STAGES:
        for key, field in exported[stage]["properties"].items():
            if key in params.NOT_IN_FORM.get(stage, ()):
                assert f"{stage}_{key}" not in form
                continue
            param = form[f"{stage}_{key}"]
            assert param.resolve() == field["default"]
            assert param.description == field["description"]
            assert param.schema["section"]


def test_stage_configuration_comes_back(schema: ConfigurationSchema) -> None:
    config = schema.stage_config({**values(schema.stage_params(STAGES)), "selection_jet_pt_min": 40}, "selection")
    assert config["jet_pt_min"] == 40.0
    assert config["track_pt_min"] == 0.5


def test_whole_numbers_in_a_form_mean_the_same_as_decimals(schema: ConfigurationSchema) -> None:
    given = values(schema.stage_params(["simulation"]))
    whole, decimal = (schema.stage_config({**given, "simulation_pileup": pileup}, "simulation") for pileup in (2, 2.0))
    assert json.dumps(whole) == json.dumps(decimal)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("training_epochs", 0),
        ("training_epochs", "many"),
        ("selection_jet_pt_min", -1.0),
        ("preparation_max_events_per_class", 0),
        ("evaluation_working_points", [0.9, 2.0]),
    ],
)
def test_wrong_values_of_a_stage_are_refused(schema: ConfigurationSchema, name: str, wrong: object) -> None:
    form = ParamsDict(schema.stage_params(STAGES))
    with pytest.raises(ParamValidationError, match=name):
        form[name] = wrong


def test_empty_limit_is_allowed(schema: ConfigurationSchema) -> None:
    assert schema.stage_params(["preparation"])["preparation_max_events_per_class"].resolve() is None


@pytest.mark.parametrize(
    ("param", "right", "wrong"),
    [
        ("samples", ["qcd", "ttbar"], ["qdc"]),
        ("models", ["hlf"], []),
        ("models", ["hlf"], ["hlf", "hlf"]),
        ("workers", 8, 0),
        ("partition_start", "2026-01-01", "yesterday"),
        ("partition_end", None, "2026-13-01"),
        ("on_bad_file", "quarantine", "ignore"),
        ("replace", True, "yes"),
    ],
)
def test_params_of_the_run(schema: ConfigurationSchema, param: str, right: object, wrong: object) -> None:
    form = {
        **params.day_params(),
        "samples": schema.samples(),
        "models": schema.models(),
        "workers": params.workers_param(),
        "on_bad_file": params.bad_file_param(),
        "replace": params.replace_param(),
    }
    assert form[param].resolve(right) == right
    with pytest.raises(ParamValidationError):
        form[param].resolve(wrong)


def test_lists_of_choices_show_their_choices(schema: ConfigurationSchema) -> None:
    assert {"hlf", "inclusive_lstm"} < set(schema.models().schema["examples"])
    assert schema.models().resolve() == ["hlf", "particle_sequence", "inclusive"]
    assert schema.samples().resolve() == ["qcd", "ttbar", "wjets"]


def test_a_model_gets_its_own_keys_of_those_in_the_form(schema: ConfigurationSchema) -> None:
    form = {param: value.resolve() for param, value in schema.stage_params(["training"]).items()}
    config = schema.of_model(schema.stage_config(form, "training"), "inclusive_lstm")
    assert (config["lstm_units"], config["epochs"]) == (50, 6)
    assert not {"gru_units", "hlf_units"} & set(config)
