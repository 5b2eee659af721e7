"""Scores that a classifier hands to the evaluation."""

import numpy as np
import pyarrow as pa
import pytest

from support.training_data import key_of
from toposieve.errors import InvalidInputError
from toposieve.io.scores import Scores, logarithms, publish_scores, read_scores, scores_folder

IDS = pa.array(["qcd/day/1.root:0", "ttbar/day/1.root:7"])
SCORES = Scores(IDS, np.array([[1.0, 2.0, 3.0], [-5.0, 0.0, 90.0]], np.float32))
INPUTS = {"datasets/demo": "d1", "models/hlf/1": "m1"}


@pytest.fixture
def folder(tmp_path):
    base = key_of(tmp_path)
    folder = scores_folder(base, "demo", "test", base / "models" / "hlf" / "1")
    publish_scores(folder, INPUTS, SCORES, seconds=1.5)
    return folder


def test_scores_come_back(tmp_path, folder):
    assert folder.relative_to(key_of(tmp_path)) == "scores/demo/test/hlf/1"
    np.testing.assert_array_equal(read_scores(folder, INPUTS, IDS).logits, SCORES.logits)


@pytest.mark.parametrize("name", INPUTS)
def test_scores_of_another_dataset_or_run_are_none(folder, name):
    assert read_scores(folder, INPUTS | {name: "other"}, IDS) is None


def test_scores_that_are_lost_are_none(folder, caplog):
    [file] = [name for name in folder.list() if name.endswith(".parquet")]
    (folder / file).delete()
    assert read_scores(folder, INPUTS, IDS) is None
    assert "scoring again" in caplog.text


def test_scores_of_other_events_are_refused(folder):
    with pytest.raises(InvalidInputError, match="scores of other events"):
        read_scores(folder, INPUTS, IDS[::-1])


def test_scores_that_are_not_finite_are_refused(folder):
    bad = Scores(IDS, np.array([[0, 0, 0], [0, np.nan, 0]], np.float32))
    with pytest.raises(InvalidInputError, match=r"hlf gives NaN .* 1 test events, the first ttbar/day/1.root:7"):
        publish_scores(folder, INPUTS, bad, seconds=0)


def test_probabilities_are_the_softmax():
    powers = np.exp(SCORES.logits.astype(np.float64))
    np.testing.assert_allclose(SCORES.probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-6, atol=1e-30)


def test_logarithms_of_probabilities_give_them_back_and_are_finite():
    probabilities = np.array([[0.25, 0.75, 0.0]])
    logits = logarithms(probabilities)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(Scores(IDS[:1], logits).probabilities, probabilities, atol=1e-6)
