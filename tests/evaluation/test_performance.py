import json

import numpy as np
import pytest

from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import performance

CONFIG = EvaluationConfig(bootstrap_samples=60, working_points=(0.5, 0.9))


def sample(events_per_class=100, seed=0):
    """Labels, weights and the scores of a better and a worse model."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), events_per_class)
    logits = random.normal(size=(len(labels), 3))
    scores = {
        name: np.exp(logits + strength * np.eye(3)[labels]) for name, strength in (("hlf", 1.0), ("inclusive", 2.0))
    }
    scores = {name: (value / value.sum(axis=1, keepdims=True)).astype(np.float32) for name, value in scores.items()}
    return labels, random.uniform(0.5, 1.5, len(labels)), scores


@pytest.fixture(scope="module")
def measured():
    return performance.measure(*sample(), CONFIG)


def test_values_are_the_measured_ones_and_errors_those_of_the_resamplings(measured):
    models = performance.summarise_models(measured, *sample())
    for place, model in enumerate(("hlf", "inclusive")):
        for name, label in schema.LABELS.items():
            quantity = models[model]["auc"][name]
            assert quantity["value"] == measured.nominal.auc[place, label]
            assert quantity["error"] == pytest.approx(measured.resampled.auc[:, place, label].std(ddof=1))
        assert models[model]["accuracy"]["value"] == measured.nominal.accuracy[place]


def test_working_points_reach_their_target_at_the_threshold_they_name(measured):
    labels, weights, scores = sample()
    models = performance.summarise_models(measured, labels, weights, scores)
    for model, values in models.items():
        for name, label in schema.LABELS.items():
            for point in values["working_points"][name]:
                passes = scores[model][:, label] >= point["threshold"]
                wanted = labels == label
                assert weights[passes & wanted].sum() / weights[wanted].sum() == pytest.approx(
                    point["true_positive_rate"]
                )
                assert weights[passes & ~wanted].sum() / weights[~wanted].sum() == pytest.approx(
                    point["false_positive_rate"]
                )
                assert point["true_positive_rate"] >= point["target"]
                assert point["error"] > 0 or point["false_positive_rate"] == 0


def test_a_working_point_without_background_gets_an_upper_limit():
    labels = np.repeat(np.arange(3), 10)
    perfect = np.eye(3)[labels] * 0.9
    measured = performance.measure(labels, np.ones(30), {"hlf": perfect}, CONFIG)
    point = performance.summarise_models(measured, labels, np.ones(30), {"hlf": perfect})["hlf"]["working_points"][
        "qcd"
    ][0]
    assert point["false_positive_rate"] == 0
    assert point["upper_limit_95"] == pytest.approx(1 - 0.05 ** (1 / 20))


def test_confusion_matrices_count_and_weigh_every_event(measured):
    labels, weights, scores = sample()
    confusion = performance.summarise_models(measured, labels, weights, scores)["hlf"]["confusion"]
    np.testing.assert_array_equal(np.sum(confusion["events"], axis=1), [100, 100, 100])
    np.testing.assert_allclose(np.sum(confusion["weights"], axis=1), [weights[labels == k].sum() for k in range(3)])


def test_differences_are_paired(measured):
    (difference,) = performance.summarise_differences(measured)
    assert (difference["model"], difference["reference"]) == ("inclusive", "hlf")
    for name, label in schema.LABELS.items():
        paired = measured.resampled.auc[:, 1, label] - measured.resampled.auc[:, 0, label]
        assert difference["auc"][name]["value"] == pytest.approx(
            measured.nominal.auc[1, label] - measured.nominal.auc[0, label]
        )
        assert difference["auc"][name]["error"] == pytest.approx(paired.std(ddof=1))
    assert difference["accuracy"]["value"] == pytest.approx(measured.nominal.accuracy[1] - measured.nominal.accuracy[0])


def test_a_model_does_not_differ_from_its_copy():
    labels, weights, scores = sample()
    twins = {"hlf": scores["hlf"], "inclusive": scores["hlf"]}
    (difference,) = performance.summarise_differences(performance.measure(labels, weights, twins, CONFIG))
    assert all(quantity == {"value": 0.0, "error": 0.0} for quantity in difference["auc"].values())


def test_every_pair_of_models_is_compared_with_the_one_before():
    labels, weights, scores = sample()
    three = {"hlf": scores["hlf"], "particle_sequence": scores["hlf"], "inclusive": scores["inclusive"]}
    pairs = performance.summarise_differences(performance.measure(labels, weights, three, CONFIG))
    assert [(pair["model"], pair["reference"]) for pair in pairs] == [
        ("particle_sequence", "hlf"),
        ("inclusive", "hlf"),
        ("inclusive", "particle_sequence"),
    ]


def test_roc_curves_come_with_every_resampling(measured):
    rate, resampled = measured.roc("inclusive", 1)
    assert rate.shape == performance.ROC_GRID.shape
    assert resampled.shape == (CONFIG.bootstrap_samples, *performance.ROC_GRID.shape)
    assert (np.diff(rate) >= 0).all()
    assert rate[-1] <= 1


def test_an_absent_class_is_undefined_but_valid_json():
    labels, weights, scores = sample()
    kept = labels != 2
    labels, weights, scores = labels[kept], weights[kept], {name: value[kept] for name, value in scores.items()}
    measured = performance.measure(labels, weights, scores, CONFIG)
    models = performance.summarise_models(measured, labels, weights, scores)
    assert models["hlf"]["auc"]["wjets"] == {"value": None, "error": None}
    assert models["hlf"]["working_points"]["wjets"] == []
    assert models["hlf"]["auc"]["qcd"]["value"] > 0.5
    json.dumps([models, performance.summarise_differences(measured)], allow_nan=False)


def test_test_events_by_hand():
    stored = np.array([1.0, 3.0, 1.5, -0.5])
    summary = performance.summarise_test_events(np.array([0, 0, 1, 1]), stored * [1, 1, 2, 2], stored)
    names = ("events", "weight", "negative_share", "effective_events")
    assert summary["qcd"] == dict(zip(names, (2, 4.0, 0, pytest.approx(1.6)), strict=True))
    assert summary["ttbar"] == dict(zip(names, (2, 2.0, 0.25, pytest.approx(0.4)), strict=True))
    assert summary["wjets"] == dict.fromkeys(names, 0)
