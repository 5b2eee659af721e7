"""Truth events from Pythia 8.3: W and top samples, minimum bias, and what all generators share.

Proton collisions; particles with cτ above 10 mm reach the detector undecayed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

from toposieve.classes import CLASSES
from toposieve.cross_sections import COLLISION_ENERGY, Production
from toposieve.simulation.columns import Columns, flat_particles, keep_events, take
from toposieve.simulation.detector import ELECTRON_EFFICIENCY, MUON_EFFICIENCY
from toposieve.simulation.kinematics import eta_of
from toposieve.simulation.prompt_leptons import PromptLeptonVeto, process_weights
from toposieve.weights import WeightSums

COMMON_SETTINGS: tuple[str, ...] = (
    "Print:quiet = on",
    f"Beams:eCM = {1000 * COLLISION_ENERGY:.0f}",
    "Random:setSeed = on",
    "ParticleDecays:limitTau0 = on",
    "ParticleDecays:tau0Max = 10",
)
MINIMUM_BIAS: tuple[str, ...] = ("SoftQCD:inelastic = on",)

TABLES = resources.files("toposieve.simulation").joinpath("multiparton_tables.txt")
"""What Pythia works out about multiparton interactions before any event, in its own format: else 4.7 s of a start with
minimum bias, .2 s with hard processes. It holds for one beam energy, and does not depend on the process."""
SAVE, REUSE = 1, 2

LEPTONS = (11, 13)
LEPTON_PT_MIN = 20.0
"""Generator electrons and muons count above this PT, GeV ..."""
LEPTON_ETA_MAX = {11: ELECTRON_EFFICIENCY[-1][0], 13: MUON_EFFICIENCY[-1][0]}
"""... and below this |η|, where the detector stops to identify them."""
ENDCAP_ELECTRON_ETA = 1.5
ENDCAP_ELECTRON_PT_MIN = 14.0
"""Electrons beyond :data:`ENDCAP_ELECTRON_ETA` count above this PT: their resolution is 15 %."""

QUARK_PT_MIN = 1.0
QUARK_ETA_MAX = 2.5
"""c and b quarks that can give a jet its flavour: PT above, |η| below."""

PICOBARN = 1e9
"""In Pythia's unit of cross-sections, mb."""

BATCH = 25
"""Events that Pythia makes at a time: few, since what the last batch of a file has too many is lost."""


@dataclass(frozen=True)
class TruthEvents:
    """A chunk of generated events.

    Attributes:
        count: Number of events n.
        particles: Final particles, flat: event, pdg, charge (e), px, py, pz, energy (GeV), x, y, z (production, mm).
        quarks: c and b quarks for the flavour of jets, flat: event, eta, phi, flavour (4 or 5).
        weights: (n,) event weights.
        so_far: What the generator has made of its own, these included.
    """

    count: int
    particles: Columns
    quarks: Columns
    weights: NDArray[np.float64]
    so_far: Production


def make_pythia(settings: tuple[str, ...], seed: int, hooks: Any = None) -> Any:
    """A Pythia instance, initialised. Its events depend on ``settings`` and ``seed`` alone.

    Raises:
        RuntimeError: Pythia refuses a setting, or cannot start.
    """
    with resources.as_file(TABLES) as tables:
        return _start((*settings, f"Random:seed = {seed}"), tables, REUSE, hooks)


def write_tables(path: Path) -> None:
    """Write :data:`TABLES`, for another version of Pythia."""
    _start(MINIMUM_BIAS, path, SAVE)


def _start(settings: tuple[str, ...], tables: Path, use_of_tables: int, hooks: Any = None) -> Any:
    read = _databases()
    pythia = pythia8mc.Pythia(read.settings, read.particleData, False)
    for line in (*COMMON_SETTINGS, f"MultipartonInteractions:reuseInit = {use_of_tables}", *settings):
        if not pythia.readString(line):
            raise RuntimeError(f"Pythia does not know the setting {line!r}")
    pythia.settings.word("MultipartonInteractions:initFile", str(tables))  # which may have a space
    if hooks is not None:
        pythia.setUserHooksPtr(hooks)
    if not pythia.init():
        raise RuntimeError(f"Pythia cannot start with {', '.join(settings)}")
    return pythia


@cache
def _databases() -> Any:
    """A Pythia with its default settings and particles: to read them takes a process 50 ms once."""
    return pythia8mc.Pythia("", False)


def generate(sample: str, seed: int) -> Iterator[TruthEvents]:
    """Endless chunks of a sample's events with a prompt lepton (see :func:`events_with_lepton`)."""
    veto = PromptLeptonVeto(np.random.default_rng([seed, 3]))
    pythia = make_pythia(CLASSES[sample].process, seed, veto)
    so_far = Production()
    while True:
        batch = pythia.nextBatch(BATCH)
        particles = final_particles(pythia, batch)
        kept = events_with_lepton(particles)
        weights = process_weights(batch)[kept]
        so_far = produced(pythia, so_far, weights)
        yield TruthEvents(
            count=len(kept),
            particles=keep_events(particles, kept, len(batch)),
            quarks=keep_events(heavy_quarks(batch), kept, len(batch)),
            weights=weights,
            so_far=so_far,
        )


def produced(pythia: Any, before: Production, weights: NDArray[np.float64]) -> Production:
    """What a generator has made, by its own count, once events of these weights were found in its last batch.

    What a :class:`~toposieve.simulation.veto.Veto` drops is tried, and not accepted; Pythia's cross-section is that of
    accepted events, and its error has both of its causes.
    """
    info = pythia.infoPython()
    found = WeightSums.merge([before.found, WeightSums.of(weights.tolist())])
    return Production(info.nSelected(), info.nAccepted(), found, info.sigmaGen() * PICOBARN, info.sigmaErr() * PICOBARN)


def final_particles(pythia: Any, batch: Any) -> Columns:
    """Final-state particles of a batch, see :class:`TruthEvents`. A vertex that Pythia leaves out is the origin."""
    particles, event = flat_particles(batch)
    final = np.flatnonzero(particles.status > 0)
    pdg = np.asarray(particles.id)[final]
    return {
        "event": event[final],
        "pdg": pdg,
        "charge": charges(pythia, pdg),
        **{axis: np.asarray(particles.p[axis])[final] for axis in ("px", "py", "pz")},
        "energy": np.asarray(particles.p.e)[final],
        **{axis: np.asarray(ak.fill_none(particles.vProd[f"p{axis}"], 0.0))[final] for axis in ("x", "y", "z")},
    }


def heavy_quarks(batch: Any) -> Columns:
    """Every c and b quark of a batch that can give a jet its flavour, copies along the shower included."""
    particles, event = flat_particles(batch)
    flavour = np.abs(np.asarray(particles.id))
    quarks = np.flatnonzero((flavour == 4) | (flavour == 5))
    px, py, pz = (np.asarray(particles.p[axis])[quarks] for axis in ("px", "py", "pz"))
    columns = {
        "event": event[quarks],
        "eta": eta_of(px, py, pz),
        "phi": np.arctan2(py, px),
        "flavour": flavour[quarks],
    }
    return take(columns, (np.hypot(px, py) > QUARK_PT_MIN) & (np.abs(columns["eta"]) < QUARK_ETA_MAX))


def charges(pythia: Any, pdg: NDArray[np.int32]) -> NDArray[np.float64]:
    """Electric charge of each particle, in units of e."""
    kinds, kind_of = np.unique(pdg, return_inverse=True)
    return np.array([pythia.particleData.charge(int(kind)) for kind in kinds], dtype=float)[kind_of]


def events_with_lepton(particles: Columns) -> NDArray[np.int64]:
    """Numbers of the events with a generator electron or muon that the detector could select, in order."""
    pdg = np.abs(particles["pdg"])
    light = take(particles, np.isin(pdg, LEPTONS))
    pt = np.hypot(light["px"], light["py"])
    eta = np.abs(eta_of(light["px"], light["py"], light["pz"]))
    endcap_electron = (np.abs(light["pdg"]) == 11) & (eta > ENDCAP_ELECTRON_ETA)
    pt_min = np.where(endcap_electron, ENDCAP_ELECTRON_PT_MIN, LEPTON_PT_MIN)
    return np.unique(light["event"][(pt > pt_min) & (eta < lepton_eta_max(light["pdg"]))])


def lepton_eta_max(pdg: NDArray[np.int32]) -> NDArray[np.float64]:
    """|η| at which the detector stops to identify each electron or muon."""
    return np.where(np.abs(pdg) == 11, LEPTON_ETA_MAX[11], LEPTON_ETA_MAX[13])
