"""Tree models as ONNX graphs, of every kind."""

from __future__ import annotations

import json

import lightgbm
import numpy as np
import pytest
import xgboost

from support.serving_data import POINTS, make_scaling, metadata
from toposieve.models import TREE_MODELS
from toposieve.registry import describe_features
from toposieve.serving.exports import units_of
from toposieve.serving.portable_trees import READERS, trees_to_onnx
from toposieve.serving.scorer import Scorer
from toposieve.tuning.tree_models import LEAST_PROBABILITY, MODELS

EVENTS, ROUNDS = 1500, 8
NO_PARTICLES = np.empty((0, 0), np.float32), np.zeros(1, np.int64)
SHARE = [1, 2, 3]
"""Of the classes: such that none begins like another."""
TINY = 1e-30
"""LightGBM takes still smaller features for 0."""


@pytest.fixture(scope="module")
def events():
    """Features in physical units, many of them alike, and labels."""
    random = np.random.default_rng(1)
    labels = random.choice(3, EVENTS, p=np.divide(SHARE, 6))
    features = (random.normal(3, 2, (EVENTS, 14)) + 2 * np.eye(14)[labels]).astype(np.float32)
    features[:, 3] = np.round(features[:, 3])
    return features, labels


def forest_of(random, depth=3, trees=5):
    """A forest as Spark ML writes it, whose thresholds have more digits than features."""

    def grow(nodes, level):
        number = len(nodes)
        leaf = {"leftCategoriesOrThreshold": [], "featureIndex": -1}
        nodes.append(
            {"split": leaf, "leftChild": -1, "rightChild": -1, "impurityStats": random.gamma(1, 5, 3).tolist()}
        )
        if level < depth:
            cut = {"leftCategoriesOrThreshold": [random.normal()], "featureIndex": int(random.integers(14))}
            nodes[number] |= {"split": cut, "leftChild": grow(nodes, level + 1), "rightChild": grow(nodes, level + 1)}
        return number

    forest = [[] for _ in range(trees)]
    for nodes in forest:
        grow(nodes, 0)
    return forest


@pytest.fixture(scope="module")
def fitted(events):
    """Model → its file."""
    features, labels = make_scaling().apply_high_level(events[0]), events[1]
    with_classes = {"num_class": 3, "seed": 1}
    boosted = xgboost.train(
        {"objective": "multi:softprob", "nthread": 1, **with_classes}, xgboost.DMatrix(features, labels), ROUNDS
    )
    light = lightgbm.train(
        {"objective": "multiclass", "num_threads": 1, "verbose": -1, **with_classes},
        lightgbm.Dataset(features, labels),
        ROUNDS,
    )
    return {
        "random_forest": json.dumps(forest_of(np.random.default_rng(2))).encode(),
        "xgboost": bytes(boosted.save_raw("json")),
        "lightgbm": light.model_to_string().encode(),
    }


def test_there_is_a_reader_of_each_model():
    assert tuple(READERS) == TREE_MODELS


@pytest.mark.parametrize("model", TREE_MODELS)
def test_scores_are_the_logarithms_of_the_probabilities(model, events, fitted):
    features = make_scaling().apply_high_level(events[0])
    expected = MODELS[model].load(fitted[model])(features)
    assert np.ptp(expected, axis=0).min() > 0.2
    found = Scorer(trees_to_onnx(model, fitted[model], make_scaling(), metadata("hlf")), 1)
    np.testing.assert_allclose(found.logits(events[0], *NO_PARTICLES), np.log(expected), rtol=0, atol=5e-6)


def test_xgboost_of_two_classes_gives_both_probabilities(events):
    features, labels = make_scaling().apply_high_level(events[0]), events[1] == 2
    boosted = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1, "seed": 1}, xgboost.DMatrix(features, labels), ROUNDS
    )
    content = bytes(boosted.save_raw("json"))
    expected = MODELS["xgboost"].load(content)(features)
    assert expected.sum(axis=1) == pytest.approx(1)
    assert expected[labels, 1].mean() > 0.7 > 0.4 > expected[~labels, 1].mean()
    said = metadata("hlf", classes=("rest", "wjets"), thresholds=dict.fromkeys(("rest", "wjets"), POINTS))
    found = Scorer(trees_to_onnx("xgboost", content, make_scaling(), said), 1)
    np.testing.assert_allclose(found.logits(events[0], *NO_PARTICLES), np.log(expected), rtol=0, atol=5e-6)


@pytest.mark.parametrize("model", TREE_MODELS)
def test_an_event_gets_the_same_bits_whatever_comes_with_it(model, events, fitted):
    scorer = Scorer(trees_to_onnx(model, fitted[model], make_scaling(), metadata("hlf")), 1)
    together = scorer.logits(events[0], *NO_PARTICLES)
    for count in (1, 2, 3, 7, 15, 49, 127, 511, 513):
        assert scorer.logits(events[0][-count:], *NO_PARTICLES).tobytes() == together[-count:].tobytes()


@pytest.mark.parametrize("model", TREE_MODELS)
def test_events_at_a_threshold_lie_where_they_lay(model, events, fitted):
    """Features at each threshold, and next to it, taken as they are."""
    trees = READERS[model](fitted[model]).trees
    cuts = [
        cut for tree in trees for cut in zip(tree.feature.tolist(), tree.threshold.tolist(), strict=True) if cut[0] >= 0
    ]
    cuts = [(feature, threshold) for feature, threshold in cuts if abs(threshold) > TINY]
    at = np.ones((len(cuts), 14), np.float32)
    at[np.arange(len(cuts)), [feature for feature, _ in cuts]] = [threshold for _, threshold in cuts]
    near = np.concatenate([at, np.nextafter(at, np.float32(np.inf)), np.nextafter(at, np.float32(-np.inf))])
    features = units_of(describe_features(("high_level",)), scaled=True)
    scorer = Scorer(trees_to_onnx(model, fitted[model], None, metadata("hlf", features=features)), 1, scaled=True)
    expected = MODELS[model].load(fitted[model])(near)
    np.testing.assert_allclose(scorer.logits(near, *NO_PARTICLES), np.log(expected), rtol=0, atol=5e-6)


def test_no_probability_is_so_small_that_its_logarithm_is_not_finite(events):
    forest = forest_of(np.random.default_rng(3))
    for nodes in forest:
        for node in nodes:
            node["impurityStats"][1] = 0.0
    content = json.dumps(forest).encode()
    scorer = Scorer(trees_to_onnx("random_forest", content, make_scaling(), metadata("hlf")), 1)
    found = scorer.logits(events[0], *NO_PARTICLES)[:, 1]
    np.testing.assert_allclose(found, np.log(LEAST_PROBABILITY), rtol=1e-6)


def test_the_same_model_has_the_same_bytes(fitted):
    one, same = (trees_to_onnx("lightgbm", fitted["lightgbm"], make_scaling(), {}) for _ in range(2))
    assert one == same != trees_to_onnx("lightgbm", fitted["lightgbm"], make_scaling(), {"label": "another"})
