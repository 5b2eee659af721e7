from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.events import above, below, f32, jet, lepton, make_event, to_events
from support.reference import Event
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.features import (
    BLOCK,
    high_level_features,
    low_level_features,
    pad_sequences,
    sequence_order,
)
from toposieve.physics.leptons import find_leptons

MUON = lepton(40, 0, 0, -1)


def high_level(event: Event, btag_mask: int = 1, **cuts: float) -> dict[str, float]:
    config, events = SelectionConfig(**cuts), to_events([event])
    values = high_level_features(events, np.array([0]), find_leptons(events, config), config, btag_mask=btag_mask)
    assert values.shape == (1, 14)
    return dict(zip(schema.HIGH_LEVEL_FEATURES, values[0].tolist(), strict=True))


def test_high_level_features_by_hand() -> None:
    event = make_event(
        muons=[MUON], jets=[jet(50, 1, 1, 1), jet(60, -1, 2, 0), jet(20, 0, 2, 1)], met=45, met_phi=math.pi / 3
    )
    features = high_level(event)
    # MT² = 2 · 45 · 40 · (1 - 1/2)
    assert features.pop("MT") == pytest.approx(math.sqrt(1800))
    assert features == {
        "HT": 110,
        "MET": 45,
        "phiMET": f32(math.pi / 3),
        "nJets": 2,
        "nBjets": 1,
        "LepPt": 40,
        "LepEta": 0,
        "LepPhi": 0,
        "LepIsoCh": 0,
        "LepIsoGamma": 0,
        "LepIsoNeu": 0,
        "LepCharge": -1,
        "LepIsEle": 0,
    }


def test_electron_flag() -> None:
    assert high_level(make_event(electrons=[MUON]))["LepIsEle"] == 1


def test_transverse_mass_vanishes_along_the_lepton_even_across_pi() -> None:
    assert high_level(make_event(muons=[MUON], met=50, met_phi=0))["MT"] == 0
    across = make_event(muons=[lepton(40, 0, math.pi)], met=50, met_phi=-math.pi)
    assert high_level(across)["MT"] == pytest.approx(0, abs=1e-4)
    opposite = make_event(muons=[MUON], met=50, met_phi=math.pi)
    assert high_level(opposite)["MT"] == pytest.approx(2 * math.sqrt(50 * 40))


@pytest.mark.parametrize(
    ("pt", "eta", "n"),
    [
        (30, 1, 0),
        (above(30), 1, 1),
        (50, below(f32(2.6)), 1),
        (50, -below(f32(2.6)), 1),
        (50, above(f32(2.6)), 0),
        (50, -above(f32(2.6)), 0),
    ],
)
def test_jet_cuts(pt: float, eta: float, n: int) -> None:
    assert high_level(make_event(muons=[MUON], jets=[jet(pt, eta, 2)]))["nJets"] == n


def test_jet_eta_cut_is_strict() -> None:
    assert high_level(make_event(muons=[MUON], jets=[jet(50, 2.5, 2)]), jet_eta_max=2.5)["nJets"] == 0


@pytest.mark.parametrize(("distance", "n"), [(0, 0), (below(f32(0.4)), 0), (f32(0.4), 1), (0.5, 1)])
def test_jets_around_the_lepton_are_left_out(distance: float, n: int) -> None:
    features = high_level(make_event(muons=[MUON], jets=[jet(50, 0, distance, 1)]))
    assert (features["HT"], features["nJets"], features["nBjets"]) == (50 * n, n, n)


def test_overlap_is_strict_and_wraps() -> None:
    event = make_event(muons=[lepton(40, 0, 3.1)], jets=[jet(50, 0, -3.1), jet(60, 0.5, 3.1)])
    assert high_level(event, jet_lepton_dr=0.5)["HT"] == 60


def test_overlap_of_zero_keeps_all_jets() -> None:
    assert high_level(make_event(muons=[MUON], jets=[jet(50, 0, 0, 1)]), jet_lepton_dr=0)["nBjets"] == 1


@pytest.mark.parametrize(("mask", "n"), [(1, 2), (2, 2), (3, 3), (4, 1), (8, 0), (2**31, 1)])
def test_btag_mask(mask: int, n: int) -> None:
    jets = [jet(50, 1, 1 + i / 2, btag) for i, btag in enumerate((0, 1, 2, 7, 2**31))]
    assert high_level(make_event(muons=[MUON], jets=jets), btag_mask=mask)["nBjets"] == n


def test_event_positions_count_from_the_first_offset() -> None:
    events = {
        name: type(jagged)(jagged.offsets[1:], jagged.leaves)
        for name, jagged in to_events(
            [make_event(met=1, jets=[jet(90, 1, 1)]), make_event(muons=[MUON], met=2), make_event(muons=[MUON], met=3)]
        ).items()
    }
    config = SelectionConfig()
    values = high_level_features(events, np.array([0, 1]), find_leptons(events, config), config, btag_mask=1)
    assert values[:, schema.HIGH_LEVEL_FEATURES.index("MET")].tolist() == [2, 3]
    assert values[:, schema.HIGH_LEVEL_FEATURES.index("nJets")].tolist() == [0, 0]


# --- low-level -------------------------------------------------------------------------------------------------


def stored(n: int = 1, **columns: list[float]) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    particles = {name: np.zeros(n, np.float32) for name in schema.STORED_PARTICLE_FEATURES}
    particles |= {"kind": np.zeros(n, np.int8), "Charge": np.zeros(n, np.int8)}
    return particles | {name: np.array(values, particles[name].dtype) for name, values in columns.items()}


def test_low_level_features_by_hand() -> None:
    particles = stored(
        Pt=[4],
        Eta=[math.log(2)],
        Phi=[math.pi / 2],
        vtxX=[1],
        vtxY=[2],
        vtxZ=[3],
        ChPFIso=[0.1],
        GammaPFIso=[0.2],
        NeuPFIso=[0.3],
        kind=[3],
        Charge=[-1],
    )
    features = low_level_features(particles)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    expected = [5, 0, 4, 3, 4, math.log(2), math.pi / 2, 1, 2, 3, 0.1, 0.2, 0.3, 0, 0, 0, 1, 0, -1]
    assert features[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_each_kind_sets_its_own_flag() -> None:
    features = low_level_features(stored(5, kind=[0, 1, 2, 3, 4]))
    columns = [schema.LOW_LEVEL_FEATURES.index(flag) for flag in schema.PARTICLE_KINDS]
    assert features[:, columns].tolist() == np.eye(5).tolist()


def test_many_particles_are_expanded_like_one() -> None:
    rng = np.random.default_rng(8)
    n = 2 * BLOCK + 5
    pts, etas, charges = rng.exponential(5, n), rng.normal(0, 2, n), rng.integers(-1, 2, n)
    features = low_level_features(stored(n, Pt=pts.tolist(), Eta=etas.tolist(), Charge=charges.tolist()))
    for i in (0, BLOCK - 1, BLOCK, 2 * BLOCK, n - 1):
        alone = low_level_features(stored(Pt=[pts[i]], Eta=[etas[i]], Charge=[charges[i]]))
        assert features[i].tolist() == alone[0].tolist()


def test_no_particles() -> None:
    assert low_level_features(stored(0)).shape == (0, 19)


# --- sequences -------------------------------------------------------------------------------------------------


def order_of(*events: list[tuple[float, float]]) -> list[int]:
    offsets = np.cumsum([0, *map(len, events)])
    directions = np.array([direction for event in events for direction in event], np.float32).reshape(-1, 2)
    return sequence_order(offsets, directions[:, 0], directions[:, 1]).tolist()


def test_sequence_order_by_hand() -> None:
    # Lepton at (0, 3): distances 1, .08 (across π), 2, 0; then an event of its lepton alone.
    first = [(0.0, 3.0), (1.0, 3.0), (0.0, -3.2), (-2.0, 3.0), (0.0, 3.0)]
    assert order_of(first, [(1.0, 1.0)], [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0)]) == [3, 1, 2, 4, 0, 5, 8, 7, 6]


def test_equal_distances_keep_their_order_and_the_lepton_is_last() -> None:
    assert order_of([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (0, 0), (0, 0)]) == [1, 2, 3, 4, 5, 6, 0]
    many = [(0.0, 0.0), *((1.0 + i % 2, 0.0) for i in range(100))]
    assert order_of(many) == [*range(2, 101, 2), *range(1, 101, 2), 0]


def test_sequence_order_of_nothing() -> None:
    assert order_of() == []
    assert order_of([], [(0, 0)], []) == [0]


def test_sequence_order_is_computed_in_double_precision() -> None:
    # In float32 both distances round to 1000.
    assert order_of([(0, 0), (1000, 0), (1000, 0.001)]) == [2, 1, 0]


def test_sequence_order_tells_distances_apart_by_their_last_bit() -> None:
    eta = np.array([0.0, 1.0, np.nextafter(1.0, 2.0), 1.0])
    assert sequence_order(np.array([0, 4]), eta, np.zeros(4)).tolist() == [2, 1, 3, 0]


def test_sequence_order_of_a_slice_points_into_the_flat_arrays() -> None:
    eta, phi = np.array([9.0, 9.0, 0.0, 1.0, 2.0]), np.zeros(5)
    assert sequence_order(np.array([2, 5]), eta, phi).tolist() == [4, 3, 2]


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(0, 1000))
def test_padding_keeps_particles_and_adds_zeros(counts: list[int], seed: int) -> None:
    offsets = np.cumsum([0, *counts])
    features = np.random.default_rng(seed).normal(size=(offsets[-1], 19)).astype(np.float32)
    padded = pad_sequences(offsets, features)
    assert padded.shape == (len(counts), 801, 19)
    assert padded.dtype == np.float32
    for i, n in enumerate(counts):
        assert (padded[i, :n] == features[offsets[i] : offsets[i + 1]]).all()
        assert not padded[i, n:].any()


def test_too_many_particles_do_not_fit() -> None:
    assert pad_sequences(np.array([0, 801]), np.ones((801, 2)))[0].all()
    with pytest.raises(ValueError, match="802 particles; the layout has 801"):
        pad_sequences(np.array([0, 802]), np.ones((802, 2)))
