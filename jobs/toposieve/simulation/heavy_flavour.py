"""QCD events with a real, isolated lepton from a c or b hadron.

Very few QCD events have such a lepton. So the generator drops events without a hard c or b quark as early as it
can, and then decays the c and b hadrons of what remains many times, and turns each decay many ways. Of the tries that
give an isolated lepton one is kept, chosen at random, and the event's weight is their number: so weighted events are
distributed like those of a plain generator, but for what the cuts below lose. No two events share a decay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve.classes import CLASSES
from toposieve.cross_sections import Production
from toposieve.simulation.columns import Columns, concatenate, keep_events, pairs, take
from toposieve.simulation.decays import (
    HEAVY_HADRONS,
    at_rest,
    decay,
    in_flight,
    let_decay,
    make_decayer,
    random_turns,
)
from toposieve.simulation.generator import (
    BATCH,
    LEPTON_ETA_MAX,
    TruthEvents,
    final_particles,
    heavy_quarks,
    lepton_eta_max,
    make_pythia,
    produced,
)
from toposieve.simulation.kinematics import delta_phi, eta_of
from toposieve.simulation.seeds import series_seed
from toposieve.simulation.veto import Veto

QCD_FAST_SETTINGS: tuple[str, ...] = (
    "HardQCD:hardbbbar = on",
    "HardQCD:hardccbar = on",
    "PhaseSpace:pTHatMin = 25",
)
"""Approximation: pairs of c or b quarks from the hard process only, none from gluons that split later."""

DECAYS = 100
"""Decays of each event ..."""
TURNS = 10
"""... and directions in which each is tried."""
TRIES = DECAYS * TURNS

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
    pythia = make_pythia(QCD_FAST_SETTINGS if fast else CLASSES["qcd"].process, seed, veto)
    let_decay(pythia, HEAVY_HADRONS, False)
    # Other random numbers than this file's collisions have: those of a file of about 5,082 days later.
    decayer = make_decayer(series_seed(seed, "decays"))
    rng = np.random.default_rng([seed, 2])
    so_far = Production()
    while True:
        events = decay_batch(decayer, pythia, rng, so_far)
        so_far = events.so_far
        yield events


def decay_batch(decayer: Any, pythia: Any, rng: np.random.Generator, before: Production) -> TruthEvents:
    """Decay the c and b hadrons of a batch, keeping the events that get an isolated lepton.

    Args:
        decayer: See :func:`make_decayer`.
        pythia: Makes events with undecayed c and b hadrons.
        rng: Chooses among an event's successful decays.
        before: What Pythia made before this batch. An event whose decays succeed in all tries stands for one.
    """
    batch = pythia.nextBatch(BATCH)
    hard, soft, others = split_hadrons(final_particles(decayer, batch))
    rest = concatenate([others, decay(decayer, soft)])
    weights, kept_decays = redecay(decayer, hard, visible_particles(rest), len(batch), rng)
    kept = np.flatnonzero(weights)
    return TruthEvents(
        count=len(kept),
        particles=keep_events(concatenate([rest, kept_decays]), kept, len(batch)),
        quarks=keep_events(heavy_quarks(batch), kept, len(batch)),
        weights=weights[kept],
        so_far=produced(pythia, before, weights[kept] / TRIES),
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

    A hadron's decay has no preferred direction: each of :data:`DECAYS` is looked at from :data:`TURNS` directions.

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
    products = turned_decays(decayer, hadrons, rng)
    leptons, visible = hard_leptons(products), visible_particles(products)
    pt = pt_around(leptons, around, "event", n_events) + pt_around(leptons, visible, "decay", n_events * TRIES)
    successes = np.unique(leptons["decay"][pt - leptons["pt"] < ISOLATION_MAX * leptons["pt"]])
    counts = np.bincount(successes // TRIES, minlength=n_events)
    with_success = np.flatnonzero(counts)
    chosen = successes[(np.cumsum(counts) - counts)[with_success] + rng.integers(counts[with_success])]
    return counts.astype(float), take(products, np.isin(products["decay"], chosen))


def turned_decays(decayer: Any, hadrons: Columns, rng: np.random.Generator) -> Columns:
    """Final particles of the hadrons' decays, of those alone that have a hard lepton.

    Column ``decay`` numbers them: event · :data:`TRIES` + try.
    """
    products = decay(decayer, at_rest(hadrons), DECAYS)
    turns = random_turns(len(hadrons["pdg"]) * TRIES, rng)
    light = np.flatnonzero(np.isin(np.abs(products["pdg"]), tuple(LEPTON_ETA_MAX)))
    with_lepton = hard_leptons(_turned(products, hadrons, turns, light))["decay"]
    return _turned(products, hadrons, turns, np.arange(len(products["pdg"])), np.unique(with_lepton))


def _turned(
    products: Columns, hadrons: Columns, turns: Columns, rows: NDArray[np.int64], only: NDArray[np.int64] | None = None
) -> Columns:
    """Some products of the decays, each from every direction, or in those tries alone that are listed."""
    rows, turn = np.repeat(rows, TURNS), np.tile(np.arange(TURNS), len(rows))
    number = products["event"][rows] * TRIES + products["copy"][rows] * TURNS + turn
    if only is not None:
        wanted = np.isin(number, only)
        rows, turn, number = rows[wanted], turn[wanted], number[wanted]
    found = take(products, rows)
    of_turns = take(turns, (found["hadron"] * DECAYS + found["copy"]) * TURNS + turn)
    return {**in_flight(found, of_turns, take(hadrons, found["hadron"])), "decay": number}
