import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support import evaluation_data
from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.errors import InvalidInputError
from toposieve.evaluation import inputs, predictions
from toposieve.io.event_tables import read_tables
from toposieve.io.scores import SCORED_SPLITS, Scores, publish_scores

LABELS = ("first", "second")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A dataset with two runs of one model, and their scores."""
    base = tmp_path_factory.mktemp("base")
    dataset = evaluation_data.write_dataset(base)
    for seed in (1, 2):
        evaluation_data.write_run(base, dataset, TrainingConfig(model="hlf", seed=seed))
    return base


def open_all(base):
    root = evaluation_data.base_key(base)
    data = inputs.open_test_data(root / "datasets" / "demo")
    found = sorted(path.relative_to(base).as_posix() for path in (base / "models" / "hlf").iterdir())
    return data, [inputs.open_run(root, data, label, name) for label, name in zip(LABELS, found, strict=True)]


def table_of(data, split):
    return pa.concat_tables(read_tables(data.directory, data.manifest, split))


def logits_of(data, split, place):
    """Other numbers for each run and split."""
    random = np.random.default_rng([SCORED_SPLITS.index(split), place])
    return random.normal(0, 50, (table_of(data, split).num_rows, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def predicted(base):
    data, runs = open_all(base)
    for place, run in enumerate(runs):
        tables = {split: table_of(data, split) for split in SCORED_SPLITS}
        scores = {
            split: Scores(table["event_id"].combine_chunks(), table["label"].to_numpy(), logits_of(data, split, place))
            for split, table in tables.items()
        }
        publish_scores(evaluation_data.base_key(base), data.directory, run.directory, scores)
    return predictions.predict(data, runs)


def test_columns_are_those_of_the_tables_in_order(base, predicted):
    table = table_of(open_all(base)[0], "test")
    assert predicted.event_ids.to_pylist() == table["event_id"].to_pylist()
    np.testing.assert_array_equal(predicted.labels, table["label"])
    factors = np.array([1, 2, 1])  # a quarter of ttbar's weight is negative
    np.testing.assert_array_equal(predicted.stored_weights, table["weight"])
    np.testing.assert_array_equal(predicted.weights, np.float64(table["weight"]) * factors[predicted.labels])
    np.testing.assert_array_equal(predicted.particles, table["particles"])


def test_features_are_in_physical_units(base, predicted):
    scaled = np.array([*table_of(open_all(base)[0], "test").select(schema.HIGH_LEVEL_FEATURES)]).T
    expected = scaled * evaluation_data.SCALE + evaluation_data.SCALE / 10
    np.testing.assert_allclose(predicted.features, expected, rtol=1e-6)
    assert predicted.features.dtype == np.float32


@pytest.mark.parametrize("split", SCORED_SPLITS)
def test_scores_are_probabilities_by_label(base, predicted, split):
    data, runs = open_all(base)
    found = predictions.predict(inputs.open_test_data(data.directory, split), runs).scores
    assert list(found) == list(LABELS)
    for place, label in enumerate(LABELS):
        powers = np.exp(np.float64(logits_of(data, split, place)))
        np.testing.assert_allclose(found[label], powers / powers.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-30)
        assert found[label].dtype == np.float32


def test_scores_of_other_events_are_refused(base, predicted, monkeypatch):
    data, runs = open_all(base)
    found = predictions.read_scores(runs[1].scores, "validation")
    monkeypatch.setattr(predictions, "read_scores", lambda *_: found)
    with pytest.raises(InvalidInputError, match=r"scores of other test events than .*/datasets/demo: score it again"):
        predictions.predict(data, runs)


def test_counts_are_checked_against_the_manifest(base, predicted):
    data, runs = open_all(base)
    wrong = dataclasses.replace(data, counts=data.counts | {"ttbar": 3})
    with pytest.raises(InvalidInputError, match="16 events of ttbar, its manifest lists 3"):
        predictions.predict(wrong, runs)


def test_parquet_has_a_column_for_each_score(tmp_path, predicted):
    predictions.write_parquet(tmp_path / "predictions.parquet", predicted)
    table = pq.read_table(tmp_path / "predictions.parquet")
    scores = [f"{label}_{sample}" for label in LABELS for sample in schema.SAMPLES]
    assert table.column_names == ["event_id", "label", "weight", *scores]
    assert table["event_id"].to_pylist() == predicted.event_ids.to_pylist()
    np.testing.assert_array_equal(table["second_ttbar"].to_numpy(), predicted.scores["second"][:, 1])
