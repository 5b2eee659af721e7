"""Leptons of the hard process: which events they give a chance, and how rare those without them are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pythia8mc
from numpy.typing import NDArray

from toposieve.simulation.columns import flat_particles
from toposieve.simulation.veto import Veto

PT_MIN: dict[int, float] = {11: 11.0, 13: 15.0, 15: 18.0}
"""Half way through the shower, leptons of the hard process (PDG code) have a chance above this PT, GeV ..."""
ETA_MAX = 2.7
"""... and below this |η|. Of 1,857 wjets events with a generator lepton these lose none. Lost are top pairs whose
prompt leptons are out of reach but not a b or c hadron's: fewer than those that :data:`HADRONIC_SHARE` is for."""

HADRONIC_SHARE = 0.5
"""Share of the hard processes without lepton that is made, with weights to match. Nearly half of ttbar is such, and 1 %
of what is selected: leptons of b and c hadrons."""

OUTGOING = 23
"""Pythia's status code (or minus that, after the shower) of what the hard process and its decays leave."""


@dataclass(frozen=True)
class PromptLepton:
    """A lepton of the hard process, before the shower."""

    kind: int
    """11, 13 or 15."""
    momentum: Any
    resonance: int
    """Position in the event of the top quark or W boson that it descends from."""
    resonance_momentum: Any

    def has_chance(self, resonance_momentum: Any) -> bool:
        """Whether it may be hard and central enough, now that the shower has changed its resonance's momentum."""
        boost = pythia8mc.RotBstMatrix()
        boost.bst(self.resonance_momentum, resonance_momentum)
        momentum = pythia8mc.Vec4(self.momentum)
        momentum.rotbst(boost)
        return bool(momentum.pT() > PT_MIN[self.kind] and abs(momentum.eta()) < ETA_MAX)


def prompt_leptons(process: Any) -> list[PromptLepton]:
    """The charged leptons of a hard process."""
    found = []
    for i in range(process.size()):
        if abs(process[i].id()) in PT_MIN:
            resonance = first_ancestor(process, i)
            found.append(PromptLepton(abs(process[i].id()), process[i].p(), resonance, process[resonance].p()))
    return found


def first_ancestor(process: Any, index: int) -> int:
    """Position of the particle of the hard scattering that another descends from; the incoming two are 3 and 4."""
    while process[index].mother1() > 4:
        index = process[index].mother1()
    return index


class PromptLeptonVeto(Veto):
    """Drops events whose prompt leptons are too soft or too far forward, and most of those that have none.

    Args:
        rng: Decides which of the latter are made.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        """No event has begun."""
        super().__init__()
        self._rng = rng
        self._leptons: list[PromptLepton] = []

    def begins(self, process: Any) -> bool:
        """Whether there is a lepton, or chance makes do without."""
        self._leptons = prompt_leptons(process)
        return bool(self._leptons) or self._rng.random() < HADRONIC_SHARE

    def has_chance(self, event: Any) -> bool:
        """Whether a lepton has a chance, if there are any; when Pythia asks again, its resonance has decayed."""
        chances = []
        for lepton in self._leptons:
            resonance = event[event[lepton.resonance].iBotCopyId()]  # after its last recoil
            chances.append(resonance.status() < 0 or lepton.has_chance(resonance.p()))
        return not chances or any(chances)


def process_weights(batch: Any) -> NDArray[np.float64]:
    """Weight of each event of a batch: 1, and more where :data:`HADRONIC_SHARE` has thinned out its kind."""
    particles, event = flat_particles(batch)
    outgoing = np.abs(np.asarray(particles.status)) == OUTGOING
    leptons = np.flatnonzero(outgoing & np.isin(np.abs(np.asarray(particles.id)), tuple(PT_MIN)))
    return np.where(np.bincount(event[leptons], minlength=len(batch)) > 0, 1.0, 1 / HADRONIC_SHARE)
