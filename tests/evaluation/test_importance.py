import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import importance
from toposieve.evaluation.performance import Sample
from toposieve.evaluation.table import format_value
from toposieve.event_keys import text_keys
from toposieve.io.scores import PermutedScores
from toposieve.permutation import exchanged_features

CONFIG = EvaluationConfig(bootstrap_samples=40, working_points=(0.8, 0.9))
EVENTS = 3000
KEYS = text_keys(str(number) for number in range(EVENTS))
USED, UNUSED = "HT", "MET"


def logits_of(features):
    """A classifier that looks at one feature alone."""
    return np.stack([-features[:, 0], np.zeros(len(features)), features[:, 0]], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def events():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, EVENTS)
    features = random.normal(size=(EVENTS, 14)).astype(np.float32)
    features[:, 0] += labels
    return labels, random.uniform(0.5, 1.5, EVENTS), features


@pytest.fixture(scope="module")
def measured(events):
    labels, weights, features = events
    powers = {name: np.exp(logits_of(changed)) for name, changed in exchanged_features(features, KEYS)}
    permuted = {name: each / each.sum(axis=1, keepdims=True) for name, each in powers.items()}
    scores = np.exp(logits_of(features))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores, permuted, importance.measure(labels, weights, scores, permuted, schema.SAMPLES, CONFIG)


def test_what_is_not_used_costs_nothing(measured):
    for values in measured[2][UNUSED]["auc"].values():
        assert values == {"value": 0.0, "error": 0.0}


def test_what_alone_is_used_costs_all_that_is_better_than_chance(events, measured):
    labels, weights, _ = events
    scores, permuted, found = measured
    for label, sample in enumerate(schema.SAMPLES):
        before, after = (
            roc_auc_score(labels == label, each[:, label], sample_weight=weights) for each in (scores, permuted[USED])
        )
        loss = found[USED]["auc"][sample]
        assert loss["value"] == pytest.approx(before - after, abs=1e-5)
        assert 0 < loss["error"] < 0.03
        assert abs(loss["value"] - (before - 0.5)) < 4 * loss["error"]


def test_the_rejection_is_that_of_each_background_at_the_first_working_point(events, measured):
    labels, weights, _ = events
    scores, permuted, found = measured

    def rejection(each, wanted, other):
        order = np.argsort(-each[:, wanted], kind="stable")
        kept = np.cumsum(np.where(labels[order] == wanted, weights[order], 0)) / weights[labels == wanted].sum()
        passing = order[: np.searchsorted(kept, 0.8) + 1]
        return weights[labels == other].sum() / weights[passing][labels[passing] == other].sum()

    loss = found[USED]["rejection"]["wjets"]
    assert list(loss) == ["qcd", "ttbar"]
    for other, values in loss.items():
        before, after = (rejection(each, 2, schema.SAMPLES.index(other)) for each in (scores, permuted[USED]))
        expected = before - after
        assert values["value"] == pytest.approx(expected, rel=1e-3)
        assert values["error"] > 0


def test_the_error_is_what_the_loss_spreads_by_over_samples():
    losses, errors = [], []
    for seed in range(30):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, 300)
        before = random.normal(size=(300, 3)) + np.eye(3)[labels]
        after = before + random.normal(size=(300, 3))
        found = importance.measure(labels, np.ones(300), before, {"HT": after}, schema.SAMPLES, CONFIG)["HT"]["auc"][
            "ttbar"
        ]
        losses.append(found["value"])
        errors.append(found["error"])
    assert np.mean(errors) == pytest.approx(np.std(losses, ddof=1), rel=0.35)


def test_the_summary_takes_the_events_that_were_tried(events):
    labels, weights, features = events
    scores = np.exp(logits_of(features))
    rows = np.arange(0, EVENTS, 3)
    found = PermutedScores(rows, {USED: logits_of(features[rows][::-1]), "photons": logits_of(features[rows])})
    sample = Sample(
        labels, weights, {"gru": scores / scores.sum(axis=1, keepdims=True), "other": scores}, schema.SAMPLES
    )
    summary = importance.summarise(sample, {"gru": found, "other": None}, CONFIG)
    assert list(summary) == ["gru"]
    assert (summary["gru"]["events"], summary["gru"]["target"]) == (1000, 0.8)
    assert list(summary["gru"]["exchanged"]) == [USED, "photons"]
    assert summary["gru"]["exchanged"]["photons"]["auc"]["qcd"]["value"] == pytest.approx(0, abs=1e-6)
    assert summary["gru"]["exchanged"][USED]["auc"]["qcd"]["value"] > 0.2
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_most_important_is_drawn_on_top(measured):
    figure = importance.draw_importances(as_metrics(measured))
    axis = figure.axes[0]
    assert len(axis.patches) == importance.MOST_BARS
    assert axis.get_yticklabels()[-1].get_text() == r"$H_T$"
    assert max(bar.get_width() for bar in axis.patches) == measured[2][USED]["auc"]["qcd"]["value"]


def test_a_table_has_every_exchange_and_there_is_none_without_any(measured):
    (section,) = importance.sections(as_metrics(measured))
    (table,) = section.tables
    assert [name for name, *_ in table.rows] == list(measured[2])
    assert table.rows[0][1:] == [
        format_value(measured[2][table.rows[0][0]]["auc"][name], "+") for name in schema.SAMPLES
    ]
    assert importance.sections({"classes": schema.SAMPLES, "importance": {}}) == []


def as_metrics(measured):
    found = {"events": 1000, "target": 0.8, "exchanged": measured[2]}
    return {"classes": list(schema.SAMPLES), "importance": {"gru": found}}
