import doctest
import json

import numpy as np
import pyarrow as pa
import pytest

from toposieve import schema
from toposieve.evaluation import systematics
from toposieve.evaluation.performance import Sample
from toposieve.evaluation.systematics import Passing
from toposieve.evaluation.table import format_value

TARGETS = (0.5, 0.9)
THRESHOLDS = np.array([[[0.5, 0.2], [0.4, np.nan], [0.6, 0.1]]])


def make(seed, events=600):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, events)
    scores = random.dirichlet(np.ones(3), events) + np.eye(3)[labels]
    return Sample(labels, random.uniform(-0.2, 1.5, events), {"gru": scores / 2}, schema.SAMPLES)


def take(sample, rows):
    return Sample(sample.labels[rows], sample.weights[rows], {"gru": sample.scores["gru"][rows]}, schema.SAMPLES)


NOMINAL = make(0)
ALL = np.arange(len(NOMINAL.labels))


def shares(sample, wanted, cut, process):
    own, passes = sample.labels == process, sample.scores["gru"][:, wanted] >= cut
    return sample.weights[own & passes].sum() / sample.weights[own].sum()


NOBODY = np.full(len(NOMINAL.labels), -1)


def points(summary):
    for wanted, (_, found) in enumerate(summary["labels"]["gru"].items()):
        for number, point in enumerate(found):
            for process, of in enumerate(point["processes"].values()):
                yield wanted, THRESHOLDS[0, wanted, number], process, of


def test_the_same_events_do_not_shift():
    summary = systematics.summarise(NOMINAL, NOMINAL, THRESHOLDS, TARGETS, ALL)
    for wanted, cut, process, of in points(summary):
        assert of["shift"] == {"value": 0.0, "error": 0.0}
        assert of["share"]["value"] == pytest.approx(shares(NOMINAL, wanted, cut, process))
    assert [len(summary["labels"]["gru"][sample]) for sample in schema.SAMPLES] == [2, 1, 2]  # one has no threshold
    assert (summary["events"], summary["same_events"]) == (600, 600)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_varied_events_are_compared_with_themselves_in_whatever_order():
    random = np.random.default_rng(1)
    varied = Sample(
        NOMINAL.labels,
        NOMINAL.weights,
        {"gru": NOMINAL.scores["gru"] + random.normal(0, 0.1, (600, 3))},
        schema.SAMPLES,
    )
    order = random.permutation(600)[:550]  # some are selected no more
    ids = pa.array([f"a:{number}" for number in ALL])
    places = systematics.same_events(ids, ids.take(pa.array(order)))
    summary = systematics.summarise(NOMINAL, take(varied, order), THRESHOLDS, TARGETS, places)
    assert (summary["events"], summary["same_events"]) == (600, 550)
    common = np.sort(order)
    for wanted, cut, process, of in points(summary):
        before, after = (shares(take(sample, common), wanted, cut, process) for sample in (NOMINAL, varied))
        expected = after - before
        assert of["shift"]["value"] == pytest.approx(expected)


def test_other_events_are_compared_by_their_shares():
    other = make(2, 400)
    for wanted, cut, process, of in points(systematics.summarise(NOMINAL, other, THRESHOLDS, TARGETS, NOBODY)):
        expected = shares(other, wanted, cut, process) - shares(NOMINAL, wanted, cut, process)
        assert of["shift"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize("same", [True, False])
def test_the_error_is_what_the_shift_spreads_by(same):
    shifts, errors = [], []
    for seed in range(300):
        random = np.random.default_rng(seed)
        before, weights = random.uniform(size=500), random.uniform(0, 2, 500)
        after = before + random.normal(0, 0.1, 500)
        if same:
            shift, error = systematics.same_events_shift(Passing(before > 0.6, weights), after > 0.5)
        else:
            other = Passing(random.uniform(size=200) > 0.5, random.uniform(0, 2, 200))
            shift, error = systematics.other_events_shift(Passing(before > 0.6, weights), other)
        shifts.append(shift)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(shifts), rel=0.15)
    assert np.mean(shifts) == pytest.approx(0.1, abs=0.01)


def test_weights_that_do_not_add_up_to_more_than_nothing_have_no_shift():
    nothing = Passing(np.array([True, False]), np.array([1.0, -1.0]))
    assert np.isnan(systematics.same_events_shift(nothing, nothing.passes)).all()
    assert np.isnan(systematics.other_events_shift(nothing, nothing)).all()


def test_a_label_without_scores_of_the_other_events_is_left_out():
    other = Sample(NOMINAL.labels, NOMINAL.weights, {}, schema.SAMPLES)
    assert systematics.summarise(NOMINAL, other, THRESHOLDS, TARGETS, ALL)["labels"] == {}


def test_each_variation_is_drawn_with_a_point_for_each_process():
    metrics = as_metrics({"jets up": VARIED, "qcd_fast": VARIED})
    first, axis, _ = systematics.draw_shifts(metrics).axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["jets up", "qcd_fast"]
    assert len(axis.containers) == 3
    of = VARIED["labels"]["gru"]["ttbar"][0]["processes"]["qcd"]
    expected = of["shift"]["value"] / of["share"]["value"]
    assert axis.containers[0].lines[0].get_xdata() == pytest.approx([expected, expected])


def test_a_label_that_a_variation_lacks_is_undefined_there():
    metrics = as_metrics({"jets up": VARIED, "none": VARIED | {"labels": {}}})
    (section,) = systematics.sections(metrics)
    compared, shifts = section.tables
    assert [row[0] for row in compared.rows] == ["jets up", "none"]
    shift = VARIED["labels"]["gru"]["qcd"][0]["processes"]["wjets"]["shift"]
    assert shifts.rows[2] == ["qcd", "wjets", format_value(shift, "+"), "n/a"]
    axis = systematics.draw_shifts(metrics).axes[0]
    assert np.isnan(axis.containers[0].lines[0].get_xdata()[1])
    assert systematics.sections(as_metrics({})) == []


VARIED = systematics.summarise(NOMINAL, make(3), THRESHOLDS, TARGETS, NOBODY) | {"dataset": "varied"}


def as_metrics(variations):
    return {"classes": list(schema.SAMPLES), "systematics": variations}


def test_examples_are_right():
    assert doctest.testmod(systematics).failed == 0
