"""QCD events with a real, isolated lepton from a c or b hadron.

Very few QCD events have such a lepton. So the generator drops events without a hard c or b quark as early as it
can, and then decays the c and b hadrons of what remains many times. Of the decays that give an isolated lepton one is
kept, chosen at random, and the event's weight is their number: so weighted events are distributed like those of a plain
generator, but for what the cuts below lose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

from toposieve.simulation.columns import Columns, concatenate, keep_events, pairs, rows, take
from toposieve.simulation.generator import (
    LEPTON_ETA_MAX,
    TruthEvents,
    final_particles,
    heavy_quarks,
    lepton_eta_max,
    make_pythia,
    next_batch,
)
from toposieve.simulation.kinematics import delta_phi, eta_of
from toposieve.simulation.seeds import series_seed
from toposieve.simulation.veto import Veto

QCD_SETTINGS: tuple[str, ...] = ("HardQCD:all = on", "PhaseSpace:pTHatMin = 25")
QCD_FAST_SETTINGS: tuple[str, ...] = (
    "HardQCD:hardbbbar = on",
    "HardQCD:hardccbar = on",
    "PhaseSpace:pTHatMin = 25",
)
"""Approximation: pairs of c or b quarks from the hard process only, none from gluons that split later."""

BOTTOM_HADRONS: tuple[int, ...] = (511, 521, 531, 541, 5122, 5132, 5232, 5332)
CHARM_HADRONS: tuple[int, ...] = (411, 421, 431, 4122, 4132, 4232, 4332)
HEAVY_HADRONS = BOTTOM_HADRONS + CHARM_HADRONS
"""PDG codes of the c and b hadrons that decay weakly: Pythia leaves them alone, and we decay them again and again."""
TRIES = 240
"""Decays of each event."""

LEPTON_PT_MIN = 22.0
"""Leptons count above this PT, GeV."""
ISOLATION_MAX = 0.55
"""Leptons count when the visible PT around them is below this share of their own."""
ISOLATION_CONE = 0.3
VISIBLE_PT_MIN = 0.3
"""Particles count in the isolation above this PT, GeV."""
NEUTRINOS = (12, 14, 16)

# An isolated lepton has most of its hadron's momentum, and that most of its quark's. Of the leptons above, the cuts
# below lose 2 % in all, mostly soft ones, and the early veto 3 %, from gluons that split late.
HADRON_PT_MIN = 26.0
"""c and b hadrons that can give such a lepton have PT above this, GeV."""
QUARK_PT_MIN: dict[int, float] = {4: 32.0, 5: 28.0}
"""Final c (4) and b (5) quarks that can give such a hadron have PT above this, GeV ..."""
QUARK_ETA_MAX = 2.7
"""... and |η| below this."""


class HeavyQuarkVeto(Veto):
    """Drops events without a hard c or b quark: in the middle of the shower, and again at its end."""

    def has_chance(self, event: Any) -> bool:
        """Whether there is a c or b quark within the cuts."""
        return has_hard_quark(event)

    def canVetoPartonLevel(self) -> bool:
        """Pythia asks whether to call :meth:`doVetoPartonLevel`."""
        return True

    def doVetoPartonLevel(self, event: Any) -> bool:
        """Whether the showered event has no c or b quark within the cuts."""
        return not has_hard_quark(event)


def has_hard_quark(event: Any) -> bool:
    """Whether a Pythia event has a final c or b quark within the cuts."""
    quarks = (event[i] for i in range(event.size() - 1, 2, -1) if event[i].idAbs() in QUARK_PT_MIN)
    return any(q.status() > 0 and q.pT() > QUARK_PT_MIN[q.idAbs()] and abs(q.eta()) < QUARK_ETA_MAX for q in quarks)


def generate_qcd(seed: int, *, fast: bool = False) -> Iterator[TruthEvents]:
    """Endless chunks of weighted QCD events with an isolated lepton from a c or b hadron.

    Args:
        seed: Pythia's seed.
        fast: Only hard bb̄ and cc̄ (:data:`QCD_FAST_SETTINGS`): an approximation.
    """
    veto = HeavyQuarkVeto()
    pythia = make_pythia(QCD_FAST_SETTINGS if fast else QCD_SETTINGS, seed, veto)
    let_decay(pythia, HEAVY_HADRONS, False)
    # Other random numbers than this file's collisions have: those of a file of about 5,082 days later.
    decayer = make_decayer(series_seed(seed, "decays"))
    rng = np.random.default_rng([seed, 2])
    while True:
        batch, tried = next_batch(pythia, veto)
        yield decay_batch(decayer, batch, rng, tried)


def make_decayer(seed: int) -> Any:
    """A Pythia instance that decays what its event holds, by ``forceHadronLevel``, with lifetimes of its own.

    Its ``moreDecays`` is no use: in Pythia 8.317 it does not always conserve charge.
    """
    return make_pythia(("ProcessLevel:all = off", "Check:event = off"), seed)


def let_decay(pythia: Any, codes: tuple[int, ...], allowed: bool) -> None:
    """Let some hadrons decay, or not."""
    for code in codes:
        pythia.particleData.mayDecay(code, allowed)


def decay_batch(decayer: Any, batch: Any, rng: np.random.Generator, tried: int) -> TruthEvents:
    """Decay the c and b hadrons of a batch, keeping the events that get an isolated lepton.

    Args:
        decayer: See :func:`make_decayer`.
        batch: Events with undecayed c and b hadrons.
        rng: Chooses among an event's successful decays.
        tried: Events that Pythia tried to make the batch.
    """
    hard, soft, others = split_hadrons(final_particles(decayer, batch))
    rest = concatenate([others, decay(decayer, soft)])
    weights, kept_decays = redecay(decayer, hard, visible_particles(rest), len(batch), rng)
    kept = np.flatnonzero(weights)
    return TruthEvents(
        count=len(kept),
        particles=keep_events(concatenate([rest, kept_decays]), kept, len(batch)),
        quarks=keep_events(heavy_quarks(batch), kept, len(batch)),
        weights=weights[kept],
        tried=tried,
    )


def split_hadrons(particles: Columns) -> tuple[Columns, Columns, Columns]:
    """Separate the c and b hadrons that can give the lepton wanted from those that cannot.

    Returns:
        The hard hadrons; the soft ones of events that have a hard one; all particles that are neither. The soft ones of
        other events are left out, as these events have no chance.
    """
    heavy = np.isin(np.abs(particles["pdg"]), HEAVY_HADRONS)
    hard = heavy & (np.hypot(particles["px"], particles["py"]) > HADRON_PT_MIN)
    soft = heavy & ~hard & np.isin(particles["event"], particles["event"][hard])
    return take(particles, hard), take(particles, soft), take(particles, ~heavy)


def decay(decayer: Any, hadrons: Columns, copies: int = 1) -> Columns:
    """Final particles of so many decays of each hadron, in the hadron's event.

    Column ``decay`` numbers the decays: event · ``copies`` + copy.

    What becomes of a soft hadron has no influence on the leptons of the hard ones but through their isolation; so one
    decay of it serves all :data:`TRIES` of theirs, and the mean number of successes stays the same.
    """
    n_hadrons = len(hadrons["pdg"])
    if n_hadrons == 0:
        return {**hadrons, "decay": hadrons["event"]}
    fill_with_copies(decayer, hadrons, copies)
    batch = decayer.nextBatch(1)
    status, mother = (ak.to_numpy(batch.prt[0][name]) for name in ("status", "mother1"))
    hadron = ancestors(mother, n_hadrons * copies)[status > 0] - 1
    event = hadrons["event"][hadron % n_hadrons]
    return {**final_particles(decayer, batch), "event": event, "decay": event * copies + hadron // n_hadrons}


def ancestors(mother: NDArray[np.int32], n_first: int) -> NDArray[np.int64]:
    """Position of the one of the first ``n_first`` particles that each particle descends from."""
    ancestor = np.arange(len(mother))
    while (later := ancestor > n_first).any():
        ancestor[later] = mother[ancestor[later]]
    return ancestor


def visible_particles(particles: Columns) -> Columns:
    """Particles that count in the isolation: event, pt, eta, phi, and ``decay`` where there is one."""
    directions = with_directions(particles)
    found: Columns = {name: directions[name] for name in ("event", "decay", "pt", "eta", "phi") if name in directions}
    return take(found, (found["pt"] > VISIBLE_PT_MIN) & ~np.isin(np.abs(particles["pdg"]), NEUTRINOS))


def with_directions(particles: Columns) -> Columns:
    """Particles with pt, eta and phi added."""
    px, py, pz = (particles[axis] for axis in ("px", "py", "pz"))
    return {**particles, "pt": np.hypot(px, py), "eta": eta_of(px, py, pz), "phi": np.arctan2(py, px)}


def hard_leptons(particles: Columns) -> Columns:
    """The electrons and muons that are hard and central enough, with pt, eta and phi."""
    light = with_directions(take(particles, np.isin(np.abs(particles["pdg"]), tuple(LEPTON_ETA_MAX))))
    return take(light, (light["pt"] > LEPTON_PT_MIN) & (np.abs(light["eta"]) < lepton_eta_max(light["pdg"])))


def pt_around(leptons: Columns, visible: Columns, group: str, n_groups: int) -> NDArray[np.float64]:
    """Sum of PT (GeV) in the isolation cone around each lepton, over the visible particles of its group."""
    lepton, other = pairs(leptons[group], visible[group], n_groups)
    distance = np.hypot(
        leptons["eta"][lepton] - visible["eta"][other], delta_phi(leptons["phi"][lepton], visible["phi"][other])
    )
    near = distance < ISOLATION_CONE
    return np.asarray(np.bincount(lepton[near], visible["pt"][other[near]], len(leptons["pt"])), dtype=float)


def redecay(
    decayer: Any, hadrons: Columns, around: Columns, n_events: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Columns]:
    """Decay the hard c and b hadrons of a batch :data:`TRIES` times.

    Args:
        decayer: See :func:`make_decayer`.
        hadrons: The hadrons (see ``final_particles``).
        around: The other visible particles.
        n_events: Events in the batch.
        rng: Chooses among an event's successful decays.

    Returns:
        How many decays of each event gave an isolated lepton, (n_events,); and final particles of one of these,
        each being equally likely. No particles without success.
    """
    products = decay(decayer, hadrons, TRIES)
    leptons, visible = hard_leptons(products), visible_particles(products)
    pt = pt_around(leptons, around, "event", n_events) + pt_around(leptons, visible, "decay", n_events * TRIES)
    successes = np.unique(leptons["decay"][pt - leptons["pt"] < ISOLATION_MAX * leptons["pt"]])
    counts = np.bincount(successes // TRIES, minlength=n_events)
    with_success = np.flatnonzero(counts)
    chosen = successes[(np.cumsum(counts) - counts)[with_success] + rng.integers(counts[with_success])]
    return counts.astype(float), take(products, np.isin(products["decay"], chosen))


def fill_with_copies(decayer: Any, hadrons: Columns, copies: int) -> None:
    """Replace the decayer's event by so many copies of these hadrons, one after the other.

    Decaying them all at once, without the rest of the event, is many times faster than decaying the event repeatedly.
    """
    once = pythia8mc.Event()
    once.init("(c and b hadrons)", decayer.particleData)
    once.reset()
    for h in rows(hadrons):
        mass = math.sqrt(h["energy"] ** 2 - h["px"] ** 2 - h["py"] ** 2 - h["pz"] ** 2)
        once.append(int(h["pdg"]), 81, 0, 0, 0, 0, 0, 0, h["px"], h["py"], h["pz"], h["energy"], mass)
        once.back().vProd(h["x"], h["y"], h["z"], 0.0)
    event = decayer.event
    event.reset()
    for _ in range(copies):
        event += once
