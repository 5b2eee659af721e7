from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.events import PI, above, below, edge_cases, f32, lepton, make_event, to_events, tower, track
from support.reference import Event
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.leptons import find_leptons
from toposieve.physics.particles import particle_rows

MUON = lepton(40, 0.5, 1.0)


def rows_of(*events: Event, **cuts: float) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    config = SelectionConfig(**cuts)
    arrays = to_events(events)
    return particle_rows(arrays, np.arange(len(events)), find_leptons(arrays, config), config)


def flags_of(event: Event) -> list[str]:
    return [schema.PARTICLE_KINDS[kind] for kind in rows_of(event)[1]["kind"]]


def test_columns_and_types() -> None:
    _, particles = rows_of(make_event(muons=[MUON]))
    assert list(particles) == [*schema.STORED_PARTICLE_FEATURES, schema.PARTICLE_KIND_COLUMN, "Charge"]
    assert [str(values.dtype) for values in particles.values()] == ["float32"] * 9 + ["int8"] * 2


def test_groups_in_order_each_by_decreasing_pt() -> None:
    event = make_event(
        muons=[MUON],
        neutrals=[tower(2, -1, 0), tower(7, -1, 1)],
        photons=[tower(3, 0, 0), tower(9, 0, 1), tower(4, 0, 2)],
        tracks=[track(1, 2, 0), track(8, 2, 1)],
    )
    assert rows_of(event)[1]["Pt"].tolist() == [40, 8, 1, 9, 4, 3, 7, 2]
    assert flags_of(event) == ["isMu", *["isChHad"] * 2, *["isGamma"] * 3, *["isNeuHad"] * 2]


def test_equal_pt_keeps_file_order() -> None:
    tracks = [track(2 + i % 3, 1, 0.01 * i, x=i) for i in range(60)]
    _, particles = rows_of(make_event(muons=[MUON], tracks=tracks))
    expected = [*range(2, 60, 3), *range(1, 60, 3), *range(0, 60, 3)]
    assert particles["vtxX"][1:].tolist() == expected


def test_caps_by_pt_after_isolation() -> None:
    _, particles = rows_of(edge_cases()["caps"])
    kinds = particles["kind"][1:].tolist()
    counts = [kinds.count(schema.PARTICLE_KINDS.index(flag)) for flag in ("isChHad", "isGamma", "isNeuHad")]
    assert counts == [450, 150, 200]
    assert len(particles["Pt"]) == schema.MAX_PARTICLES
    assert particles["Pt"][1:451].min() == f32(0.6 + 50 // 3 * 0.25)  # the 50 softest tracks are the first in the file


def test_own_tracks_do_not_use_up_rows() -> None:
    offsets, particles = rows_of(edge_cases()["own tracks do not use up rows"])
    assert offsets.tolist() == [0, 451]
    assert particles["Pt"].tolist() == [300, *(1 + 0.25 * i for i in range(450, 0, -1))]


def test_capped_objects_count_in_isolation() -> None:
    crowd = [track(1, 2, 2) for _ in range(460)]
    _, particles = rows_of(make_event(muons=[MUON], tracks=crowd))
    assert len(particles["Pt"]) == 451
    assert set(particles["ChPFIso"][1:]) == {459.0}


def test_own_tracks_leave_rows_but_not_the_isolation_of_others() -> None:
    event = make_event(
        muons=[lepton(100, 0, 0)],
        tracks=[track(0.4, 0, 0, x=1), track(1, 0, 0, x=2, y=3, z=4), track(99, 0, 0, x=5), track(2, 0.1, 0, x=6)],
    )
    _, particles = rows_of(event)
    assert particles["Pt"].tolist() == [100, 2]
    assert [particles[name][0] for name in ("vtxX", "vtxY", "vtxZ")] == [2, 3, 4]  # the first kept one
    assert particles["ChPFIso"].tolist() == [f32(2 / 100), 50]


def test_lepton_without_own_track_has_vertex_zero() -> None:
    _, particles = rows_of(
        make_event(muons=[MUON], tracks=[track(39, above(f32(0.5 + 1e-4)), 1, x=7)], photons=[]), isolation_max=10
    )
    assert particles["vtxX"].tolist() == [0, 7]


@pytest.mark.parametrize("side", [1, -1])
def test_own_track_is_found_across_the_azimuths_seam(side: int) -> None:
    inside = side * below(PI)  # float32's π is above π, and would be wrapped when it is read
    event = make_event(muons=[lepton(40, 0.5, inside)], tracks=[track(39, 0.5, -inside, x=7)])
    assert rows_of(event)[1]["vtxX"].tolist() == [7]


def test_own_track_edge_is_inclusive() -> None:
    edge = f32(1e-4)
    tracks = [track(3, edge, 0, x=1), track(2, above(edge), 0, x=2)]
    at_the_edge = rows_of(make_event(muons=[lepton(40, 0, 0)], tracks=tracks), own_track_dr=edge)[1]
    assert at_the_edge["vtxX"].tolist() == [1, 2]
    below_it = rows_of(make_event(muons=[lepton(40, 0, 0)], tracks=tracks), own_track_dr=0.9 * edge)[1]
    assert below_it["vtxX"].tolist() == [0, 1, 2]


def test_towers_have_no_vertex_and_no_charge() -> None:
    event = make_event(
        muons=[MUON], tracks=[track(5, 1, 1, -1, 1, 2, 3)], photons=[tower(3, 0, 0)], neutrals=[tower(2, 0, 0)]
    )
    _, particles = rows_of(event)
    assert particles["Charge"].tolist() == [1, -1, 0, 0]
    assert particles["vtxZ"].tolist() == [0, 3, 0, 0]


def test_flags_by_the_nearest_reconstructed_lepton_of_any_pt() -> None:
    event = make_event(
        muons=[MUON, lepton(2, -1, 0), lepton(2, 1, f32(2e-5))],
        electrons=[lepton(2, -1, 2), lepton(2, 1, f32(6e-5)), lepton(0.1, 2, 2)],
        tracks=[track(9, -1, 0), track(8, -1, 2), track(7, 1, 0), track(6, 2, 2), track(5, 2, 2.001)],
    )
    assert flags_of(event)[1:] == ["isMu", "isEle", "isMu", "isEle", "isChHad"]


def test_electron_wins_at_equal_distance() -> None:
    event = make_event(muons=[MUON, lepton(2, 0, 0)], electrons=[lepton(1, 0, 0)], tracks=[track(9, 0, 0)])
    assert flags_of(event)[1:] == ["isEle"]


@pytest.mark.parametrize(("collection", "flag"), [("electrons", "isEle"), ("muons", "isMu")])
def test_flag_edge_is_inclusive(collection: str, flag: str) -> None:
    edge = f32(1e-4)
    event = make_event(
        **{collection: [lepton(40, 2, 1), lepton(5, 0, 0)]}, tracks=[track(3, edge, 0), track(2, above(edge), 0)]
    )
    kinds = rows_of(event, own_track_dr=edge)[1]["kind"].tolist()
    assert [schema.PARTICLE_KINDS[kind] for kind in kinds] == [flag, flag, "isChHad"]


def test_charge_is_the_tracks_own_cut_to_one_byte() -> None:
    event = edge_cases()["charges"]
    assert rows_of(event)[1]["Charge"].tolist() == [-1, -1, 2, -128]


@pytest.mark.parametrize(("charge", "stored"), [(999, 127), (-999, -128), (127, 127), (-128, -128)])
def test_charges_of_lepton_and_tracks_are_cut_at_both_ends(charge: int, stored: int) -> None:
    event = make_event(muons=[lepton(40, 0.5, 1, charge)], tracks=[track(4, 1, 1, charge)])
    assert rows_of(event)[1]["Charge"].tolist() == [stored, stored]


def test_azimuth_is_stored_as_read() -> None:
    event = make_event(muons=[lepton(40, 0, 6)], tracks=[track(3, 1, 5.5), track(2, 1, -0.5)])
    _, particles = rows_of(event)
    assert particles["Phi"].tolist() == [6, 5.5, -0.5]
    assert particles["ChPFIso"].tolist()[1:] == [f32(2 / 3), 1.5]


def test_offsets_of_several_events() -> None:
    offsets, particles = rows_of(
        make_event(muons=[MUON]), make_event(muons=[MUON], tracks=[track(1, 0, 0)]), make_event(muons=[MUON])
    )
    assert offsets.tolist() == [0, 1, 3, 4]
    assert particles["Pt"].tolist() == [40, 40, 1, 40]


@pytest.mark.parametrize("particles", ["Pt", "kind"])
def test_no_selected_events(particles: str) -> None:
    events = to_events([make_event(muons=[MUON])])
    config = SelectionConfig()
    rows = np.empty(0, np.int64)
    offsets, columns = particle_rows(events, rows, find_leptons(events, config).take(rows), config)
    assert offsets.tolist() == [0]
    assert len(columns[particles]) == 0
