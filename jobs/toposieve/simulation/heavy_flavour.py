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

import numpy as np
import pythia8mc

from toposieve.simulation.columns import Columns, concatenate, keep_events, rows, take
from toposieve.simulation.generator import (
    LEPTON_ETA_MAX,
    TruthEvents,
    charges,
    final_particles,
    heavy_quarks,
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
TRIES = 120
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


def _signed(codes: tuple[int, ...]) -> frozenset[int]:
    return frozenset(codes) | {-code for code in codes}


_QUARKS = _signed(tuple(QUARK_PT_MIN))
_LEPTONS = _signed((11, 13))
_CHARM = _signed(CHARM_HADRONS)


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
    quarks = (event[i] for i in range(event.size() - 1, 2, -1) if event[i].id() in _QUARKS)
    return any(q.status() > 0 and q.pT() > QUARK_PT_MIN[abs(q.id())] and abs(q.eta()) < QUARK_ETA_MAX for q in quarks)


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
    rest = concatenate([others, decay_once(decayer, soft)])
    visible = visible_particles(rest)
    weights = np.zeros(len(batch))
    tables = [rest]
    for event in np.unique(hard["event"]):
        around = take(visible, slice(*np.searchsorted(visible["event"], [event, event + 1])))
        products, weights[event] = redecay(decayer, take(hard, hard["event"] == event), around, rng)
        tables.append({**products, "event": np.full(len(products["pdg"]), event)})
    kept = np.flatnonzero(weights)
    return TruthEvents(
        count=len(kept),
        particles=keep_events(concatenate(tables), kept, len(batch)),
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


def decay_once(decayer: Any, hadrons: Columns) -> Columns:
    """Final particles of the hadrons' decays, each in its hadron's event.

    What becomes of a soft hadron has no influence on the leptons of the hard ones but through their isolation; so one
    decay of it serves all :data:`TRIES` of theirs, and the mean number of successes stays the same.
    """
    n_hadrons = len(hadrons["pdg"])
    fill_with_copies(decayer, hadrons, copies=1)
    let_decay(decayer, HEAVY_HADRONS, True)
    decayer.forceHadronLevel(False)
    event = decayer.event
    final = [i for i in range(1, event.size()) if event[i].status() > 0]
    products = from_records(decayer, [record(event[i]) for i in final])
    ancestors = np.array([ancestor_of(event, i, n_hadrons) for i in final], dtype=np.int64)
    return {**products, "event": hadrons["event"][ancestors - 1]}


def visible_particles(particles: Columns) -> Columns:
    """Particles that count in the isolation: event, pt, eta, phi; in the order of their events."""
    px, py, pz = (particles[axis] for axis in ("px", "py", "pz"))
    visible = (np.hypot(px, py) > VISIBLE_PT_MIN) & ~np.isin(np.abs(particles["pdg"]), NEUTRINOS)
    directions = {"pt": np.hypot(px, py), "eta": eta_of(px, py, pz), "phi": np.arctan2(py, px)}
    found = take({"event": particles["event"], **directions}, visible)
    return take(found, np.argsort(found["event"], kind="stable"))


def pt_around(visible: Columns, eta: float, phi: float) -> float:
    """Sum of PT (GeV) in the isolation cone around a direction."""
    distance = np.hypot(visible["eta"] - eta, delta_phi(visible["phi"], phi))
    return float(visible["pt"][distance < ISOLATION_CONE].sum())


def redecay(decayer: Any, hadrons: Columns, around: Columns, rng: np.random.Generator) -> tuple[Columns, int]:
    """Decay the c and b hadrons of one event :data:`TRIES` times.

    Args:
        decayer: See :func:`make_decayer`.
        hadrons: The hadrons (see ``final_particles``).
        around: The other visible particles of the event.
        rng: Chooses among the successful decays.

    Returns:
        Final particles of one decay, each successful one being equally likely, and how many were successful. No
        particles without success.
    """
    n_hadrons = len(hadrons["pdg"])
    fill_with_copies(decayer, hadrons, TRIES)
    leptons = [i for i in decay_copies(decayer, n_hadrons) if is_hard_lepton(decayer.event[i])]
    tries = sorted({copy_of(decayer.event, i, n_hadrons) for i in leptons})
    decays = [products_of_copy(decayer.event, number, n_hadrons) for number in tries]
    successes = [products for products in decays if has_isolated_lepton(products, around)]
    kept = successes[rng.integers(len(successes))] if successes else []
    return from_records(decayer, [record(product) for product in kept]), len(successes)


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


def decay_copies(decayer: Any, n_hadrons: int) -> list[int]:
    """Decay all copies. b hadrons go first: where they leave nothing hard enough, c hadrons need not decay.

    Returns:
        Positions of the final electrons and muons; none of the copies given up.
    """
    event = decayer.event
    let_decay(decayer, CHARM_HADRONS, False)
    let_decay(decayer, BOTTOM_HADRONS, True)
    decayer.forceHadronLevel(False)
    of_interest = final_of(event, _CHARM | _LEPTONS, start=1)
    promising = {copy_of(event, i, n_hadrons) for i in of_interest if event[i].pT() > LEPTON_PT_MIN}
    for i in of_interest:
        if copy_of(event, i, n_hadrons) not in promising:
            event[i].statusNeg()
    before = event.size()
    let_decay(decayer, CHARM_HADRONS, True)
    decayer.forceHadronLevel(False)
    early = [i for i in of_interest if event[i].status() > 0]
    return early + final_of(event, _LEPTONS, start=before)


def final_of(event: Any, codes: frozenset[int], start: int) -> list[int]:
    """Positions, from ``start`` on, of the final particles with these PDG codes in a Pythia event."""
    found = [i for i in range(start, event.size()) if event[i].id() in codes]
    return [i for i in found if event[i].status() > 0]


def copy_of(event: Any, index: int, n_hadrons: int) -> int:
    """Number of the copy that a particle descends from."""
    return (ancestor_of(event, index, TRIES * n_hadrons) - 1) // n_hadrons


def ancestor_of(event: Any, index: int, n_first: int) -> int:
    """Position of the one of the first ``n_first`` particles that a particle descends from."""
    while index > n_first:
        index = event[index].mother1()
    return index


def products_of_copy(event: Any, number: int, n_hadrons: int) -> list[Any]:
    """Final particles that descend from the hadrons of one copy."""
    pending = list(range(1 + number * n_hadrons, 1 + (number + 1) * n_hadrons))
    products = []
    while pending:
        particle = event[pending.pop()]
        if particle.status() > 0:
            products.append(particle)
        else:
            pending.extend(range(particle.daughter1(), particle.daughter2() + 1))
    return products


def is_hard_lepton(particle: Any) -> bool:
    """Whether a particle is an electron or muon, hard and central enough."""
    eta_max = LEPTON_ETA_MAX.get(abs(particle.id()), 0.0)
    return bool(particle.pT() > LEPTON_PT_MIN and abs(particle.eta()) < eta_max)


def has_isolated_lepton(products: list[Any], around: Columns) -> bool:
    """Whether a hard lepton among the final products of a decay is isolated enough."""
    return any(_is_isolated(product, products, around) for product in products if is_hard_lepton(product))


def _is_isolated(lepton: Any, products: list[Any], around: Columns) -> bool:
    eta, phi, limit = lepton.eta(), lepton.phi(), ISOLATION_MAX * lepton.pT()
    others = _named([record(product) for product in products if product.index() != lepton.index()])
    pts: list[float] = [pt_around(visible, eta, phi) for visible in (around, visible_particles(others))]
    return bool(sum(pts) < limit)


_RECORD = ("pdg", "px", "py", "pz", "energy", "x", "y", "z", "event")


def record(particle: Any) -> tuple[float, ...]:
    """What is kept of a Pythia particle: PDG code, four-momentum (GeV), production vertex (mm), event 0."""
    p = particle
    return p.id(), p.px(), p.py(), p.pz(), p.e(), p.xProd(), p.yProd(), p.zProd(), 0


def _named(records: list[tuple[float, ...]]) -> Columns:
    values = np.array(records, dtype=float).reshape(-1, len(_RECORD))  # (particles, 9)
    return dict(zip(_RECORD, values.T, strict=True))


def from_records(pythia: Any, records: list[tuple[float, ...]]) -> Columns:
    """Records as ``TruthEvents.particles``."""
    columns = _named(records)
    pdg = columns["pdg"].astype(np.int32)
    return {**columns, "pdg": pdg, "charge": charges(pythia, pdg), "event": columns["event"].astype(np.int64)}
