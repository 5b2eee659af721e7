"""Decays of c and b hadrons."""

import math

import numpy as np
import pytest

from support.heavy_hadrons import hadrons
from toposieve.simulation.decays import HEAVY_HADRONS, at_rest, decay, in_flight, make_decayer, random_turns

MANY = hadrons((521, 1, 60, 5.28), (-5122, 0, 60, 5.62), (431, 1, 60, 1.97), (-4122, -1, 60, 2.29))


@pytest.fixture(scope="module")
def decayer():
    return make_decayer(seed=3)


def test_decays_are_apart_and_each_conserves_momentum_and_charge(decayer):
    # moreDecays of Pythia 8.317 gets the charge of one decay in twenty wrong.
    events = np.array([7, 7, 2, 5])
    products = decay(decayer, {**MANY, "event": events}, copies=50)
    assert not np.isin(np.abs(products["pdg"]), HEAVY_HADRONS).any()
    for event, (momentum, charge) in {7: (120.0, 1), 2: (60.0, 1), 5: (60.0, -1)}.items():
        of_event = products["event"] == event
        copy = products["copy"][of_event]
        assert np.bincount(copy, products["px"][of_event]) == pytest.approx(np.full(50, momentum), rel=1e-6)
        assert np.bincount(copy, products["charge"][of_event]) == pytest.approx(np.full(50, charge))
        assert set((MANY["px"] * 0 + events)[products["hadron"][of_event]]) == {event}
    assert len(decay(decayer, hadrons())["pdg"]) == 0


def flown(decayer, pt, copies, seed=1):
    """Decays of a b meson at rest, then turned and made to fly."""
    meson = hadrons((511, 0, pt, 5.28))
    products = decay(decayer, at_rest(meson), copies)
    turns = random_turns(copies, np.random.default_rng(seed))
    n = len(products["pdg"])
    turns = {name: values[products["copy"]] for name, values in turns.items()}
    return in_flight(products, turns, {name: np.repeat(values, n) for name, values in meson.items()})


def first_x(products, copies):
    """Where the first products of each decay come into being."""
    first = np.full(copies, np.inf)
    np.minimum.at(first, products["copy"], products["x"])
    return first


def by_pythia(decayer, pt, copies):
    return decay(decayer, hadrons((511, 0, pt, 5.28)), copies)


@pytest.mark.parametrize("make", [flown, by_pythia])
def test_products_start_where_lifetime_and_boost_have_brought_the_hadron(decayer, make):
    first = first_x(make(decayer, 80.0, 500), 500)
    expected = 80 / 5.28 * decayer.particleData.tau0(511)  # p/m · cτ, mm
    assert np.mean(first) == pytest.approx(expected, abs=4 * expected / math.sqrt(500))
    assert np.std(first) == pytest.approx(expected, rel=0.5)


def test_decays_that_are_made_to_fly_are_like_those_that_pythia_makes_in_flight(decayer):
    ours, theirs = flown(decayer, 40.0, 3000), by_pythia(decayer, 40.0, 3000)
    for products in (ours, theirs):
        assert np.bincount(products["copy"], products["px"]) == pytest.approx(np.full(3000, 40.0), rel=1e-6)
        assert np.bincount(products["copy"], products["py"]) == pytest.approx(np.zeros(3000), abs=1e-6)
    for name in ("energy", "py", "pz", "y", "z"):
        spread = [np.std(products[name][np.abs(products["x"]) < 50]) for products in (ours, theirs)]
        assert spread[0] == pytest.approx(spread[1], rel=0.15)
    hardest = [
        np.array([products["energy"][products["copy"] == copy].max() for copy in range(500)])
        for products in (ours, theirs)
    ]
    assert np.mean(hardest[0]) == pytest.approx(np.mean(hardest[1]), abs=4 * np.std(hardest[1]) / math.sqrt(250))


def test_turns_prefer_no_direction():
    turns = random_turns(20_000, np.random.default_rng(1))
    along_z = {"px": np.zeros(20_000), "py": np.zeros(20_000), "pz": np.ones(20_000), "energy": np.ones(20_000)}
    vertices = {name: np.zeros(20_000) for name in ("x", "y", "z", "t")}
    resting = {**{name: np.zeros(20_000) for name in ("px", "py", "pz", "x", "y", "z")}, "energy": np.ones(20_000)}
    turned = in_flight({**along_z, **vertices}, turns, resting)
    directions = np.array([turned[name] for name in ("px", "py", "pz")])  # (3, turns)
    assert directions.mean(axis=1) == pytest.approx(np.zeros(3), abs=0.02)
    assert np.cov(directions) == pytest.approx(np.eye(3) / 3, abs=0.02)
