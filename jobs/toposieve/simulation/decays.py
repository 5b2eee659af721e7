"""Decays of c and b hadrons by Pythia: many at a time, at rest and in flight. GeV and mm."""

from __future__ import annotations

import math
from typing import Any

import awkward as ak
import numpy as np
import pythia8mc
from numpy.typing import NDArray

from toposieve.simulation.columns import Columns, rows
from toposieve.simulation.generator import final_particles, make_pythia
from toposieve.simulation.kinematics import Array
from toposieve.simulation.pileup import rotate

BOTTOM_HADRONS: tuple[int, ...] = (511, 521, 531, 541, 5122, 5132, 5232, 5332)
CHARM_HADRONS: tuple[int, ...] = (411, 421, 431, 4122, 4132, 4232, 4332)
HEAVY_HADRONS = BOTTOM_HADRONS + CHARM_HADRONS
"""PDG codes of the c and b hadrons that decay weakly: Pythia leaves them alone, and we decay them again and again."""


def make_decayer(seed: int) -> Any:
    """A Pythia instance that decays what its event holds, by ``forceHadronLevel``, with lifetimes of its own.

    Its ``moreDecays`` is no use: in Pythia 8.317 it does not always conserve charge.
    """
    return make_pythia(("ProcessLevel:all = off", "Check:event = off"), seed)


def let_decay(pythia: Any, codes: tuple[int, ...], allowed: bool) -> None:
    """Let some hadrons decay, or not."""
    for code in codes:
        pythia.particleData.mayDecay(code, allowed)


def decay(decayer: Any, hadrons: Columns, copies: int = 1) -> Columns:
    """Final particles of so many decays of each hadron, in the hadron's event.

    Columns ``hadron`` and ``copy`` say which decay it is, ``t`` when a particle comes into being (mm).

    What becomes of a soft hadron has no influence on the leptons of the hard ones but through their isolation; so one
    decay of it serves all of theirs, and the mean number of successes stays the same.
    """
    n_hadrons = len(hadrons["pdg"])
    if n_hadrons == 0:
        return {**hadrons, "hadron": hadrons["event"], "copy": hadrons["event"], "t": hadrons["x"]}
    fill_with_copies(decayer, hadrons, copies)
    batch = decayer.nextBatch(1)
    particles = batch.prt[0]
    status, mother = (ak.to_numpy(particles[name]) for name in ("status", "mother1"))
    first = ancestors(mother, n_hadrons * copies)[status > 0] - 1
    hadron = first % n_hadrons
    return {
        **final_particles(decayer, batch),
        "event": hadrons["event"][hadron],
        "hadron": hadron,
        "copy": first // n_hadrons,
        "t": ak.to_numpy(ak.fill_none(particles.vProd["e"], 0.0))[status > 0],
    }


def ancestors(mother: NDArray[np.int32], n_first: int) -> NDArray[np.int64]:
    """Position of the one of the first ``n_first`` particles that each particle descends from."""
    ancestor = np.arange(len(mother))
    while (later := ancestor > n_first).any():
        ancestor[later] = mother[ancestor[later]]
    return ancestor


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


def masses(particles: Columns) -> Array:
    """Masses of particles."""
    squares: Array = particles["energy"] ** 2 - particles["px"] ** 2 - particles["py"] ** 2 - particles["pz"] ** 2
    return np.sqrt(squares)


def at_rest(hadrons: Columns) -> Columns:
    """Hadrons in their own frame, where they come into being."""
    nowhere = {name: np.zeros(len(hadrons["pdg"])) for name in ("px", "py", "pz", "x", "y", "z")}
    return {**hadrons, **nowhere, "energy": masses(hadrons)}


def random_turns(n: int, rng: np.random.Generator) -> Columns:
    """Rotations, uniformly distributed: turns around z, y and z again (rad)."""
    full = 2 * np.pi
    return {
        "first": rng.uniform(0, full, n),
        "second": np.arccos(rng.uniform(-1, 1, n)),
        "third": rng.uniform(0, full, n),
    }


def in_flight(products: Columns, turns: Columns, hadrons: Columns) -> Columns:
    """Products of decays at rest as they are if the hadron flies. One row of ``turns`` and ``hadrons`` for each.

    Args:
        products: See :func:`decay`.
        turns: Rotations of the decays.
        hadrons: What decayed, with its momentum and origin.
    """
    momentum = _boost(*_turn(products, ("px", "py", "pz"), turns), products["energy"], hadrons)
    vertex = _boost(*_turn(products, ("x", "y", "z"), turns), products["t"], hadrons)
    moved = {name: position + hadrons[name] for name, position in zip(("x", "y", "z"), vertex, strict=False)}
    return {**products, **dict(zip(("px", "py", "pz", "energy"), momentum, strict=True)), **moved}


def _turn(products: Columns, axes: tuple[str, str, str], turns: Columns) -> tuple[Array, Array, Array]:
    x, y, z = (products[axis] for axis in axes)
    x, y = rotate(x, y, turns["first"])
    z, x = rotate(z, x, turns["second"])
    x, y = rotate(x, y, turns["third"])
    return x, y, z


def _boost(x: Array, y: Array, z: Array, t: Array, hadrons: Columns) -> tuple[Array, Array, Array, Array]:
    """Four-vectors in the hadrons' frame, seen from where the hadrons fly."""
    mass = masses(hadrons)
    ux, uy, uz, gamma = (hadrons[name] / mass for name in ("px", "py", "pz", "energy"))
    along = ux * x + uy * y + uz * z
    shift = along / (gamma + 1) + t
    return x + ux * shift, y + uy * shift, z + uz * shift, gamma * t + along
