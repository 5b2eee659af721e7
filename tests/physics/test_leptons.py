from __future__ import annotations

import pytest

from support.events import above, below, f32, lepton, make_event, to_events, tower, track
from support.reference import Event
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.leptons import Leptons, find_leptons

ELECTRON, MUON = schema.PARTICLE_KINDS.index("isEle"), schema.PARTICLE_KINDS.index("isMu")
NONE = -1


def find(*events: Event, **cuts: float) -> Leptons:
    return find_leptons(to_events(events), SelectionConfig(**cuts))


def test_the_lepton_keeps_what_its_collection_says() -> None:
    found = find(make_event(electrons=[lepton(30, -1.5, 2.5, -1)], tracks=[track(28, -1.5, 2.5, +1)]))
    assert (found.kind[0], found.pt[0], found.eta[0], found.phi[0], found.charge[0]) == (ELECTRON, 30, -1.5, 2.5, -1)


def test_candidates_are_strictly_above_the_cut() -> None:
    found = find(make_event(electrons=[lepton(23, 0, 0)], muons=[lepton(above(23), 0, 1), lepton(90, 4, 1)]))
    assert found.candidates.tolist() == [2]


def test_isolation_by_hand() -> None:
    found = find(
        make_event(
            muons=[lepton(40, 0, 3.1)],
            tracks=[track(40, 0, 3.1), track(2, 0, -3.1), track(3, 0, 2.7)],
            photons=[tower(4, 0, 3.1), tower(5, 0.1, 3)],
            neutrals=[tower(1, 0, 3), tower(2, 0, 3)],
        )
    )
    # Own track left out; -3.1 is .08 away, 2.7 is .4 away; the photon on top counts; a neutral of 1 is not kept.
    assert found.isolation[0].tolist() == [2 / 40, 9 / 40, 2 / 40]


@pytest.mark.parametrize(("et", "kind"), [(18.0, NONE), (below(18), MUON), (above(18), NONE)])
def test_isolation_cut_is_strict(et: float, kind: int) -> None:
    assert find(make_event(muons=[lepton(40, 0, 0)], photons=[tower(et, 0.1, 0)])).kind[0] == kind  # 18 / 40 = .45


def test_only_the_own_tracks_are_left_out() -> None:
    without_track = make_event(electrons=[lepton(40, 0, 0)], photons=[tower(17, 0.1, 0)])
    other_track = make_event(
        electrons=[lepton(40, 0, 0)], photons=[tower(17, 0.1, 0)], tracks=[track(1.25, above(f32(1e-4)), 0)]
    )
    found = find(without_track, other_track)
    assert found.kind.tolist() == [ELECTRON, NONE]  # 17 / 40 is isolated: nothing is subtracted, nothing added
    assert found.isolation[0].tolist() == [0, 17 / 40, 0]


@pytest.mark.parametrize(
    ("electron_pts", "muon_pts", "kind", "pt", "charge"),
    [
        ([30], [], ELECTRON, 30, 0),
        ([], [30], MUON, 30, 0),
        ([30], [31], MUON, 31, 0),
        ([31], [30], ELECTRON, 31, 0),
        ([30], [30], ELECTRON, 30, 0),
        ([30, 40, 40], [35], ELECTRON, 40, 1),
        ([], [30, 50, 50], MUON, 50, 1),
        ([20, 22], [23], NONE, 0, 0),
        ([], [], NONE, 0, 0),
    ],
)
def test_highest_pt_then_electrons_then_file_order(
    electron_pts: list[float], muon_pts: list[float], kind: int, pt: float, charge: int
) -> None:
    # The charge tells the position in the collection.
    electrons = [lepton(value, i, 1, i) for i, value in enumerate(electron_pts)]
    muons = [lepton(value, -1 - i, -1, i) for i, value in enumerate(muon_pts)]
    found = find(make_event(electrons=electrons, muons=muons))
    assert (found.kind[0], found.pt[0], found.charge[0]) == (kind, pt, charge)


def test_isolation_comes_before_pt() -> None:
    found = find(
        make_event(
            electrons=[lepton(80, 0, 0), lepton(30, 1, 2)], muons=[lepton(50, -1, -1)], tracks=[track(40, 0, 0.1)]
        )
    )
    assert (found.kind[0], found.pt[0]) == (MUON, 50)


def test_every_cut_is_configurable() -> None:
    event = make_event(
        muons=[lepton(20, 0, 0)],
        tracks=[track(0.7, 0.1, 0), track(5, 0.35, 0)],
        photons=[tower(1.5, 0.1, 0)],
        neutrals=[tower(1.75, 0.1, 0)],
    )
    assert find(event).candidates[0] == 0
    assert find(event, lepton_pt_min=10).isolation[0].tolist() == [f32(0.7) / 20, 1.5 / 20, 1.75 / 20]
    strict = find(event, lepton_pt_min=10, track_pt_min=1, photon_et_min=2, neutral_et_min=2)
    assert strict.isolation[0].tolist() == [0, 0, 0]
    wide = find(event, lepton_pt_min=10, isolation_cone=0.4)
    assert wide.isolation[0, 0] == (f32(0.7) + 5) / 20
    assert find(event, lepton_pt_min=10, own_track_dr=0.11).isolation[0, 0] == 0
    assert find(event, lepton_pt_min=10, isolation_max=0.1).kind[0] == NONE


def test_take() -> None:
    found = find(*(make_event(muons=[lepton(30 + i, 0, 0)]) for i in range(3))).take([2, 0])
    assert found.pt.tolist() == [32, 30]
    assert found.isolation.shape == (2, 3)
