"""Where the published notebooks (arXiv:1909.10389) deviate from the definition: one small event each, both answers.

The published rule is written out in each test, as small as it goes. Two more deviations concern the preparation of
datasets, scalers fitted before the split and a test set that doubles as validation: ``tests/test_preprocessing.py``.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from support.comparison import cutflow_of
from support.events import jet, lepton, make_event, to_events, tower, track
from support.reference import Event
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.features import low_level_features, pad_sequences, sequence_order
from toposieve.physics.selection import SelectedEvents, select_events


def select(event: Event, *, btag_mask: int = 1) -> SelectedEvents:
    return select_events(to_events([event]), SelectionConfig(), btag_mask=btag_mask)


def high_level(event: Event, name: str, *, btag_mask: int = 1) -> float:
    return float(select(event, btag_mask=btag_mask).high_level[0, schema.HIGH_LEVEL_FEATURES.index(name)])


def low_level(event: Event, name: str) -> list[float]:
    values = low_level_features(select(event).particles)[:, schema.LOW_LEVEL_FEATURES.index(name)]
    return [float(value) for value in values]


def test_first_track_overwrites_the_lepton() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], tracks=[track(5, 1, 0), track(3, 1, 1)])
    published = np.zeros(3)
    row = 0
    published[row] = 40  # the row is not advanced after the lepton
    for pt in (5, 3):
        published[row] = pt
        row += 1
    assert published.tolist() == [5, 3, 0]
    assert low_level(event, "Pt") == [40, 5, 3]


def test_azimuth_difference_wrapped_at_two_pi() -> None:
    event = make_event(muons=[lepton(40, 0, 3.1)], tracks=[track(30, 0, -3.1)])
    difference = 3.1 - -3.1
    if difference > 2 * math.pi:  # never true for azimuths in [-π, π]
        difference -= 2 * math.pi
    published_isolation = 30 / 40 if difference < 0.3 else 0.0
    assert published_isolation == 0
    assert cutflow_of(select(event)) == {"events": 1, "lepton_pt": 1, "isolated_lepton": 0}  # .75 is not isolated


def test_electron_or_muon_by_eta() -> None:
    electron, muon = lepton(30, 2, 1), lepton(50, -1, -1)
    published = "electron" if electron["Eta"] > muon["Eta"] else "muon"
    assert published == "electron"
    event = make_event(electrons=[electron], muons=[muon])
    assert high_level(event, "LepIsEle") == 0
    assert high_level(event, "LepPt") == 50


def test_transverse_mass_squared() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], met=40, met_phi=math.pi / 2)
    published = 2 * 40 * 40 * (1 - math.cos(math.pi / 2))
    assert published == pytest.approx(3200)
    assert high_level(event, "MT") == pytest.approx(math.sqrt(3200), rel=1e-6)


def test_charged_isolation_less_one_whatever_is_there() -> None:
    # An electron whose track was measured at 36 GeV, and a muon without a track.
    electron = make_event(electrons=[lepton(40, 0, 0)], tracks=[track(36, 0, 0), track(2, 0.1, 0)])
    muon = make_event(muons=[lepton(40, 0, 0)], tracks=[track(2, 0.1, 0)])
    published = [(36 + 2) / 40 - 1, 2 / 40 - 1]
    assert published == pytest.approx([-0.05, -0.95])
    assert high_level(electron, "LepIsoCh") == 2 / 40
    assert high_level(muon, "LepIsoCh") == 2 / 40


def test_neutrals_count_themselves_and_lose_a_track_they_never_had() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], photons=[tower(4, 1, 0), tower(2, 1, 0.1)], neutrals=[tower(5, -1, 0)])
    published_charged, published_photon = 0 / 4 - 1, (4 + 2) / 4
    assert (published_charged, published_photon) == (-1, 1.5)
    assert low_level(event, "ChPFIso")[1] == 0
    assert low_level(event, "GammaPFIso")[1:3] == [2 / 4, 4 / 2]
    published_alone = 5 / 5
    assert published_alone == 1
    assert low_level(event, "NeuPFIso")[3] == 0


def test_charge_as_sign_of_the_particle_id() -> None:
    electron_id, muon_id, pion_id = 11, -13, 211  # negative electron, positive muon, positive pion
    published = [math.copysign(1, pid) for pid in (electron_id, muon_id, pion_id)]
    assert published == [1, -1, 1]
    event = make_event(
        muons=[lepton(40, 0, 0)], tracks=[track(9, 1, 0, charge=-1), track(8, 1, 1, charge=1), track(7, 1, 2, charge=1)]
    )
    assert low_level(event, "Charge")[1:] == [-1, 1, 1]


def test_every_track_a_charged_hadron() -> None:
    event = make_event(
        muons=[lepton(40, 0, 0), lepton(8, 1, 1)],
        electrons=[lepton(9, 1, 0)],
        tracks=[track(9, 1, 0), track(8, 1, 1), track(7, 1, 2)],
    )
    published = [1, 1, 1]
    assert published != low_level(event, "isChHad")[1:] == [0, 0, 1]
    assert low_level(event, "isEle") == [0, 1, 0, 0]
    assert low_level(event, "isMu") == [1, 0, 1, 0]


def test_vertex_of_the_lepton() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], tracks=[track(40, 0, 0, x=0.5, y=-0.25, z=31)])
    published = [0.0, 0.0, 0.0]
    assert published != [low_level(event, name)[0] for name in ("vtxX", "vtxY", "vtxZ")] == [0.5, -0.25, 31]


def test_jet_of_the_lepton() -> None:
    jets = [jet(45, 0, 0.1), jet(60, 1, 2)]
    event = make_event(electrons=[lepton(40, 0, 0)], jets=jets)
    published_ht, published_n = sum(row["PT"] for row in jets), len(jets)
    assert (published_ht, published_n) == (105, 2)
    assert (high_level(event, "HT"), high_level(event, "nJets")) == (60, 1)


def test_any_bit_of_the_btag() -> None:
    jets = [jet(50, 1, 1, btag=1), jet(60, 1, 2, btag=2)]  # the second by another tagger alone
    event = make_event(muons=[lepton(40, 0, 0)], jets=jets)
    published = sum(row["BTag"] > 0 for row in jets)
    assert published == 2
    assert high_level(event, "nBjets", btag_mask=1) == 1


def test_caps_in_file_order() -> None:
    photons = [tower(2 + i, -3 + 0.02 * i, 2) for i in range(160)]  # the hardest come last
    event = make_event(muons=[lepton(40, 0, 0)], photons=photons)
    published = [row["ET"] for row in photons][: schema.MAX_PHOTONS]
    assert max(published) == 151
    ours = low_level(event, "Pt")[1:]
    assert (len(ours), max(ours), min(ours)) == (150, 161, 12)


def test_padding_sorted_and_standardised_among_particles() -> None:
    # A lepton at (0, 3), a track .5 away from it: padding at (0, 0) is 3 away and goes first.
    event = make_event(muons=[lepton(40, 0, 3)], tracks=[track(5, 0.5, 3)])
    selected = select(event)
    features = low_level_features(selected.particles)
    padded = np.concatenate([features, np.zeros((3, 19), np.float32)])
    eta, phi = (padded[:, schema.LOW_LEVEL_FEATURES.index(name)] for name in ("Eta", "Phi"))
    published = padded[np.argsort(-np.hypot(eta, phi - 3), kind="stable")]
    spread = published.std(axis=0)
    published = (published - published.mean(axis=0)) / np.where(spread > 0, spread, 1)
    assert published.any(axis=1).all()  # no row of zeros is left for a mask to find

    order = sequence_order(selected.offsets, selected.particles["Eta"], selected.particles["Phi"])
    ordered = features[order]
    ours = pad_sequences(selected.offsets, ordered - ordered.mean(axis=0))[0]  # standardised, then padded
    assert ours.any(axis=1).tolist() == [True] * 2 + [False] * (schema.MAX_PARTICLES - 2)


def test_events_with_an_empty_object_list_vanish() -> None:
    event = make_event(muons=[lepton(40, 0, 0)], photons=[tower(3, 1, 1)])
    published = all(event[name][leaf] for name, leaf in (("EFlowTrack", "PT"), ("EFlowPhoton", "ET")))
    assert not published
    assert cutflow_of(select(event)) == {"events": 1, "lepton_pt": 1, "isolated_lepton": 1}
