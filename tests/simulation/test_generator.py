"""Pythia's events, as the detector sees them."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from toposieve.classes import CLASSES
from toposieve.simulation.generator import (
    BATCH,
    TABLES,
    events_with_lepton,
    final_particles,
    generate,
    heavy_quarks,
    make_pythia,
    write_tables,
)
from toposieve.simulation.prompt_leptons import HADRONIC_SHARE
from toposieve.weights import WeightSums


def particles(*rows):
    """Rows of event, pdg, px, py, pz."""
    event, pdg, px, py, pz = np.array(rows, dtype=float).reshape(-1, 5).T
    return {"event": event.astype(int), "pdg": pdg.astype(int), "px": px, "py": py, "pz": pz}


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        ((0, 13, 20.1, 0, 0), True),
        ((0, 13, 20.0, 0, 0), False),
        ((0, -13, 0, -20.1, 20.1 * np.sinh(2.39)), True),
        ((0, -13, 0, -20.1, 20.1 * np.sinh(2.41)), False),
        ((0, -11, 0, -20.1, 20.1 * np.sinh(2.49)), True),
        ((0, -11, 0, -20.1, 20.1 * np.sinh(2.51)), False),
        ((0, 11, 20.1, 0, 20.1 * np.sinh(1.49)), True),
        ((0, 11, 19.9, 0, 19.9 * np.sinh(1.49)), False),
        ((0, 11, 14.1, 0, 14.1 * np.sinh(-1.51)), True),  # endcap: a wide resolution
        ((0, 11, 13.9, 0, 13.9 * np.sinh(-1.51)), False),
        ((0, 13, 19.0, 0, 19.0 * np.sinh(1.51)), False),  # for electrons only
        ((0, 15, 50.0, 0, 0), False),
        ((0, 211, 50.0, 0, 0), False),
    ],
)
def test_lepton_filter(row, passes):
    assert (len(events_with_lepton(particles(row))) == 1) is passes


def test_lepton_filter_lists_each_event_once_in_order():
    rows = [(4, 11, 30, 0, 0), (1, 13, 30, 0, 0), (1, -13, 30, 0, 0), (2, 22, 30, 0, 0)]
    assert events_with_lepton(particles(*rows)).tolist() == [1, 4]


@pytest.fixture(scope="module")
def wjets():
    return list(itertools.islice(generate("wjets", seed=5), 2))


def test_same_seed_same_events_whatever_was_made_before(wjets):
    again = list(itertools.islice(generate("wjets", seed=5), 2))
    for first, second in zip(wjets, again, strict=True):
        assert first.count == second.count
        for name in first.particles:
            np.testing.assert_array_equal(first.particles[name], second.particles[name])
    other = next(generate("wjets", seed=6))
    assert other.particles["px"][:10].tolist() != wjets[0].particles["px"][:10].tolist()


def test_every_event_has_a_lepton_and_no_more_were_kept_than_tried(wjets):
    for chunk in wjets:
        assert events_with_lepton(chunk.particles).tolist() == list(range(chunk.count))
        assert 0 < chunk.count <= chunk.so_far.accepted <= chunk.so_far.tried
        assert chunk.weights.tolist() == [1.0] * chunk.count


def test_what_was_made_is_counted_on_from_batch_to_batch(wjets, ttbar):
    for chunks in (wjets, ttbar):
        for number, chunk in enumerate(chunks, 1):
            weights = [weight for each in chunks[:number] for weight in each.weights.tolist()]
            assert chunk.so_far.found == WeightSums.of(weights)
            assert chunk.so_far.accepted == number * BATCH


def test_cross_sections_are_those_of_the_processes(wjets, ttbar):
    """Leading order at 13 TeV: 510 pb of top pairs, and 45 nb of W → e, µ, τ; two in five with a lepton in reach."""
    top, w = (chunks[-1].so_far.cross_section() for chunks in (ttbar, wjets))
    assert top.pb == pytest.approx(200, abs=4 * top.error)
    assert w.pb == pytest.approx(14e3, abs=4 * w.error)
    assert 0.03 < top.error / top.pb < 0.2


def test_particles_are_physical(wjets):
    table = wjets[0].particles
    mass2 = table["energy"] ** 2 - table["px"] ** 2 - table["py"] ** 2 - table["pz"] ** 2
    assert mass2.min() > -1e-3 * table["energy"].max()
    assert set(np.abs(table["charge"])) == {0.0, 1.0}
    assert np.all(np.isfinite(table["x"]))
    # Nothing that lives for up to 10 mm is final: charged pions are, b hadrons and K0s' shorter cousins are not.
    final = set(np.abs(table["pdg"]))
    assert {11, 22, 211, 310} <= final
    assert not final & {511, 521, 421, 411, 15, 111}


def test_energy_and_charge_of_whole_events_are_those_of_the_beams():
    pythia = make_pythia(CLASSES["wjets"].process, seed=9)
    table = final_particles(pythia, pythia.nextBatch(3))
    assert np.bincount(table["event"], table["energy"]) == pytest.approx([13000.0] * 3, rel=1e-5)
    assert np.bincount(table["event"], table["charge"]) == pytest.approx([2.0] * 3)


@pytest.fixture(scope="module")
def ttbar():
    return list(itertools.islice(generate("ttbar", seed=5), 12))


def test_top_pairs_have_two_b_quarks_and_a_leptonic_w(ttbar):
    chunk = ttbar[0]
    b = chunk.quarks["flavour"] == 5
    assert len(np.unique(chunk.quarks["event"][b])) >= 0.9 * chunk.count  # both may be forward
    assert np.abs(chunk.quarks["eta"]).max() < 2.5
    assert chunk.so_far.tried > chunk.count


def hardest_neutrino(chunk):
    """Largest PT of a neutrino in each event."""
    pt = np.hypot(chunk.particles["px"], chunk.particles["py"]) * np.isin(np.abs(chunk.particles["pdg"]), (12, 14, 16))
    hardest = np.zeros(chunk.count)
    np.maximum.at(hardest, chunk.particles["event"], pt)
    return hardest


def test_events_whose_leptons_come_from_hadrons_alone_have_the_weight_of_those_not_made(ttbar):
    weights = np.concatenate([chunk.weights for chunk in ttbar])
    hadronic = weights == 1 / HADRONIC_SHARE
    assert set(weights) == {1.0, 1 / HADRONIC_SHARE}
    # 14 % of all top pairs with a generator lepton are such.
    share = weights[hadronic].sum() / weights.sum()
    assert share == pytest.approx(0.14, abs=4 * np.sqrt(0.14 / HADRONIC_SHARE / len(weights)))
    neutrinos = np.concatenate([hardest_neutrino(chunk) for chunk in ttbar])
    assert np.median(neutrinos[hadronic]) < 0.7 * np.median(neutrinos[~hadronic])


def test_quarks_are_central_c_and_b():
    pythia = make_pythia(CLASSES["ttbar"].process, seed=9)
    quarks = heavy_quarks(pythia.nextBatch(4))
    assert set(quarks["flavour"]) <= {4, 5}
    assert set(quarks["event"]) <= {0, 1, 2, 3}
    assert np.abs(quarks["phi"]).max() <= np.pi


def test_a_setting_that_pythia_does_not_know_is_named():
    with pytest.raises(RuntimeError, match="does not know the setting 'HardQCD:some = on'"):
        make_pythia(("HardQCD:some = on",), seed=1)


def test_the_tables_are_what_pythia_works_out(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Another version of Pythia, or another beam energy, needs others: run with --update-golden."""
    write_tables(tmp_path / "tables.txt")
    made = (tmp_path / "tables.txt").read_text(encoding="utf-8")
    if request.config.getoption("--update-golden"):
        Path(str(TABLES)).write_text(made, encoding="utf-8")
    words, expected = made.split(), TABLES.read_text(encoding="utf-8").split()
    assert len(words) == len(expected)
    for word, other in zip(words, expected, strict=True):
        assert word == other or float(word.rstrip(",")) == pytest.approx(float(other.rstrip(",")), rel=1e-3)


def test_a_start_without_tables_is_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposieve.simulation.generator.TABLES", tmp_path / "none.txt")
    with pytest.raises(RuntimeError, match="Pythia cannot start"):
        make_pythia(CLASSES["ttbar"].process, seed=1)
