"""What ``make bench`` measures with, and what it says."""

from __future__ import annotations

import doctest
import math
from types import ModuleType

import numpy as np
import pytest

from benchmarks import calibration, measure, profiling, table
from benchmarks.inputs import cut, put_together, turn
from benchmarks.table import Figure, format_missed, format_table
from support.events import random_events, to_events
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.cost import SHIPPED
from toposieve.physics.selection import select_events

EVENTS = to_events(random_events(seed=11, n=40, particles=20))
MET, PHI = (schema.HIGH_LEVEL_FEATURES.index(name) for name in ("MET", "phiMET"))


@pytest.mark.parametrize("turns", [0, 10**8])
def test_turned_events_are_other_numbers_and_the_same_physics(turns):
    both = (EVENTS, turn(EVENTS, 2.0 + math.tau * turns))
    before, after = (select_events(each, SelectionConfig(), btag_mask=1) for each in both)
    assert np.array_equal(before.rows, after.rows)
    assert len(before.rows)
    angles = np.remainder(after.high_level[:, PHI] - before.high_level[:, PHI], 2 * np.pi)
    assert angles == pytest.approx(2.0, abs=1e-5)
    assert after.high_level[:, MET] == pytest.approx(before.high_level[:, MET])


def test_tracks_are_turned_with_their_vertices():
    before, after = (each["EFlowTrack"].leaves for each in (EVENTS, turn(EVENTS, 2.0)))
    assert np.hypot(after["X"], after["Y"]) == pytest.approx(np.hypot(before["X"], before["Y"]), abs=1e-5)
    vertices = [leaves["X"] + 1j * leaves["Y"] for leaves in (before, after)]
    assert vertices[1] == pytest.approx(vertices[0] * np.exp(2j), abs=1e-5)


def test_events_that_are_put_together_have_all_objects_and_one_missing_et():
    merged = put_together(EVENTS, 4)
    assert {len(jagged) for jagged in merged.values()} == {10}
    assert np.array_equal(merged["Jet"].counts(), EVENTS["Jet"].counts().reshape(10, 4).sum(axis=1))
    assert np.array_equal(merged["MissingET"].leaves["MET"], EVENTS["MissingET"].leaves["MET"][::4])


def test_a_cut_range_selects_what_it_selects_in_the_whole():
    whole, part = (select_events(each, SelectionConfig(), btag_mask=1) for each in (EVENTS, cut(EVENTS, 10, 30)))
    inside = (whole.rows >= 10) & (whole.rows < 30)
    assert np.array_equal(part.rows + 10, whole.rows[inside])
    assert np.array_equal(part.high_level, whole.high_level[inside])


def test_table_names_each_must_that_is_missed():
    figures = [
        Figure("fast", 200.0, "events/s", baseline=400.0, must=150.0, stretch=300.0),
        Figure("slow", 100.0, "events/s", must=150.0),
        Figure("large", 2000.0, "MB", must=1000.0, at_most=True),
        Figure("free", 1.0, "s"),
    ]
    assert format_missed(figures) == (
        "missed: slow: 100 events/s, must be at least 150\nmissed: large: 2,000 MB, must be at most 1,000"
    )
    _, fast, slow, *_ = format_table(figures).splitlines()
    assert fast.split() == ["fast", "200", "events/s", "0.5", "150", "300"]
    assert slow.split() == ["slow", "100", "events/s", "150", "MISSED"]


def test_what_is_calibrated_within_one_session_is_charged_for_starting_it():
    assert {*calibration.STARTING} == {name for name in calibration.TERMS if SHIPPED[name].fixed}


@pytest.mark.parametrize("module", [calibration, measure, profiling, table])
def test_examples_are_right(module: ModuleType):
    assert doctest.testmod(module).failed == 0
