import os
import re
import threading
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pytest
import tensorflow as tf

from support import evaluation_data
from toposieve import latency, schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation import inputs, scoring
from toposieve.evaluation.scoring import measure_latency
from toposieve.event_keys import text_keys
from toposieve.io.manifests import read_manifest
from toposieve.io.scores import SCORED_SPLITS, read_permuted_scores, read_scores
from toposieve.latency import read_latency
from toposieve.permutation import PARTICLE_GROUPS, donors
from toposieve.training.architectures import build_model
from toposieve.training.architectures.parts import logits_of

# Keras 3.15 and TensorFlow 2.21 under numpy 2, when a model is saved or loaded.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")

EVENTS = sum(evaluation_data.TEST_EVENTS.values())
BIAS = (0.1, 0.0, -0.1)


def opened(base, model, bias):
    """A dataset's base, its folder, and a fresh run on it."""
    dataset = evaluation_data.write_dataset(base)
    run = evaluation_data.write_run(base, dataset, TrainingConfig(model=model), bias=bias)
    root = evaluation_data.base_key(base)
    data = inputs.open_test_data(root / "datasets" / "demo")
    return root, data, inputs.open_run(root, data, model, f"models/{model}/{run.name}")


LATENCY = [{"batch": 1, "p50": 0.25, "p99": 0.5}]


@pytest.fixture(scope="module", autouse=True)
def quick_latency():
    """Compiling for each batch takes seconds; one test does it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "measure_latency", lambda *_: LATENCY)
        yield


@pytest.fixture(scope="module", params=["hlf", "inclusive"])
def scored(request, tmp_path_factory):
    """Base, test data and a run whose scores are published."""
    base, data, run = opened(tmp_path_factory.mktemp("base"), request.param, BIAS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BATCH_EVENTS", 16)  # the last batch is not full
        patch.setattr(scoring, "TABLE_BATCH_EVENTS", 16)
        scoring.score(base, data.directory, run)
    return base, data, run


def stored_examples(split):
    """A split's records, one by one."""
    records = tf.data.TFRecordDataset([str(shard.key) for shard in split.shards])
    return [tf.train.Example.FromString(record.numpy()).features.feature for record in records]


@pytest.mark.parametrize("split", SCORED_SPLITS)
def test_their_softmax_is_the_published_models_probability_event_by_event(scored, split):
    _, data, run = scored
    found = read_scores(run.scores, split)
    examples = stored_examples(inputs.open_test_data(data.directory, split).split)
    assert found.event_ids.to_pylist() == [e["event_id"].bytes_list.value[0].decode() for e in examples]
    np.testing.assert_array_equal(found.labels, [e["label"].int64_list.value[0] for e in examples])
    with run.model_file.fetch() as path:
        model = tf.keras.models.load_model(path, compile=False)
    for place in (0, 17, EVENTS - 1):
        event = {
            "high_level": np.array([examples[place]["hlf"].float_list.value]) * evaluation_data.SCALE
            + evaluation_data.SCALE / 10,  # the published model takes physical units
            "particles": np.reshape(
                examples[place]["particles"].float_list.value, (1, -1, len(schema.LOW_LEVEL_FEATURES))
            ),
        }
        expected = model({key: tf.constant(event[key], tf.float32) for key in model.input}).numpy()[0]
        np.testing.assert_allclose(tf.nn.softmax(found.logits[place]), expected, rtol=1e-5)


def test_a_model_that_the_code_no_longer_makes_is_scored_as_it_was_trained(scored, monkeypatch, caplog):
    _, data, run = scored
    was = scoring.score_split(data, run, logits_of(scoring.load_model(run)))
    assert not caplog.text

    def with_tanh(*_):
        model = build_model(TrainingConfig(model=run.label), 3)
        model.get_layer("hidden_1" if run.label == "hlf" else "hidden").activation = tf.keras.activations.tanh
        return model

    monkeypatch.setattr(scoring, "build_model", with_tanh)
    now = scoring.score_split(data, run, logits_of(scoring.load_model(run)))
    np.testing.assert_allclose(now.logits, was.logits, rtol=1e-4, atol=1e-5)
    assert re.search(r"scored as it was saved, which is slower: hidden \(Dense [^)]+\) is now hidden", caplog.text)


@pytest.mark.parametrize("scored", ["hlf"], indirect=True)
def test_events_of_which_nobody_knows_how_they_were_scaled_are_no_other_events(scored, monkeypatch):
    base, data, run = scored
    monkeypatch.setattr(scoring, "open_test_data", lambda *_: replace(data, scaling=None))
    with pytest.raises(InvalidInputError, match="datasets/demo does not say how it was scaled: leave --varied out"):
        scoring.score_other(base, data.directory, data, run)


def test_latency_is_measured_once_and_kept_beside_the_scores(scored, monkeypatch):
    base, data, run = scored
    assert read_latency(run.scores) == LATENCY
    monkeypatch.setattr(scoring, "measure_latency", None)
    scoring.score(base, data.directory, run)


def test_latency_is_of_one_event_and_of_a_batch(scored, monkeypatch):
    _, data, run = scored
    monkeypatch.setattr(latency, "ROUND_SECONDS", 0.0)
    one, many = measure_latency(data, scoring.load_model(run))
    assert (one["batch"], many["batch"]) == (1, 32 if run.label == "inclusive" else 1024)
    assert all(0 < each["p50"] <= each["p99"] < 5 for each in (one, many))


def test_permuted_events_are_scored_with_another_ones_feature(scored):
    _, data, run = scored
    found, plain = read_permuted_scores(run.scores), read_scores(run.scores, "test")
    np.testing.assert_array_equal(found.rows, np.arange(EVENTS))
    groups = tuple(PARTICLE_GROUPS) if run.label == "inclusive" else ()
    assert tuple(found.logits) == (*schema.HIGH_LEVEL_FEATURES, *groups)
    examples, place = stored_examples(data.split), schema.HIGH_LEVEL_FEATURES.index("MT")
    features = np.array([example["hlf"].float_list.value for example in examples], np.float32)
    features[:, place] = features[donors(text_keys(plain.event_ids.to_pylist()), "MT"), place]
    with run.model_file.fetch() as path:
        model = tf.keras.models.load_model(path, compile=False)
    for row in (0, 17, EVENTS - 1):
        particles = np.reshape(examples[row]["particles"].float_list.value, (1, -1, len(schema.LOW_LEVEL_FEATURES)))
        event = {
            "high_level": features[row : row + 1] * evaluation_data.SCALE + evaluation_data.SCALE / 10,
            "particles": particles,
        }
        expected = model({key: tf.constant(event[key], tf.float32) for key in model.input}).numpy()[0]
        np.testing.assert_allclose(tf.nn.softmax(found.logits["MT"][row]), expected, rtol=1e-5)
    for name in groups:
        assert np.abs(found.logits[name] - plain.logits).max() > 1e-4


def test_what_is_scored_is_not_scored_again(scored, monkeypatch):
    base, data, run = scored
    monkeypatch.setattr(scoring, "load_model", None)
    scoring.score(base, data.directory, run)
    with pytest.raises(TypeError):
        scoring.score(base, data.directory, run, recompute=True)


def test_other_classifiers_must_have_published_theirs(tmp_path):
    base, data, run = opened(tmp_path, "hlf", BIAS)
    unit = run.manifest.units[0]
    files = tuple(file for file in unit.outputs if not file.path.endswith(".keras"))
    manifest = run.manifest.model_copy(update={"units": (unit.model_copy(update={"outputs": files}),)})
    evaluation_data.save_manifest(Path(str(run.directory)), manifest)
    tree = inputs.open_run(base, data, "tree", run.directory.relative_to(base))
    with pytest.raises(InvalidInputError, match=r"^tree: .*/scores/demo/hlf/.* has no scores of demo: run .* again"):
        scoring.score(base, data.directory, tree)


def test_xla_gives_the_same_scores():
    model = build_model(TrainingConfig(), 3)
    event = {"high_level": tf.random.normal((2, 14), seed=1), "particles": tf.random.normal((2, 5, 19), seed=2)}
    plain, compiled = (scoring.make_scorer(model, xla=xla)(event).numpy() for xla in (False, True))
    np.testing.assert_allclose(plain, compiled, rtol=1e-5)


def test_nan_scores_are_refused_and_nothing_is_published(tmp_path):
    base, data, run = opened(tmp_path, "hlf", (np.nan, 0, 0))
    with pytest.raises(InvalidInputError, match=f"NaN or infinite for {EVENTS} events, the first "):
        scoring.score(base, data.directory, run)
    with pytest.raises(InvalidInputError, match="no manifest"):
        read_manifest(run.scores)


def test_a_table_cut_short_after_the_check_is_refused(tmp_path):
    base, data, run = opened(tmp_path, "hlf", BIAS)
    path = Path(str(data.split.shards[1].table))
    content = path.read_bytes()
    path.write_bytes(content[:-7] + b"altered")
    with pytest.raises(InvalidInputError, match=r"shard-00001-of-00002\.events\.parquet is altered"):
        scoring.score(base, data.directory, run)


def test_a_model_damaged_within_is_refused(tmp_path):
    base, data, run = opened(tmp_path, "hlf", BIAS)
    path = Path(str(run.model_file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"model\.keras is no model that can be read .* train hlf again"):
        scoring.score(base, data.directory, run)


def test_batches_are_scored_side_by_side_come_in_order_and_are_not_taken_long_before():
    together = threading.Barrier(scoring.AT_ONCE, timeout=20)  # passed only by as many at a time
    taken = []

    def score(number: int) -> int:
        together.wait()
        return number

    found = scoring.in_parallel(score, (taken.append(number) or number for number in range(4 * scoring.AT_ONCE)))
    assert next(found) == 0
    assert len(taken) == scoring.AT_ONCE + 1
    assert list(found) == list(range(1, 4 * scoring.AT_ONCE))
