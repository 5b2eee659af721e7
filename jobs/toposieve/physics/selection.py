"""The event selection: named masks, their cutflow, and the features of what passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve.config import SelectionConfig
from toposieve.physics.events import AnyArray, Events, FloatArray, IntArray
from toposieve.physics.features import high_level_features
from toposieve.physics.leptons import find_leptons
from toposieve.physics.particles import particle_rows


@dataclass(frozen=True)
class SelectedEvents:
    """Features of the events that pass.

    Attributes:
        rows: Their positions among the events that came in, ascending, (n,).
        high_level: ``schema.HIGH_LEVEL_FEATURES``, (n, 14).
        offsets: Event ``i`` owns the particles ``offsets[i]:offsets[i + 1]``; the first is the lepton. (n + 1,)
        particles: Flat columns: float32 per name in ``schema.STORED_PARTICLE_FEATURES``, int8 ``kind`` and ``Charge``.
        cutflow: Events after each of ``schema.CUTFLOW``.
        cuts: Name → which of the events that came in pass this cut; for sums of weights.
    """

    rows: IntArray
    high_level: FloatArray
    offsets: IntArray
    particles: dict[str, AnyArray]
    cutflow: dict[str, int]
    cuts: dict[str, NDArray[np.bool_]]


def select_events(events: Events, config: SelectionConfig, *, btag_mask: int) -> SelectedEvents:
    """Select events with an isolated lepton and compute their features.

    Args:
        events: All collections of ``schema.DELPHES_LEAVES``, as stored.
        config: Cuts.
        btag_mask: Bits of ``Jet.BTag`` that count as b-tagged in this sample.

    Raises:
        InvalidInputError: The collections do not fit together, or an event has no or several ``MissingET``.
    """
    leptons = find_leptons(events, config)
    cuts: dict[str, NDArray[np.bool_]] = {
        "lepton_pt": leptons.candidates > 0,
        "isolated_lepton": leptons.kind >= 0,
    }
    selected, cutflow = apply_cuts(cuts, len(leptons.kind))
    rows = np.flatnonzero(selected)
    leptons = leptons.take(rows)
    high_level = high_level_features(events, rows, leptons, config, btag_mask=btag_mask)
    offsets, particles = particle_rows(events, rows, leptons, config)
    return SelectedEvents(rows, high_level, offsets, particles, cutflow, cuts)


def apply_cuts(cuts: Mapping[str, NDArray[np.bool_]], n: int) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Apply named masks one after the other.

    Args:
        cuts: Name → which events pass it, (n,).
        n: Events before any cut.

    Returns:
        Which events pass all, (n,), and the number of events left after each cut; ``events`` counts what came in.
    """
    passing = np.ones(n, np.bool_)
    cutflow = {"events": n}
    for name, mask in cuts.items():
        passing &= mask
        cutflow[name] = int(passing.sum())
    return passing, cutflow
