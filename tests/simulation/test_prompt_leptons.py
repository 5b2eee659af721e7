"""Which events their prompt leptons give a chance."""

import numpy as np
import pytest
import pythia8mc

from toposieve.classes import CLASSES
from toposieve.simulation.generator import events_with_lepton, final_particles, make_pythia
from toposieve.simulation.prompt_leptons import (
    HADRONIC_SHARE,
    PromptLepton,
    PromptLeptonVeto,
    process_weights,
    prompt_leptons,
)

W_MASS = 80.4
AT_REST = pythia8mc.Vec4(0.0, 0.0, 0.0, W_MASS)


def momentum(px, pz, mass=0.0):
    """A four-momentum in the plane of x and z."""
    return pythia8mc.Vec4(px, 0.0, pz, np.sqrt(px**2 + pz**2 + mass**2))


@pytest.mark.parametrize(
    ("kind", "px", "eta", "chance"),
    [
        (11, 11.1, 0.0, True),
        (11, 10.9, 0.0, False),
        (13, 15.1, 2.69, True),
        (13, 15.1, -2.71, False),
        (13, 14.9, 0.0, False),
        (15, 18.1, 0.0, True),
        (15, 17.9, 0.0, False),
    ],
)
def test_leptons_must_be_hard_and_central(kind, px, eta, chance):
    lepton = PromptLepton(kind, momentum(px, px * np.sinh(eta)), 24, AT_REST)
    assert lepton.has_chance(AT_REST) is chance


def test_a_lepton_takes_part_in_the_recoil_of_its_resonance():
    lepton = PromptLepton(13, momentum(10.0, 0.0), 24, AT_REST)
    # Half the speed of light along x makes it 17.3 GeV, against x 5.8 GeV.
    kick = W_MASS * 0.5 / np.sqrt(0.75)
    assert lepton.has_chance(momentum(kick, 0.0, W_MASS))
    assert not lepton.has_chance(momentum(-kick, 0.0, W_MASS))


class Watched(PromptLeptonVeto):
    """Drops nothing, but notes what it would have dropped."""

    def __init__(self, rng):
        super().__init__(rng)
        self.leptonic, self.chances = [], []

    def begins(self, process):
        super().begins(process)
        self.leptonic.append(bool(prompt_leptons(process)))
        self.chances.append([])
        return True

    def has_chance(self, event):
        self.chances[-1].append(super().has_chance(event))
        return True


@pytest.mark.parametrize("sample", ["wjets", "ttbar"])
def test_what_is_dropped_half_way_would_not_have_had_a_prompt_lepton_in_the_end(sample):
    veto = Watched(np.random.default_rng(1))
    pythia = make_pythia(CLASSES[sample].process, 3, veto)
    batch = pythia.nextBatch(60)
    dropped = {event for event, answers in enumerate(veto.chances) if not all(answers)}
    particles = final_particles(pythia, batch)
    lost = dropped & set(events_with_lepton(particles).tolist())
    assert len(dropped) > (10 if sample == "wjets" else 1)
    assert len(lost) <= (0 if sample == "wjets" else 1)  # a lepton of a b hadron
    assert (process_weights(batch) == np.where(veto.leptonic, 1.0, 1 / HADRONIC_SHARE)).all()


def test_of_processes_without_lepton_a_share_begins():
    veto = PromptLeptonVeto(np.random.default_rng(1))
    process = pythia8mc.Event()
    begun = sum(not veto.doVetoProcessLevel(process) for _ in range(2000))
    assert begun / 2000 == pytest.approx(HADRONIC_SHARE, abs=4 * np.sqrt(HADRONIC_SHARE * (1 - HADRONIC_SHARE) / 2000))
    assert veto.has_chance(process)
