"""Features exchanged among events: what a classifier loses by it is their importance. Arrays in, arrays out.

Each event gets a feature, or all particles of a kind, of another event, and keeps everything else (Breiman, Machine
Learning 45 (2001) 5, section 10). So the feature stays what it is over all events, and says nothing of its own event
any more. A feature that others stand in for loses little that way (Hooker, Mentch and Zhou, arXiv:1905.03151).

Which events, and who gets what of whom, follows from hashes of the events' ids, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.event_keys import Keys, digest64, mix
from toposieve.preprocessing import Scaling

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]

TABLE_EVENTS = 20_000
"""Most events that are tried of a model without particles."""
PARTICLE_EVENTS = 2_000
"""Of a model that takes particles, which is some hundred times as slow."""

LEPTONS = "leptons"
PARTICLE_GROUPS: dict[str, tuple[str, ...]] = {
    "charged hadrons": ("isChHad",),
    "neutral hadrons": ("isNeuHad",),
    "photons": ("isGamma",),
    LEPTONS: ("isEle", "isMu"),
}
"""What is exchanged together → the kinds of particles in it; the event's lepton is one of the leptons."""

_ETA, _PHI = (schema.LOW_LEVEL_FEATURES.index(name) for name in ("Eta", "Phi"))


def sample_rows(keys: Keys, most: int) -> Rows:
    """Positions of at most so many events, chosen by hash, increasing.

    Args:
        keys: (events,) hashes of their ids.
        most: How many at most.
    """
    order = np.argsort(mix(keys ^ digest64("importance")), kind="stable")
    return np.sort(order[:most])


def donors(keys: Keys, name: str) -> Rows:
    """Position of the event that each event gets a feature of: each gives once, (events,).

    Args:
        keys: (events,) hashes of their ids.
        name: The feature.
    """
    takers, givers = (
        np.argsort(values, kind="stable") for values in (keys, mix(keys ^ digest64(f"permutation {name}")))
    )
    of = np.empty_like(takers)
    of[takers] = givers
    return of


def exchanged_features(features: Floats, keys: Keys) -> Iterator[tuple[str, Floats]]:
    """Each high-level feature's name, and all features with that one exchanged.

    Args:
        features: (events, 14).
        keys: (events,) hashes of the events' ids.
    """
    for place, name in enumerate(schema.HIGH_LEVEL_FEATURES):
        changed = features.copy()
        changed[:, place] = features[donors(keys, name), place]
        yield name, changed


def exchanged_particles(events: Sequence[Floats], keys: Keys, scaling: Scaling) -> Iterator[tuple[str, list[Floats]]]:
    """Each of :data:`PARTICLE_GROUPS`, and all events' particles with those of that group exchanged.

    Particles stay where they are in the detector; each event's new ones are put in order like its own.

    Args:
        events: Scaled particles of each event, (particles, 19), by decreasing ΔR from the lepton, which is last.
        keys: (events,) hashes of the events' ids.
        scaling: How they were scaled.
    """
    members = {
        name: [schema.LOW_LEVEL_FEATURES.index(kind) for kind in kinds] for name, kinds in PARTICLE_GROUPS.items()
    }
    for name, columns in members.items():
        belongs = [_is_any(own, columns, lepton=name == LEPTONS) for own in events]
        yield (
            name,
            [
                _in_order(events[taker][~belongs[taker]], events[giver][belongs[giver]], name == LEPTONS, scaling)
                for taker, giver in enumerate(donors(keys, name))
            ],
        )


def _is_any(particles: Floats, kinds: Sequence[int], *, lepton: bool) -> NDArray[np.bool_]:
    """Which particles are of these kinds, (particles,); of the last it is known."""
    found = np.asarray((particles[:, kinds] > 0.5).any(axis=1))  # flags are not scaled
    found[-1] = lepton
    return found


def _in_order(kept: Floats, given: Floats, lepton_is_given: bool, scaling: Scaling) -> Floats:
    """An event of both, (particles, 19), cut to as many as there may be; the lepton is last where it comes from."""
    parts = [kept, given] if lepton_is_given else [given, kept]
    merged = np.concatenate(parts)
    eta, phi = (
        merged[:, column] * scaling.particle_scale[column] + scaling.particle_offset[column] for column in (_ETA, _PHI)
    )
    turn = np.remainder(phi - phi[-1] + np.pi, 2 * np.pi) - np.pi
    distance = np.hypot(eta - eta[-1], turn)
    order = np.append(np.argsort(-distance[:-1], kind="stable"), len(merged) - 1)
    ordered: Floats = merged[order[-schema.MAX_PARTICLES :]]
    return ordered
