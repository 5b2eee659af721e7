from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from toposieve import schema
from toposieve.evaluation import slices
from toposieve.evaluation.intervals import clopper_pearson

EDGES = (20.0, 30.0, 50.0)


def sample(events=400):
    random = np.random.default_rng(0)
    values = random.uniform(10, 60, events)
    return (
        values,
        random.uniform(size=events) < values / 60,
        random.integers(0, 2, events),
        random.uniform(1, 2, events),
    )


def test_shares_agree_with_plain_python():
    values, passes, labels, weights = sample()
    measured = slices.passing_in_slices(values, EDGES, passes, labels, weights, 2)
    for process in range(2):
        for number, (low, high) in enumerate(pairwise(EDGES)):
            own = [k for k in range(len(values)) if labels[k] == process and low <= values[k] < high]
            total = sum(weights[k] for k in own)
            events = total**2 / sum(weights[k] ** 2 for k in own)
            share = sum(weights[k] for k in own if passes[k]) / total
            assert measured.events[process, number] == pytest.approx(events)
            assert measured.share[process, number] == pytest.approx(share)
            ends = clopper_pearson(events * share, events)
            np.testing.assert_allclose([measured.low[process, number], measured.high[process, number]], ends)


def test_an_edge_belongs_to_the_slice_above_and_what_is_unknown_to_none():
    values = np.array([30.0] * 20 + [np.nan] * 20 + [50.0] * 20)
    measured = slices.passing_in_slices(values, EDGES, values > 0, np.zeros(60, np.int64), np.ones(60), 1)
    np.testing.assert_allclose(measured.events, [[0, 20]])
    np.testing.assert_allclose(measured.share, [[np.nan, 1]])


def test_too_few_events_and_weights_that_cancel_have_no_share():
    values = np.array([25.0] * 9 + [35.0] * 30)
    weights = np.array([1.0] * 9 + [1.0, -1.0] * 15)
    measured = slices.passing_in_slices(values, EDGES, values > 0, np.zeros(39, np.int64), weights, 1)
    np.testing.assert_allclose(measured.events, [[9, 0]])
    for column in (measured.share, measured.low, measured.high):
        assert np.isnan(column).all()


def test_quantities_are_those_that_the_events_have():
    ids = pa.array(["qcd/2026-01-02/simulated/a.root:1", "wjets/2026-01-01/b.root:7", "qcd/2026-01-02/c.root:0"])
    unknown = np.full(3, np.nan)
    columns = {"LepIsEle": np.array([0.99999994, 1e-8, 1.0]), "pileup": unknown, "HT": np.ones(3)}
    sliced = slices.quantities(columns, ids)
    assert sliced.keys() == {"LepIsEle", "day"}
    np.testing.assert_array_equal(sliced["LepIsEle"].values, [1, 0, 1])
    assert sliced["LepIsEle"].names == ("muon", "electron")
    assert slices.quantities({"nJets": np.ones(3)}, ids)["nJets"].names[-2:] == ("5", "6 to 7")
    assert sliced["day"].names == ("2026-01-01", "2026-01-02")
    np.testing.assert_array_equal(sliced["day"].values, [1, 0, 1])


def test_the_busiest_event_is_in_the_last_slice():
    particles = slices.quantities({"particles": np.array([1.0, schema.MAX_PARTICLES])}, pa.array(["a", "b"]))[
        "particles"
    ]
    assert np.searchsorted(particles.edges, particles.values, side="right").tolist() == [1, len(particles.edges) - 1]


def test_events_of_files_outside_a_day_are_not_sliced_by_it():
    assert slices.quantities({}, pa.array(["part-1:3", "qcd/day/a.root:1"])) == {}


def test_every_slice_has_a_name():
    columns = dict.fromkeys(slices.EDGES, np.ones(2))
    for quantity in slices.quantities(columns, pa.array(["a/b/c:1", "a/b/c:2"])).values():
        assert len(quantity.names) == len(quantity.edges) - 1


def test_summaries_are_by_quantity_and_process():
    values = np.repeat([25.0, 35.0, 45.0], 20)
    sliced = {"LepPt": slices.Quantity(values, EDGES, ("low", "high"))}
    labels = np.tile([0, 1], 30)
    measured = slices.summarise(sliced, (values > 30) & (labels == 1), labels, np.ones(60), ("qcd", "ttbar", "wjets"))[
        "LepPt"
    ]
    assert measured["ttbar"]["share"] == [0.0, 1.0]
    assert measured["qcd"]["share"] == [0.0, 0.0]
    assert measured["wjets"] == {"events": [0.0, 0.0]} | {key: [None, None] for key in ("share", "low", "high")}
