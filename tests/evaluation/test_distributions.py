import math

import hist
import numpy as np
import pytest
from scipy.special import expit, logit

from toposieve import schema
from toposieve.evaluation import distributions, style

LABELS = np.repeat(np.arange(3), 40)


def features(events=120, seed=0):
    random = np.random.default_rng(seed)
    columns = {name: random.gamma(2, 30, events) for name in schema.HIGH_LEVEL_FEATURES}
    columns |= {name: random.uniform(-math.pi, math.pi, events) for name in ("phiMET", "LepPhi")}
    columns |= {name: random.integers(0, 6, events) for name in ("nJets", "nBjets")}
    columns |= {"LepCharge": random.choice([-1, 1], events), "LepIsEle": random.integers(0, 2, events)}
    return np.column_stack(list(columns.values())).astype(np.float32)


def test_shares_by_hand():
    binning = hist.axis.Regular(2, 0.0, 1.0)
    histogram = distributions.share_histogram(binning, np.array([0.1, 0.2, 0.9]), np.array([1.0, 1.0, 2.0]))
    np.testing.assert_allclose(histogram.values(), [0.5, 0.5])
    np.testing.assert_allclose(histogram.variances(), [2 / 16, 4 / 16])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_every_event_is_in_a_bin_even_beyond_the_ends_and_on_the_edges(dtype):
    binning = hist.axis.Regular(7, -math.pi, math.pi)
    values = np.array([-1000, -math.pi, 0, math.pi, 1000]).astype(dtype)
    histogram = distributions.share_histogram(binning, values, np.ones(5))
    np.testing.assert_allclose(histogram.values()[[0, 3, 6]], [0.4, 0.2, 0.4])
    assert histogram.values().sum() == pytest.approx(1)


def test_weights_that_do_not_add_up_to_more_than_zero_have_no_shares():
    histogram = distributions.share_histogram(hist.axis.Regular(2, 0.0, 1.0), np.array([0.1, 0.9]), np.array([1, -3]))
    np.testing.assert_array_equal([histogram.values(), histogram.variances()], [[0, 0], [0, 0]])


def test_no_events_give_an_empty_histogram():
    histogram = distributions.share_histogram(hist.axis.Regular(2, 0.0, 1.0), np.empty(0), np.empty(0))
    np.testing.assert_array_equal(histogram.values(), [0, 0])


@pytest.mark.parametrize("particles", [np.empty(0, np.int64), np.arange(120)])
def test_one_panel_for_each_feature(particles):
    with style.page_style():
        figure = distributions.feature_distributions(features(), particles, LABELS, np.ones(120), schema.SAMPLES)
    shown = [axis.get_xlabel() for axis in figure.axes if axis.axison]
    assert len(shown) == len(schema.HIGH_LEVEL_FEATURES) + (len(particles) > 0)
    assert "$H_T$ [GeV]" in shown
    assert "lepton $\\phi$ [rad]" in shown


def test_whole_values_get_a_bin_each():
    with style.page_style():
        figure = distributions.feature_distributions(
            features(), np.empty(0, np.int64), LABELS, np.ones(120), schema.SAMPLES
        )
    limits = dict(zip(schema.HIGH_LEVEL_FEATURES, (axis.get_xlim() for axis in figure.axes), strict=False))
    assert limits["LepCharge"] == (-1.5, 1.5)
    assert limits["LepIsEle"] == (-0.5, 1.5)
    assert limits["nJets"] == (-0.5, 5.5)


def test_bins_hold_the_same_number_of_whole_values():
    with style.page_style():
        figure = distributions.feature_distributions(
            features(), np.arange(120) + 300, LABELS, np.ones(120), schema.SAMPLES
        )
    axis = next(axis for axis in figure.axes if axis.get_xlabel() == "number of particles")
    low, high = axis.get_xlim()
    assert low == 299.5
    assert high >= 419.5
    edges = axis.patches[0].get_data().edges
    np.testing.assert_allclose(np.diff(edges), np.diff(edges)[0])
    assert np.diff(edges)[0] == round(np.diff(edges)[0])


def test_a_feature_without_spread_and_a_class_without_events_can_be_drawn(tmp_path):
    constant = np.full((3, len(schema.HIGH_LEVEL_FEATURES)), 7.0, np.float32)
    with style.page_style():
        figure = distributions.feature_distributions(
            constant, np.array([5, 5, 5]), np.array([0, 0, 1]), np.ones(3), schema.SAMPLES
        )
        style.save(figure, tmp_path / "features.png")
    assert (tmp_path / "features.png").stat().st_size > 0


def test_scores_have_a_panel_for_each_model_and_class_in_the_colours_of_the_classes():
    scores = np.full((120, 3), 1 / 3, np.float32)
    with style.page_style():
        figure = distributions.score_distributions(
            {"hlf": scores, "inclusive": scores}, LABELS, np.ones(120), schema.SAMPLES
        )
    titles = [axis.texts[0].get_text() for axis in figure.axes]
    assert len(titles) == 6
    assert titles[0] == "hlf for QCD"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(style.CLASS_LABELS.values())
    assert all(axis.get_yscale() == "log" for axis in figure.axes)


def test_both_ends_of_the_scores_are_seen():
    random = np.random.default_rng(5)
    scores = expit(random.normal(0, 4, (120, 3)))
    scores[:3] = [[0, 1, 0.5]] * 3
    with style.page_style():
        figure = distributions.score_distributions({"hlf": scores}, LABELS, np.ones(120), schema.SAMPLES)
    edges = figure.axes[0].patches[0].get_data().edges
    assert figure.axes[0].get_xscale() == "logit"
    np.testing.assert_allclose(np.diff(logit(edges)), np.diff(logit(edges))[0])
    assert edges[0] < 1e-3
    assert edges[-1] > 1 - 1e-3
    for patch in figure.axes[0].patches:
        assert patch.get_data().values.sum() == pytest.approx(1)


def test_cutflow_shows_every_count():
    steps = [
        {"name": "events", "events": {"qcd": 120_000, "ttbar": 900, "wjets": 0}},
        {"name": "mystery", "events": {"qcd": 10, "ttbar": 9, "wjets": 0}},
    ]
    with style.page_style():
        figure = distributions.cutflow(steps, schema.SAMPLES)
    (axis,) = figure.axes
    assert {text.get_text() for text in axis.texts} == {"120,000", "900", "0", "10", "9"}
    assert [label.get_text() for label in axis.get_xticklabels()] == ["raw events", "mystery"]
