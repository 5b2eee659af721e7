import dataclasses
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from support import evaluation_data
from support.training_data import key_of
from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation import inputs, predictions, scoring
from toposieve.training.architectures import build_model

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

EVENTS = sum(evaluation_data.TEST_EVENTS.values())


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A dataset with fresh models of two kinds."""
    base = tmp_path_factory.mktemp("base")
    dataset = evaluation_data.write_dataset(base)
    for model in ("hlf", "inclusive"):
        evaluation_data.write_run(base, dataset, TrainingConfig(model=model), bias=(0.1, 0.0, -0.1))
    return base


def open_all(base, models=("hlf", "inclusive")):
    root = evaluation_data.base_key(base)
    data = inputs.open_test_data(root / "datasets" / "demo")
    return data, [inputs.open_run(root, data, TrainingConfig(model=model)) for model in models]


@pytest.fixture(scope="module")
def predicted(base):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BATCH_EVENTS", dict.fromkeys((True, False), 16))  # the last batch is not full
        return predictions.predict(*open_all(base))


def stored_examples(base):
    """The test split's records, one by one."""
    paths = sorted((base / "datasets" / "demo" / evaluation_data.DIGITS / "test").glob("*.tfrecord"))
    records = tf.data.TFRecordDataset([str(path) for path in paths])
    return [tf.train.Example.FromString(record.numpy()).features.feature for record in records]


def test_columns_are_those_of_the_records_in_order(base, predicted):
    examples = stored_examples(base)
    assert predicted.event_ids.to_pylist() == [e["event_id"].bytes_list.value[0].decode() for e in examples]
    np.testing.assert_array_equal(predicted.labels, [e["label"].int64_list.value[0] for e in examples])
    factors = np.array([1, 2, 1])  # a quarter of ttbar's weight is negative
    weights = np.array([e["weight"].float_list.value[0] for e in examples])
    np.testing.assert_array_equal(predicted.stored_weights, weights)
    np.testing.assert_array_equal(predicted.weights, weights * factors[predicted.labels])
    np.testing.assert_array_equal(predicted.particles, [e["length"].int64_list.value[0] for e in examples])


def test_features_are_in_physical_units(base, predicted):
    scaled = np.array([e["hlf"].float_list.value for e in stored_examples(base)], np.float32)
    expected = scaled * evaluation_data.SCALE + evaluation_data.SCALE / 10
    np.testing.assert_allclose(predicted.features, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["hlf", "inclusive"])
def test_scores_are_the_models_own_event_by_event(base, predicted, name):
    path = base / "check.keras"
    evaluation_data.save_model(path, TrainingConfig(model=name), (0.1, 0.0, -0.1))
    model = tf.keras.models.load_model(path, compile=False)
    for place in (0, 17, EVENTS - 1):
        features = stored_examples(base)[place]
        event = {
            "high_level": np.array([features["hlf"].float_list.value]) * evaluation_data.SCALE
            + evaluation_data.SCALE / 10,  # the published model takes physical units
            "particles": np.reshape(features["particles"].float_list.value, (1, -1, len(schema.LOW_LEVEL_FEATURES))),
        }
        expected = model({key: tf.constant(event[key], tf.float32) for key in model.input}).numpy()[0]
        np.testing.assert_allclose(predicted.scores[name][place], expected, rtol=1e-5)
    np.testing.assert_allclose(predicted.scores[name].sum(axis=1), 1, rtol=1e-5)


def test_scores_are_made_once(base, predicted, monkeypatch):
    made = []
    monkeypatch.setattr(scoring, "score", lambda *arguments: made.append(arguments))
    again = predictions.predict(*open_all(base))
    assert not made
    for name, scores in predicted.scores.items():
        np.testing.assert_array_equal(again.scores[name], scores)


def test_models_without_particles_read_none(base, tmp_path, monkeypatch):
    data, runs = open_all(base, models=("hlf",))
    monkeypatch.setattr(predictions, "scores_of", lambda *_: key_of(tmp_path / "scores" / "test" / "hlf" / "1"))
    records = [Path(str(shard.key)) for shard in data.split.shards]
    kept = [path.read_bytes() for path in records]
    try:
        for path in records:
            path.unlink()
        assert len(predictions.predict(data, runs).labels) == EVENTS
    finally:
        for path, content in zip(records, kept, strict=True):
            path.write_bytes(content)


def test_xla_gives_the_same_scores():
    model = build_model(TrainingConfig())
    event = {"high_level": tf.random.normal((2, 14), seed=1), "particles": tf.random.normal((2, 5, 19), seed=2)}
    plain, compiled = (scoring.make_scorer(model, xla=xla)(event).numpy() for xla in (False, True))
    np.testing.assert_allclose(plain, compiled, rtol=1e-5)


def test_counts_are_checked_against_the_manifest(base):
    data, runs = open_all(base, models=("hlf",))
    wrong = dataclasses.replace(data, counts=data.counts | {"ttbar": 3})
    with pytest.raises(InvalidInputError, match="16 events of ttbar, its manifest lists 3"):
        predictions.predict(wrong, runs)


def test_nan_scores_are_refused(tmp_path):
    dataset = evaluation_data.write_dataset(tmp_path)
    evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"), bias=(np.nan, 0, 0))
    data, runs = open_all(tmp_path, models=("hlf",))
    with pytest.raises(
        InvalidInputError, match=f"hlf gives NaN or infinite scores for {EVENTS} test events, the first "
    ):
        predictions.predict(data, runs)


def test_a_shard_cut_short_after_the_check_is_refused(tmp_path):
    dataset = evaluation_data.write_dataset(tmp_path)
    evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"), bias=(0, 0, 0))
    data, runs = open_all(tmp_path, models=("hlf",))
    path = Path(str(data.split.shards[1].table))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00002\.events\.parquet is altered"):
        predictions.predict(data, runs)


def test_a_model_damaged_within_is_refused(tmp_path):
    dataset = evaluation_data.write_dataset(tmp_path)
    run = evaluation_data.write_run(tmp_path, dataset, TrainingConfig(model="hlf"), bias=(0, 0, 0))
    path = evaluation_data.run_folder(run) / "model.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    data, runs = open_all(tmp_path, models=("hlf",))
    with pytest.raises(InvalidInputError, match=r"model\.keras is no model that can be read .* train hlf again"):
        predictions.predict(data, runs)


def test_parquet_has_a_column_for_each_score(tmp_path, predicted):
    predictions.write_parquet(tmp_path / "predictions.parquet", predicted)
    table = pq.read_table(tmp_path / "predictions.parquet")
    scores = [f"{model}_{sample}" for model in ("hlf", "inclusive") for sample in schema.SAMPLES]
    assert table.column_names == ["event_id", "label", "weight", *scores]
    assert table["event_id"].to_pylist() == predicted.event_ids.to_pylist()
    np.testing.assert_array_equal(table["inclusive_ttbar"].to_numpy(), predicted.scores["inclusive"][:, 1])
