from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.comparison import assert_selected_like_reference, cutflow_of
from support.events import edge_cases, f32, lepton, make_event, random_events, to_events, track
from support.reference import Event, failed_cut
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.physics.selection import SelectedEvents, apply_cuts, select_events

CONFIG = SelectionConfig()
EDGE_CASES = edge_cases()
OTHER_CUTS: dict[str, dict[str, float]] = {
    "tight": {"track_pt_min": 1.5, "photon_et_min": 2, "neutral_et_min": 2, "lepton_pt_min": 30, "isolation_max": 0.2},
    "loose": {"track_pt_min": 0.1, "lepton_pt_min": 10, "isolation_max": 5},
    "wide cone": {"isolation_cone": 0.8, "isolation_max": 1},
    "narrow cone": {"isolation_cone": 0.02},
    "own tracks far away": {"own_track_dr": 0.05},
    "jets as published": {"jet_lepton_dr": 0, "jet_pt_min": 20, "jet_eta_max": 5},
}
SEEDS = st.integers(0, 2**32 - 1)


def select(*events: Event, **cuts: float) -> SelectedEvents:
    return select_events(to_events(events), SelectionConfig(**cuts), btag_mask=1)


def column(selected: SelectedEvents, name: str) -> NDArray[np.float64]:
    return selected.high_level[:, schema.HIGH_LEVEL_FEATURES.index(name)]


# --- against the reference -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_case_equals_reference(name: str) -> None:
    assert_selected_like_reference([EDGE_CASES[name]])


def test_edge_cases_together_equal_reference() -> None:
    selected = assert_selected_like_reference(list(EDGE_CASES.values()), btag_mask=2)
    assert cutflow_of(selected) == {"events": 42, "lepton_pt": 39, "isolated_lepton": 34}


def test_random_events_equal_reference() -> None:
    selected = assert_selected_like_reference(random_events(seed=1, n=150))
    assert 0 < cutflow_of(selected)["isolated_lepton"] < cutflow_of(selected)["lepton_pt"] < 150


@pytest.mark.parametrize("cuts", OTHER_CUTS.values(), ids=list(OTHER_CUTS))
def test_other_cuts_equal_reference(cuts: dict[str, float]) -> None:
    assert_selected_like_reference(random_events(seed=2, n=20), SelectionConfig(**cuts), btag_mask=3)


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_any_event_equals_reference(seed: int) -> None:
    assert_selected_like_reference(random_events(seed, n=2, particles=30))


# --- cutflow and masks -----------------------------------------------------------------------------------------


def test_cuts_apply_one_after_the_other() -> None:
    cuts = {"first": np.array([True, True, False, False]), "second": np.array([True, False, True, False])}
    assert {name: passing.tolist() for name, passing in apply_cuts(cuts, 4).items()} == {
        "events": [True, True, True, True],
        "first": [True, True, False, False],
        "second": [True, False, False, False],
    }


def test_each_cut_tells_who_is_left() -> None:
    good, soft = EDGE_CASES["lepton alone"], EDGE_CASES["lepton PT at the cut"]
    selected = select(soft, good, EDGE_CASES["isolation at the cut"])
    assert {cut: passing.tolist() for cut, passing in selected.passing.items()} == {
        "events": [True, True, True],
        "lepton_pt": [False, True, True],
        "isolated_lepton": [False, True, False],
    }


def test_cutflow_has_the_names_of_the_schema() -> None:
    assert tuple(cutflow_of(select(make_event()))) == schema.CUTFLOW


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("nothing", "lepton_pt"),
        ("lepton PT at the cut", "lepton_pt"),
        ("lepton PT above the cut", None),
        ("isolation at the cut", "isolated_lepton"),
        ("isolation below the cut", None),
        ("wrap around the lepton", "isolated_lepton"),
        ("own track beyond the edge", "isolated_lepton"),
        ("no tracks", None),
        ("no photons", None),
        ("no jets", None),
    ],
)
def test_the_cut_that_an_edge_case_fails(name: str, cut: str | None) -> None:
    cutflow = cutflow_of(select(EDGE_CASES[name]))
    assert next((cut for cut, passed in cutflow.items() if not passed), None) == cut
    assert failed_cut(EDGE_CASES[name], CONFIG) == cut


def test_no_events() -> None:
    selected = select()
    assert cutflow_of(selected) == {"events": 0, "lepton_pt": 0, "isolated_lepton": 0}
    assert selected.high_level.shape == (0, 14)
    assert selected.offsets.tolist() == [0]


def test_rows_are_positions_in_the_input() -> None:
    good, bad = EDGE_CASES["lepton alone"], EDGE_CASES["nothing"]
    assert select(bad, good, bad, bad, good).rows.tolist() == [1, 4]


def test_two_met_entries_are_refused() -> None:
    event = make_event()
    event["MissingET"] = {"MET": [1.0, 2.0], "Phi": [0.0, 0.0]}
    with pytest.raises(InvalidInputError, match="MissingET has length 2"):
        select(event)


# --- properties ------------------------------------------------------------------------------------------------


def on_a_grid(event: Event) -> Event:
    """All directions on multiples of 1/64: no distance, wrapped or not, is close to the edge of a cone."""
    event = copy.deepcopy(event)
    for leaves in event.values():
        for leaf in {"Eta", "Phi"} & set(leaves):
            leaves[leaf] = [round(value * 64) / 64 for value in leaves[leaf]]
    return event


def grid_events(seed: int) -> list[Event]:
    return [on_a_grid(event) for event in random_events(seed, n=3)]


def assert_same(one: SelectedEvents, other: SelectedEvents, apart_from: tuple[str, ...] = ()) -> None:
    """The same selection; columns are equal, MT to the precision of float32 angles."""
    assert one.rows.tolist() == other.rows.tolist()
    assert one.offsets.tolist() == other.offsets.tolist()
    for name in schema.HIGH_LEVEL_FEATURES:
        if name not in apart_from:
            np.testing.assert_allclose(
                column(one, name), column(other, name), rtol=1e-9, atol=1e-3 if name == "MT" else 0
            )
    for name in one.particles:
        if name not in apart_from:
            np.testing.assert_array_equal(one.particles[name], other.particles[name], name)


def test_grid_distances_keep_away_from_the_edges() -> None:
    step = np.arange(-64, 65) / 64
    d_phi = np.concatenate([step, 2 * math.pi - np.arange(330, 470) / 64])
    distances = np.hypot(*np.meshgrid(step, d_phi))
    for edge in (CONFIG.isolation_cone, CONFIG.jet_lepton_dr, CONFIG.own_track_dr):
        assert np.abs(distances - edge).min() > 2e-6


@given(SEEDS, st.floats(-math.pi, math.pi))
@settings(max_examples=25, deadline=None)
def test_rotation_in_azimuth_changes_only_azimuths(seed: int, angle: float) -> None:
    events = grid_events(seed)
    rotated = copy.deepcopy(events)
    for event in rotated:
        for leaves in event.values():
            leaves["Phi"] = [f32(math.remainder(phi + angle, 2 * math.pi)) for phi in leaves["Phi"]]
    assert_same(select(*events), select(*rotated), apart_from=("Phi", "phiMET", "LepPhi"))


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_reflection_in_eta_changes_only_eta(seed: int) -> None:
    events = random_events(seed, n=3)
    reflected = copy.deepcopy(events)
    for event in reflected:
        for leaves in event.values():
            if "Eta" in leaves:
                leaves["Eta"] = [-eta for eta in leaves["Eta"]]
    assert_same(select(*events), select(*reflected), apart_from=("Eta", "LepEta"))


def reorder(event: Event, rng: np.random.Generator) -> Event:
    shuffled = {}
    for collection, leaves in event.items():
        order = rng.permutation(len(leaves["Phi"]))
        shuffled[collection] = {leaf: [values[i] for i in order] for leaf, values in leaves.items()}
    return shuffled


def without_ties(event: Event, rng: np.random.Generator) -> Event:
    """Every PT of a collection differs from the others by 1/1024 at least."""
    event = copy.deepcopy(event)
    for leaves in event.values():
        for leaf in {"PT", "ET"} & set(leaves):
            fractions = rng.permutation(len(leaves[leaf])) / 1024
            leaves[leaf] = [math.floor(value) + float(f) for value, f in zip(leaves[leaf], fractions, strict=True)]
    return event


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_order_in_the_file_does_not_matter_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = [without_ties(event, rng) for event in random_events(seed, n=3)]
    assert_same(select(*events), select(*(reorder(event, rng) for event in events)))


@given(SEEDS, st.sampled_from([0.25, 2.0, 1024.0]))
@settings(max_examples=15, deadline=None)
def test_another_unit_of_energy_scales_energies_alone(seed: int, unit: float) -> None:
    events = random_events(seed, n=3)
    scaled = copy.deepcopy(events)
    for event in scaled:
        for leaves in event.values():
            for leaf in {"PT", "ET", "MET"} & set(leaves):
                leaves[leaf] = [value * unit for value in leaves[leaf]]
    names = ("track_pt_min", "photon_et_min", "neutral_et_min", "jet_pt_min", "lepton_pt_min")
    one, other = select(*events), select(*scaled, **{name: getattr(CONFIG, name) * unit for name in names})
    energies = ("HT", "MET", "MT", "LepPt")
    assert_same(one, other, apart_from=(*energies, "Pt"))
    for name in energies:
        np.testing.assert_allclose(column(other, name), unit * column(one, name))
    np.testing.assert_array_equal(other.particles["Pt"], np.float32(unit) * one.particles["Pt"])


@given(SEEDS, st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_objects_below_the_cuts_change_nothing(seed: int, n: int) -> None:
    events = random_events(seed, n=3)
    padded = copy.deepcopy(events)
    for event in padded:
        for collection in ("EFlowTrack", "EFlowPhoton", "EFlowNeutralHadron", "Jet"):
            for leaf, values in event[collection].items():
                event[collection][leaf] = [0] * n + values + [0] * n
    assert_same(select(*events), select(*padded))


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_an_event_does_not_feel_its_neighbours(seed: int) -> None:
    events = random_events(seed, n=4)
    together = select(*events)
    alone = [select(event) for event in events]
    assert together.rows.tolist() == [i for i, selected in enumerate(alone) if len(selected.rows)]
    assert together.high_level.tolist() == [row for selected in alone for row in selected.high_level.tolist()]
    for name, values in together.particles.items():
        assert values.tolist() == [value for selected in alone for value in selected.particles[name].tolist()]


def test_pt_sums_are_exact_for_the_hardest_events() -> None:
    # 450 tracks of a TeV and one of half a GeV and a bit: float64 holds every digit of the sum.
    soft = track(f32(0.5 + 2**-20), 1, 1)
    event = make_event(muons=[lepton(40, -1, -1)], tracks=[*(track(1000.125, 1, 1) for _ in range(449)), soft])
    selected = assert_selected_like_reference([event])
    softest = selected.particles["Pt"].argmin()
    assert selected.particles["ChPFIso"][softest] == np.float32(449 * 1000.125 / soft["PT"])
