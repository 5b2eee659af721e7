import json

import pytest
from pydantic import ValidationError

from toposieve import schema
from toposieve.config import (
    STAGES,
    PreparationConfig,
    SelectionConfig,
    SimulationConfig,
    TrainingConfig,
    load_config,
)
from toposieve.errors import InvalidInputError
from toposieve.io.datasets import DatasetConfig
from toposieve.models import ARCHITECTURES


def test_defaults_are_the_published_cuts():
    config = SelectionConfig()
    assert (config.lepton_pt_min, config.isolation_cone, config.isolation_max) == (23.0, 0.3, 0.45)
    assert (config.track_pt_min, config.photon_et_min, config.neutral_et_min) == (0.5, 1.0, 1.0)
    assert (config.jet_pt_min, config.jet_eta_max, config.jet_lepton_dr) == (30.0, 2.6, 0.4)


@pytest.mark.parametrize("model", STAGES.values(), ids=STAGES)
def test_every_key_has_a_description_for_the_trigger_form(model):
    assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("model", STAGES.values(), ids=STAGES)
def test_configurations_are_immutable_and_survive_json(model):
    config = model()
    name = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(config, name, getattr(config, name))
    assert model.model_validate_json(config.model_dump_json()) == config


def test_hash_changes_with_a_value_and_not_with_the_order_of_keys():
    base = load_config(SelectionConfig, '{"lepton_pt_min": 25, "jet_pt_min": 40}')
    assert base.hash == load_config(SelectionConfig, '{"jet_pt_min": 40, "lepton_pt_min": 25}').hash
    assert base.hash != SelectionConfig().hash
    assert SelectionConfig().hash == SelectionConfig(lepton_pt_min=23).hash


def test_a_guard_is_no_part_of_what_identifies_a_dataset():
    config = load_config(PreparationConfig, '{"effective_events_min": 0.005}')
    assert config.effective_events_min == 0.005
    assert config.hash == PreparationConfig().hash
    assert "effective_events_min" not in DatasetConfig(preparation=config, partitions=()).model_dump()["preparation"]


def test_misspelt_key_is_named_with_the_known_ones():
    with pytest.raises(InvalidInputError, match=r"lepton_ptmin: unknown key; SelectionConfig knows .*lepton_pt_min"):
        load_config(SelectionConfig, '{"lepton_ptmin": 25}')


def test_wrong_value_names_its_key():
    with pytest.raises(InvalidInputError, match=r"lepton_pt_min: .* \(got 'high'\)"):
        load_config(SelectionConfig, '{"lepton_pt_min": "high"}')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "not valid JSON"),
        ("missing.json", "cannot be read"),
    ],
)
def test_unreadable_configuration(text, message):
    with pytest.raises(InvalidInputError, match=message):
        load_config(TrainingConfig, text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_configuration_file(tmp_path, encoding):
    path = tmp_path / "training.json"
    path.write_text(json.dumps({"epochs": 2}), encoding=encoding)
    assert load_config(TrainingConfig, str(path), {"seed": 9}) == TrainingConfig(epochs=2, seed=9)


def test_configuration_file_must_be_utf8(tmp_path):
    path = tmp_path / "latin.json"
    path.write_text('{"model": "größe"}', encoding="latin-1")
    with pytest.raises(InvalidInputError, match=r"latin\.json: not valid JSON \('utf-8' codec"):
        load_config(TrainingConfig, str(path))


def test_configuration_file_must_hold_an_object(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(InvalidInputError, match="expected a JSON object, got list"):
        load_config(TrainingConfig, str(path))


def test_b_tag_masks_must_be_complete():
    with pytest.raises(InvalidInputError, match="btag_mask lacks ttbar"):
        load_config(SelectionConfig, '{"btag_mask": {"qcd": 2, "wjets": 1}}')


def test_split_leaves_room_for_the_test_split():
    with pytest.raises(ValidationError, match="the rest is the test split"):
        PreparationConfig(train_fraction=0.8, validation_fraction=0.2)


def test_samples_are_those_of_the_schema():
    assert SimulationConfig().samples == schema.SAMPLES
    assert set(SelectionConfig().btag_mask) == set(schema.SAMPLES)


def test_padded_layout_has_801_particles_of_19_features():
    assert (schema.MAX_PARTICLES, len(schema.LOW_LEVEL_FEATURES), len(schema.HIGH_LEVEL_FEATURES)) == (801, 19, 14)


def test_a_run_is_known_by_the_parameters_of_its_own_model():
    assert TrainingConfig(model="hlf").hash == TrainingConfig(model="hlf", lstm_units=7).hash
    assert TrainingConfig(model="hlf").hash != TrainingConfig(model="hlf", hlf_units=(50, 20)).hash
    assert TrainingConfig(model="inclusive").hash != TrainingConfig(model="inclusive", joined_units=24).hash
    config = TrainingConfig(model="inclusive_lstm", lstm_units=7)
    assert config.parameters == {"lstm_units": 7, "joined_units": 25, "dropout_rate": 0.2}
    assert "gru_units" not in config.model_dump()
    assert TrainingConfig(**config.model_dump()) == config


def test_models_have_parameters_that_there_are():
    parameters = {key for architecture in ARCHITECTURES.values() for key in architecture.parameters}
    assert parameters <= set(TrainingConfig.model_fields)
