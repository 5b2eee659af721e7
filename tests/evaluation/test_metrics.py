import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve

from toposieve.evaluation import metrics

TARGETS = (0.5, 0.9)


def curve_of(scores, positive, weights=None):
    scores = np.asarray(scores, dtype=np.float64)
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, dtype=np.float64)
    return metrics.roc_curve(metrics.rank(scores, np.asarray(positive, dtype=bool)), weights)


def sample(events, seed=0, classes=3, decimals=None):
    """Labels, weights and softmax-like scores that separate the classes a little."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, events)
    logits = random.normal(size=(events, classes)) + 1.5 * np.eye(classes)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if decimals is not None:
        scores = scores.round(decimals)
    return labels, random.gamma(2.0, size=events), scores


def evaluator(labels, scores):
    """With no thresholds."""
    classes = next(iter(scores.values())).shape[1]
    return metrics.Evaluator(labels, scores, TARGETS, np.empty((len(scores), classes, 0)))


def rates_at(roc, targets):
    return roc.false_positive_rate[metrics.working_point_index(roc, targets)]


def test_auc_by_hand():
    # Positives .9 and .4 against negatives .6 and .1: three of four pairs in the right order.
    assert metrics.auc(curve_of([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0])) == pytest.approx(3 / 4)


def test_auc_with_weights_by_hand():
    # Pairs weigh 3·1 (right), 3·2 (right), 1·1 (wrong), 1·2 (right): 11 of 12.
    assert metrics.auc(curve_of([0.9, 0.4, 0.6, 0.1], [1, 1, 0, 0], [3, 1, 1, 2])) == pytest.approx(11 / 12)


def test_a_tie_counts_one_half():
    assert metrics.auc(curve_of([0.5, 0.5], [1, 0])) == pytest.approx(0.5)
    assert metrics.auc(curve_of([0.5, 0.5, 0.2], [1, 0, 0])) == pytest.approx(0.75)


def test_roc_points_by_hand():
    roc = curve_of([0.9, 0.6, 0.6, 0.1], [1, 1, 0, 0])
    np.testing.assert_allclose(roc.true_positive_rate, [0, 0.5, 1, 1])
    np.testing.assert_allclose(roc.false_positive_rate, [0, 0, 0.5, 1])


@pytest.mark.parametrize("decimals", [None, 1])
def test_auc_and_accuracy_agree_with_sklearn(decimals):
    labels, weights, scores = sample(700, decimals=decimals)
    measured = evaluator(labels, {"model": scores}).measure(weights)
    expected = [roc_auc_score(labels == label, scores[:, label], sample_weight=weights) for label in range(3)]
    np.testing.assert_allclose(measured.auc[0], expected, rtol=1e-12)
    expected_accuracy = accuracy_score(labels, scores.argmax(axis=1), sample_weight=weights)
    assert measured.accuracy[0] == pytest.approx(expected_accuracy, rel=1e-12)


def test_roc_agrees_with_sklearn():
    labels, weights, scores = sample(300, decimals=2)
    ranking = metrics.rank(scores[:, 1], labels == 1)
    roc = metrics.roc_curve(ranking, weights)
    false, true, thresholds = roc_curve(labels == 1, scores[:, 1], sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(roc.true_positive_rate, true, atol=1e-12)
    np.testing.assert_allclose(roc.false_positive_rate, false, atol=1e-12)
    np.testing.assert_allclose(ranking.thresholds, thresholds[1:])


def plain_share(values, labels, weights, threshold, process):
    """Share of a process's weight at or above a threshold, in plain Python."""
    own = [(value, weight) for value, label, weight in zip(values, labels, weights, strict=True) if label == process]
    return sum(weight for value, weight in own if value >= threshold) / sum(weight for _, weight in own)


def test_each_class_passes_its_own_thresholds_by_its_own_share():
    labels, weights, scores = sample(400, decimals=2)
    models = {"one": scores, "other": scores[:, [1, 2, 0]]}
    thresholds = np.random.default_rng(4).uniform(0.1, 0.7, (2, 3, 2))
    passing = metrics.Evaluator(labels, models, TARGETS, thresholds).measure(weights).passing
    for (model, wanted, key), threshold in np.ndenumerate(thresholds):
        values = list(models.values())[model][:, wanted]
        expected = [plain_share(values, labels, weights, threshold, process) for process in range(3)]
        rest = plain_share(values, labels != wanted, weights, threshold, True)
        np.testing.assert_allclose(passing[model, wanted, key], [*expected, rest], rtol=1e-12)


def test_more_scores_than_bins_change_nothing_that_is_printed(monkeypatch):
    labels, weights, scores = sample(3000)
    thresholds = np.stack([metrics.choose_thresholds(labels, weights, scores, np.array(TARGETS))])
    exact = metrics.Evaluator(labels, {"m": scores}, TARGETS, thresholds).measure(weights)
    monkeypatch.setattr(metrics, "BINS", 256)
    binned = metrics.Evaluator(labels, {"m": scores}, TARGETS, thresholds)
    assert max(bins.count for bins in binned._bins[0]) < 600
    measured = binned.measure(weights)
    np.testing.assert_allclose(measured.passing, exact.passing, rtol=1e-12)
    np.testing.assert_allclose(measured.auc, exact.auc, atol=1e-4)
    np.testing.assert_allclose(measured.curve, exact.curve, atol=2 / 256)


def test_a_threshold_is_the_tightest_that_keeps_the_target():
    labels, weights, scores = sample(300)
    thresholds = metrics.choose_thresholds(labels, weights, scores, np.array(TARGETS))
    for (wanted, key), threshold in np.ndenumerate(thresholds):
        values = scores[:, wanted]
        next_tighter = values[values > threshold].min()
        assert plain_share(values, labels, weights, threshold, wanted) >= TARGETS[key]
        assert plain_share(values, labels, weights, next_tighter, wanted) < TARGETS[key]


def test_no_threshold_passes_nothing_that_is_known():
    labels, weights, scores = sample(50)
    assert np.isnan(metrics.choose_thresholds(labels * 0, weights, scores, np.array(TARGETS))).all()
    none = np.full((1, 3, 1), np.nan)
    assert np.isnan(metrics.Evaluator(labels, {"m": scores}, TARGETS, none).measure(weights).passing).all()


def test_weight_two_is_the_event_twice():
    labels, _, scores = sample(80, decimals=1)
    weights = np.random.default_rng(3).integers(0, 4, 80)
    weighted = evaluator(labels, {"model": scores}).measure(weights.astype(float))
    repeated = evaluator(np.repeat(labels, weights), {"model": np.repeat(scores, weights, axis=0)})
    plain = repeated.measure(np.ones(weights.sum()))
    np.testing.assert_allclose(weighted.auc, plain.auc, rtol=1e-12)
    np.testing.assert_allclose(weighted.curve, plain.curve, rtol=1e-12)
    np.testing.assert_allclose(weighted.accuracy, plain.accuracy, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), decimals=st.sampled_from([None, 1]))
def test_the_order_of_events_and_the_scale_of_weights_do_not_matter(seed, decimals):
    labels, weights, scores = sample(60, seed=seed, decimals=decimals)
    order = np.random.default_rng(seed).permutation(60)
    first = evaluator(labels, {"model": scores}).measure(weights)
    second = evaluator(labels[order], {"model": scores[order]}).measure(7 * weights[order])
    np.testing.assert_allclose(first.auc, second.auc, atol=1e-12)
    np.testing.assert_allclose(first.curve, second.curve, atol=1e-12)


def test_false_positive_rate_takes_the_first_threshold_that_reaches_the_target():
    # Ten positives at 10, 9, ... 1, and one negative just above each of 10, 5 and 1.
    scores = [*range(10, 0, -1), 10.5, 5.5, 1.5]
    roc = curve_of(scores, [1] * 10 + [0] * 3)
    rates = rates_at(roc, np.array([0.1, 0.5, 0.51, 0.9, 1.0]))
    np.testing.assert_allclose(rates, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])


def test_false_positive_rate_passes_ties_together():
    # Keeping half of the positives means keeping both of them, and the negative of equal score with them.
    roc = curve_of([0.8, 0.8, 0.8, 0.1], [1, 1, 0, 0])
    np.testing.assert_allclose(rates_at(roc, np.array([0.5])), [0.5])


def test_rounding_of_weight_sums_does_not_cost_an_event():
    # 1.1 added up 18 times is 0.8999999999999999 of 20 such weights; the one negative scores just below those 18.
    roc = curve_of([*range(20, 0, -1), 2.5], [1] * 20 + [0], [1.1] * 20 + [1])
    assert rates_at(roc, np.array([0.9])) == [0.0]


def test_negative_weights_keep_the_first_crossing():
    # The share of positives rises to .75 at once, falls to .25 and comes back to .5 only below the negative.
    roc = curve_of([7, 6, 5, 4, 3, 2, 1, 5.5], [1] * 7 + [0], [3, -2, 0.5, 0.5, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(roc.true_positive_rate, [0, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 1])
    assert rates_at(roc, np.array([0.5])) == [0.0]


def test_rates_stay_within_bounds_with_negative_weights():
    # Forty per cent are negative, and score lowest or highest: the shares would leave [0, 1] both ways.
    scores = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    weights = np.array([-1.0, 1, 1, 1, 1, 1, 1, -1, -1, -1])
    for order in (scores, -scores):
        roc = curve_of(order, [1, 0] * 5, weights)
        assert 0 <= metrics.auc(roc) <= 1
        assert (np.diff(roc.true_positive_rate) >= 0).all()
        assert (np.diff(roc.false_positive_rate) >= 0).all()
        assert max(roc.true_positive_rate.max(), roc.false_positive_rate.max()) == 1
    two = np.stack([scores > 4, scores <= 4], axis=1).astype(float)
    for is_right, accuracy in ((weights > 0, 1), (weights < 0, 0)):  # 6 and -4 of a sum of 2
        labels = np.where(is_right, two.argmax(axis=1), two.argmin(axis=1))
        assert evaluator(labels, {"m": two}).measure(weights).accuracy[0] == accuracy


def test_a_class_whose_weights_add_up_to_nothing_has_no_curve():
    assert np.isnan(metrics.auc(curve_of([3, 2, 1, 0], [1, 1, 0, 0], [1, -2, 1, 1])))


@pytest.mark.parametrize("present", [[], [1], [0, 2]])
def test_absent_classes_give_nan(present):
    labels = np.array(present, dtype=np.int64)
    scores = np.full((len(labels), 3), 1 / 3)
    measured = evaluator(labels, {"model": scores}).measure(np.ones(len(labels)))
    defined = [label in present and len(present) > 1 for label in range(3)]
    np.testing.assert_array_equal(np.isfinite(measured.auc[0]), defined)
    np.testing.assert_array_equal(np.isfinite(measured.curve[..., -1][0]).all(axis=1), defined)
    assert np.isnan(measured.accuracy[0]) == (not present)


def test_confusion_matrix_by_hand():
    labels, predicted = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0])
    matrix = metrics.confusion_matrix(labels, predicted, np.array([1.0, 2.0, 3.0, 4.0]), 3)
    np.testing.assert_array_equal(matrix, [[1, 2, 0], [0, 3, 0], [4, 0, 0]])


def test_upper_limit():
    # None of 100 passing excludes, at 95 %, a rate at which (1 - rate)^100 = 0.05: about three in a hundred.
    assert (1 - metrics.rate_upper_limit(100)) ** 100 == pytest.approx(0.05)
    assert np.isnan(metrics.rate_upper_limit(0))


def hanley_mcneil(area, positives, negatives):
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    return np.sqrt(variance / (positives * negatives))


def test_bootstrap_error_agrees_with_hanley_mcneil():
    # Exponential scores, for which the analytic error holds exactly: AUC = 4 / 5.
    random = np.random.default_rng(5)
    labels = np.repeat([0, 1], [600, 400])
    value = random.exponential(size=1000) * np.where(labels == 1, 4.0, 1.0)
    one = evaluator(labels, {"model": np.column_stack([-value, value])})
    weights = np.ones(1000)
    error = metrics.standard_error(metrics.stack(list(one.bootstrap(weights, 400, seed=1))).auc)
    expected = hanley_mcneil(one.measure(weights).auc[0, 1], 400, 600)
    np.testing.assert_allclose(error[0], expected, rtol=0.15)


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_bootstrap_error_of_a_weighted_mean_agrees_with_the_analytic_one(spread):
    # Accuracy is a weighted mean of independent events; without spread of the weights its error is the binomial one.
    labels, _, scores = sample(900, seed=8)
    weights = np.exp(spread * np.random.default_rng(9).normal(size=900))
    one = evaluator(labels, {"model": scores})
    accuracy = one.measure(weights).accuracy[0]
    error = metrics.standard_error(metrics.stack(list(one.bootstrap(weights, 400, seed=2))).accuracy)[0]
    residuals = (scores.argmax(axis=1) == labels) - accuracy
    assert error == pytest.approx(np.sqrt(np.sum((weights * residuals) ** 2)) / weights.sum(), rel=0.1)


def test_bootstrap_comes_from_the_seed_alone():
    labels, weights, scores = sample(100)
    runs = [metrics.stack(list(evaluator(labels, {"model": scores}).bootstrap(weights, 5, seed))) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].auc, runs[1].auc)
    assert not np.array_equal(runs[0].auc, runs[2].auc)


def test_models_share_their_resamplings():
    labels, weights, scores = sample(200)
    one = evaluator(labels, {"one": scores, "same": scores.copy()})
    resampled = metrics.stack(list(one.bootstrap(weights, 10, seed=1)))
    np.testing.assert_array_equal(resampled.auc[:, 0], resampled.auc[:, 1])
    assert resampled.auc.shape == (10, 2, 3)
    assert resampled.curve.shape == (10, 2, 3, len(TARGETS), 4)
    assert resampled.accuracy.shape == (10, 2)


def test_resamplings_that_lose_a_class_are_left_out_of_its_error():
    labels, _, scores = sample(60, seed=4)
    labels[:] = np.where(labels == 2, 1, labels)
    labels[0] = 2
    one = evaluator(labels, {"model": scores})
    resampled = metrics.stack(list(one.bootstrap(np.ones(60), 50, seed=1)))
    lost = np.isnan(resampled.auc[:, 0, 2])
    assert 0 < lost.sum() < 50
    assert metrics.standard_error(resampled.auc)[0, 2] == pytest.approx(resampled.auc[~lost, 0, 2].std(ddof=1))


def test_standard_error_needs_two_values():
    error = metrics.standard_error(np.array([[1.0, np.nan, np.nan], [3.0, 2.0, np.nan]]))
    np.testing.assert_allclose(error, [np.sqrt(2), np.nan, np.nan])
