"""QCD by decaying c and b hadrons again and again."""

import itertools
import math
from unittest.mock import Mock

import numpy as np
import pytest

from support.heavy_hadrons import hadrons
from support.pythia_events import Event, Particle
from toposieve.simulation import generator, heavy_flavour
from toposieve.simulation.decays import HEAVY_HADRONS, make_decayer
from toposieve.simulation.heavy_flavour import (
    TRIES,
    HeavyQuarkVeto,
    generate_qcd,
    hard_leptons,
    pt_around,
    redecay,
    split_hadrons,
    visible_particles,
)


@pytest.mark.parametrize(
    ("quark", "vetoed"),
    [
        (Particle(5, 28.1), False),
        (Particle(-5, 27.9), True),
        (Particle(4, 32.1), False),
        (Particle(-4, 31.9), True),
        (Particle(5, 50.0, eta=-2.69), False),
        (Particle(5, 50.0, eta=-2.71), True),
        (Particle(5, 50.0, status=-23), True),
        (Particle(3, 50.0), True),
    ],
)
def test_events_without_a_hard_quark_are_dropped(quark, vetoed):
    veto = HeavyQuarkVeto()
    event = Event(Particle(21, 90.0), quark, Particle(21, 90.0))
    assert veto.doVetoPT(0, event) is vetoed
    assert veto.doVetoPartonLevel(event) is vetoed


def table(*rows):
    """Rows of event, pdg, px, py, pz."""
    event, pdg, px, py, pz = np.array(rows, dtype=float).reshape(-1, 5).T
    return {"event": event.astype(int), "pdg": pdg.astype(int), "px": px, "py": py, "pz": pz}


@pytest.mark.parametrize(
    ("pdg", "pt", "eta", "hard"),
    [
        (11, 22.1, 0.0, True),
        (-13, 22.1, 2.39, True),
        (13, 21.9, 0.0, False),
        (13, 30.0, -2.41, False),
        (-11, 30.0, -2.49, True),
        (11, 30.0, 2.51, False),
        (15, 30.0, 0.0, False),
    ],
)
def test_hard_leptons(pdg, pt, eta, hard):
    leptons = hard_leptons(table((0, pdg, 0.0, -pt, pt * math.sinh(eta)), (1, 211, 50.0, 0.0, 0.0)))
    assert len(leptons["event"]) == hard


def test_isolation_sums_visible_particles_in_the_cone():
    rows = [
        (1, 211, -7.0, 0.0, 0.0),  # another event
        (0, 211, -5.0, -0.5, 0.0),  # φ just above -π: across the wrap, at .1
        (0, 22, -3.0, 0.3, 0.0),
        (0, 14, -50.0, 0.0, 0.0),  # a neutrino
        (0, 211, -0.29, 0.0, 0.0),  # too soft
        (0, 211, -4.0, 0.0, 4.0 * math.sinh(0.31)),  # outside in η
    ]
    around = visible_particles(table(*rows))
    leptons = {"event": np.zeros(2, int), "eta": np.zeros(2), "phi": np.array([math.pi, 0.0]), "pt": np.ones(2)}
    sums = pt_around(leptons, around, "event", 2)
    assert sums == pytest.approx([math.hypot(5, 0.5) + math.hypot(3, 0.3), 0.0])


def test_soft_hadrons_are_kept_where_a_hard_one_has_a_chance():
    rows = [(1, 511, 25.9, 0, 0), (3, 511, 26.1, 0, 0), (3, 411, 25.9, 0, 0), (3, 211, 50.0, 0, 0)]
    hard, soft, others = split_hadrons(table(*rows))
    assert [part["pdg"].tolist() for part in (hard, soft, others)] == [[511], [411], [211]]


@pytest.fixture(scope="module")
def decayer():
    return make_decayer(seed=3)


def b_meson(pt):
    return hadrons((511, 0, pt, 5.28))


NOTHING = visible_particles(table())


def share_with_hard_lepton(decayer, n):
    """Reference: decay one b meson at a time."""
    found = 0
    for _ in range(n):
        event = decayer.event
        event.reset()
        event.append(511, 81, 0, 0, 0, 0, 0, 0, 60.0, 0.0, 0.0, math.hypot(60.0, 5.28), 5.28)
        decayer.forceHadronLevel(False)
        final = (event[i] for i in range(1, event.size()) if event[i].status() > 0)
        found += any(p.idAbs() in (11, 13) and p.pT() > heavy_flavour.LEPTON_PT_MIN for p in final)
    return found / n


def redecayed(decayer, pt, around=NOTHING, events=1, seed=1):
    """A b meson in each of so many events."""
    many = {name: np.repeat(values, events) for name, values in b_meson(pt).items()}
    many["event"] = np.arange(events)
    return redecay(decayer, many, around, events, np.random.default_rng(seed))


def test_as_many_decays_succeed_as_when_decayed_one_by_one(decayer, monkeypatch):
    monkeypatch.setattr(heavy_flavour, "ISOLATION_MAX", 1e9)
    events, n = 30, 3000
    successes, _ = redecayed(decayer, 60.0, events=events)
    expected = share_with_hard_lepton(decayer, n)
    error = math.sqrt(expected / n + expected / (events * TRIES))
    assert np.mean(successes) / TRIES == pytest.approx(expected, abs=4 * error)
    assert expected > 20 * error / 4


def test_one_whole_decay_is_kept_of_each_event_with_success(decayer):
    successes, kept = redecayed(decayer, 80.0, events=20)
    assert successes.max() > 1
    assert set(kept["event"]) == set(np.flatnonzero(successes))
    for event in np.flatnonzero(successes):
        of_event = {name: values[kept["event"] == event] for name, values in kept.items()}
        assert of_event["px"].sum() == pytest.approx(80.0, rel=1e-6)
        assert of_event["energy"].sum() == pytest.approx(math.hypot(80, 5.28), rel=1e-6)
        assert of_event["charge"].sum() == pytest.approx(0.0)
        assert len(hard_leptons(of_event)["pt"]) > 0


def test_which_decay_is_kept_is_left_to_chance(decayer):
    energies = []
    for seed in (1, 2):
        pythia = make_decayer(seed=3)
        energies.append(redecayed(pythia, 80.0, events=20, seed=seed)[1]["energy"])
    assert energies[0].tolist() != energies[1].tolist()


def test_no_success_no_particles(decayer):
    wall = visible_particles(table((0, 211, 500.0, 0, 0)))
    successes, kept = redecayed(decayer, 80.0, wall)
    assert successes.tolist() == [0]
    assert len(kept["pdg"]) == 0


def test_a_leptons_own_hadron_can_spoil_its_isolation(decayer, monkeypatch):
    wide, _ = redecayed(make_decayer(seed=3), 80.0)
    monkeypatch.setattr(heavy_flavour, "ISOLATION_MAX", 0.05)
    narrow, _ = redecayed(make_decayer(seed=3), 80.0)
    assert narrow.sum() < wide.sum()


@pytest.fixture(scope="module")
def qcd():
    return [chunk for chunk in itertools.islice(generate_qcd(seed=4, fast=True), 2) if chunk.count]


def test_events_have_a_hard_lepton_and_no_heavy_hadron(qcd):
    for chunk in qcd:
        assert not np.isin(np.abs(chunk.particles["pdg"]), HEAVY_HADRONS).any()
        pt = np.hypot(chunk.particles["px"], chunk.particles["py"])
        lepton = np.isin(np.abs(chunk.particles["pdg"]), (11, 13)) & (pt > heavy_flavour.LEPTON_PT_MIN)
        assert set(chunk.particles["event"][lepton]) == set(range(chunk.count))


def test_weights_are_numbers_of_successes(qcd):
    weights = np.concatenate([chunk.weights for chunk in qcd])
    assert weights.min() >= 1
    assert weights.max() <= TRIES
    assert np.array_equal(weights, np.round(weights))
    so_far = qcd[-1].so_far
    assert len(weights) < so_far.accepted <= so_far.tried
    assert so_far.found.total == pytest.approx(weights.sum() / TRIES)


def test_whole_events_conserve_the_energy_of_the_beams(qcd):
    chunk = qcd[0]
    energy = np.bincount(chunk.particles["event"], chunk.particles["energy"])
    assert energy == pytest.approx(np.full(chunk.count, 13000.0), rel=1e-4)
    charge = np.bincount(chunk.particles["event"], chunk.particles["charge"])
    assert charge == pytest.approx(np.full(chunk.count, 2.0))


def test_same_seed_same_events(qcd):
    again = [chunk for chunk in itertools.islice(generate_qcd(seed=4, fast=True), 2) if chunk.count]
    for first, second in zip(qcd, again, strict=True):
        assert first.weights.tolist() == second.weights.tolist()
        np.testing.assert_array_equal(first.particles["px"], second.particles["px"])


def test_decays_use_other_random_numbers_than_the_collisions(monkeypatch):
    seeds = []
    monkeypatch.setattr(heavy_flavour, "make_pythia", lambda _, seed, *__: seeds.append(seed) or Mock())
    monkeypatch.setattr(heavy_flavour, "make_decayer", lambda seed: seeds.append(seed))
    monkeypatch.setattr(heavy_flavour, "decay_batch", Mock())
    for seed in range(1, 101):
        next(generate_qcd(seed))
    assert len(set(seeds)) == 200


def test_the_full_mixture_tries_more_events_than_the_fast_one(qcd, monkeypatch):
    monkeypatch.setattr(generator, "BATCH", 5)
    chunk = next(generate_qcd(seed=4))
    assert chunk.so_far.tried > 50  # most events of the full hard process have no hard c or b quark
    assert qcd[0].so_far.tried < 5 * generator.BATCH * 10
