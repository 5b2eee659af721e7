import json
import math

import numpy as np
import pytest

from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import calibration, performance

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


def make(events_per_class=100, seed=0):
    return performance.Sample(*sample(events_per_class, seed), schema.SAMPLES)


TEST, VALIDATION = make(), make(seed=1)
CROSS_SECTIONS = {"qcd": (4000.0, 400.0), "ttbar": (50.0, 1.0), "wjets": (500.0, 30.0)}


@pytest.fixture(scope="module")
def measured():
    return performance.measure(VALIDATION, TEST, CONFIG, CROSS_SECTIONS)


def test_values_are_the_measured_ones_and_errors_those_of_the_resamplings(measured):
    models = performance.summarise_models(measured, TEST)
    for place, model in enumerate(("hlf", "inclusive")):
        for label, name in enumerate(schema.SAMPLES):
            quantity = models[model]["auc"][name]
            assert quantity["value"] == measured.nominal.auc[place, label]
            assert quantity["error"] == pytest.approx(measured.resampled.auc[:, place, label].std(ddof=1))
        assert models[model]["accuracy"]["value"] == measured.nominal.accuracy[place]


def passing(sample, model, wanted, threshold, process):
    """Share of a process that passes, straight from the scores."""
    passes, own = sample.scores[model][:, wanted] >= threshold, sample.labels == process
    return sample.weights[passes & own].sum() / sample.weights[own].sum()


def points_of(measured, key="working_points"):
    """Every point with its model's place and name, its class, and its place among the points."""
    models = performance.summarise_models(measured, TEST)
    return [
        (place, model, schema.SAMPLES.index(name), number, point)
        for place, (model, values) in enumerate(models.items())
        for name, points in values[key].items()
        for number, point in enumerate(points)
    ]


def test_thresholds_are_of_validation_and_rates_of_test(measured):
    points = points_of(measured)
    assert len(points) == 2 * 3 * 2
    for _, model, wanted, _, point in points:
        threshold = point["threshold"]
        assert threshold in VALIDATION.scores[model][:, wanted]
        assert passing(VALIDATION, model, wanted, threshold, wanted) >= point["target"]
        assert point["true_positive_rate"] == pytest.approx(passing(TEST, model, wanted, threshold, wanted))
        for name, measured_rate in point["background"].items():
            rate = passing(TEST, model, wanted, threshold, schema.SAMPLES.index(name))
            assert measured_rate["false_positive_rate"] == pytest.approx(rate)
            assert measured_rate["rejection"] == (pytest.approx(1 / rate) if rate else None)
    assert any(point["true_positive_rate"] < point["target"] for *_, point in points)  # as chance has it


def test_errors_are_those_of_the_same_model_class_and_background(measured):
    for place, _, wanted, key, point in points_of(measured):
        resampled = measured.resampled.passing[:, place, wanted, key]
        assert point["true_positive_error"] == pytest.approx(resampled[:, wanted].std(ddof=1))
        assert point["error"] == pytest.approx(resampled[:, -1].std(ddof=1))
        for name, rate in point["background"].items():
            assert rate["error"] == pytest.approx(resampled[:, schema.SAMPLES.index(name)].std(ddof=1))


def test_the_rate_adds_up_every_process_by_its_own_cross_section(measured):
    before = {name: pb * 1e-36 * 2e34 for name, (pb, _) in CROSS_SECTIONS.items()}
    for _, model, wanted, _, point in points_of(measured):
        rates = {
            name: before[name] * passing(TEST, model, wanted, point["threshold"], label)
            for label, name in enumerate(schema.SAMPLES)
        }
        assert point["rate"]["processes"] == pytest.approx(rates)
        assert point["rate"]["total"]["value"] == pytest.approx(sum(rates.values()))
        assert 0 < point["rate"]["total"]["error"] < sum(rates.values())
        parts = [rates[name] * error / pb for name, (pb, error) in CROSS_SECTIONS.items()]
        assert point["rate"]["total"]["cross_section_error"] == pytest.approx(math.hypot(*parts))


def test_budgets_hold_on_validation_and_one_that_none_meets_has_no_threshold():
    config = CONFIG.model_copy(update={"rate_budgets": (1e-6, 30.0)})
    points = points_of(performance.measure(VALIDATION, TEST, config, CROSS_SECTIONS), "rate_budgets")
    for _, model, wanted, number, point in points:
        if number == 0:
            assert point == {"budget": 1e-6, "threshold": None}
            continue
        total = sum(
            pb * 0.02 * passing(VALIDATION, model, wanted, point["threshold"], schema.SAMPLES.index(name))
            for name, (pb, _) in CROSS_SECTIONS.items()
        )
        assert total <= 30


def test_the_temperature_is_of_validation_and_its_effect_of_test(measured):
    models = performance.summarise_models(measured, TEST)
    for model, values in models.items():
        logits = calibration.as_logits(VALIDATION.scores[model])
        temperature = calibration.fit_temperature(logits, VALIDATION.labels, VALIDATION.weights)
        assert values["calibration"]["temperature"] == temperature
        scaled = calibration.as_logits(TEST.scores[model]) / temperature
        expected = calibration.calibrate(scaled, TEST.labels, TEST.weights)
        assert values["calibration"]["with_temperature"]["brier"] == expected.brier


def test_configured_cross_sections_come_first_and_unknown_ones_give_no_rate():
    config = CONFIG.model_copy(update={"cross_sections": {"qcd": 100.0}})
    measured = performance.measure(VALIDATION, TEST, config, {"qcd": (4000.0, 400.0), "ttbar": None})
    np.testing.assert_allclose(measured.hertz, [2.0, np.nan, np.nan])
    np.testing.assert_allclose(measured.hertz_errors, [0.0, np.nan, np.nan])
    assert all(point["rate"]["total"]["value"] is None for *_, point in points_of(measured))
    assert all(point["threshold"] is None for *_, point in points_of(measured, "rate_budgets"))


def test_a_working_point_without_background_gets_an_upper_limit():
    labels = np.repeat(np.arange(3), 10)
    perfect = performance.Sample(labels, np.ones(30), {"hlf": np.eye(3)[labels] * 0.9}, schema.SAMPLES)
    measured = performance.measure(perfect, perfect, CONFIG)
    point = performance.summarise_models(measured, perfect)["hlf"]["working_points"]["qcd"][0]
    assert point["false_positive_rate"] == 0
    assert point["upper_limit_95"] == pytest.approx(1 - 0.05 ** (1 / 20))
    assert point["background"]["ttbar"]["upper_limit_95"] == pytest.approx(1 - 0.05 ** (1 / 10))
    assert point["background"]["ttbar"]["rejection"] is None


def test_confusion_matrices_count_and_weigh_every_event(measured):
    labels, weights = TEST.labels, TEST.weights
    confusion = performance.summarise_models(measured, TEST)["hlf"]["confusion"]
    np.testing.assert_array_equal(np.sum(confusion["events"], axis=1), [100, 100, 100])
    np.testing.assert_allclose(np.sum(confusion["weights"], axis=1), [weights[labels == k].sum() for k in range(3)])


def test_differences_are_paired(measured):
    (difference,) = performance.summarise_differences(measured)
    assert (difference["model"], difference["reference"]) == ("inclusive", "hlf")
    for label, name in enumerate(schema.SAMPLES):
        paired = measured.resampled.auc[:, 1, label] - measured.resampled.auc[:, 0, label]
        assert difference["auc"][name]["value"] == pytest.approx(
            measured.nominal.auc[1, label] - measured.nominal.auc[0, label]
        )
        assert difference["auc"][name]["error"] == pytest.approx(paired.std(ddof=1))
        for key, point in enumerate(difference["working_points"][name]):
            for other, value in point["background"].items():
                own = (label, key, schema.SAMPLES.index(other))
                both = measured.resampled.passing[:, 1, *own] - measured.resampled.passing[:, 0, *own]
                nominal = measured.nominal.passing[1, *own] - measured.nominal.passing[0, *own]
                assert value == {"value": pytest.approx(nominal), "error": pytest.approx(both.std(ddof=1))}
    assert difference["accuracy"]["value"] == pytest.approx(measured.nominal.accuracy[1] - measured.nominal.accuracy[0])


def test_a_model_does_not_differ_from_its_copy():
    hlf = TEST.scores["hlf"]
    twins = performance.Sample(TEST.labels, TEST.weights, {"hlf": hlf, "inclusive": hlf}, schema.SAMPLES)
    (difference,) = performance.summarise_differences(performance.measure(twins, twins, CONFIG))
    assert all(quantity == {"value": 0.0, "error": 0.0} for quantity in difference["auc"].values())


def test_every_pair_of_models_is_compared_with_the_one_before():
    scores = {"hlf": TEST.scores["hlf"], "particle_sequence": TEST.scores["hlf"], "inclusive": TEST.scores["inclusive"]}
    three = performance.Sample(TEST.labels, TEST.weights, scores, schema.SAMPLES)
    pairs = performance.summarise_differences(performance.measure(three, three, CONFIG))
    assert [(pair["model"], pair["reference"]) for pair in pairs] == [
        ("particle_sequence", "hlf"),
        ("inclusive", "hlf"),
        ("inclusive", "particle_sequence"),
    ]


def test_roc_curves_come_with_every_resampling(measured):
    rate, resampled = measured.roc("inclusive", 1, 0)
    assert rate.shape == performance.ROC_GRID.shape
    assert resampled.shape == (CONFIG.bootstrap_samples, *performance.ROC_GRID.shape)
    assert (np.diff(rate) >= 0).all()
    assert rate[-1] <= 1


def test_an_absent_class_is_undefined_but_valid_json():
    kept = TEST.labels != 2
    scores = {name: value[kept] for name, value in TEST.scores.items()}
    two = performance.Sample(TEST.labels[kept], TEST.weights[kept], scores, schema.SAMPLES)
    measured = performance.measure(two, two, CONFIG)
    models = performance.summarise_models(measured, two)
    assert models["hlf"]["auc"]["wjets"] == {"value": None, "error": None}
    assert models["hlf"]["working_points"]["wjets"] == []
    assert models["hlf"]["auc"]["qcd"]["value"] > 0.5
    json.dumps([models, performance.summarise_differences(measured)], allow_nan=False)


def test_test_events_by_hand():
    stored = np.array([1.0, 3.0, 1.5, -0.5])
    summary = performance.summarise_test_events(np.array([0, 0, 1, 1]), stored * [1, 1, 2, 2], stored, schema.SAMPLES)
    names = ("events", "weight", "negative_share", "effective_events")
    assert summary["qcd"] == dict(zip(names, (2, 4.0, 0, pytest.approx(1.6)), strict=True))
    assert summary["ttbar"] == dict(zip(names, (2, 2.0, 0.25, pytest.approx(0.4)), strict=True))
    assert summary["wjets"] == dict.fromkeys(names, 0)
