"""The event selection: named masks, their cutflow, and the features of what passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
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
        passing: Name of ``schema.CUTFLOW`` → which of the events that came in are left after it, (events,).
    """

    rows: IntArray
    high_level: FloatArray
    offsets: IntArray
    particles: dict[str, AnyArray]
    passing: dict[str, NDArray[np.bool_]]


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
    cuts = {
        "lepton_pt": leptons.candidates > 0,
        "isolated_lepton": leptons.kind >= 0,
    }
    passing = apply_cuts(cuts, len(leptons.kind))
    rows = np.flatnonzero(passing[schema.CUTFLOW[-1]])
    leptons = leptons.take(rows)
    high_level = high_level_features(events, rows, leptons, config, btag_mask=btag_mask)
    offsets, particles = particle_rows(events, rows, leptons, config)
    return SelectedEvents(rows, high_level, offsets, particles, passing)


def apply_cuts(cuts: Mapping[str, NDArray[np.bool_]], n: int) -> dict[str, NDArray[np.bool_]]:
    """Apply named masks one after the other.

    Args:
        cuts: Name → which events pass it, (n,).
        n: Events before any cut.

    Returns:
        Name → which events are left after this cut, (n,); the first is ``schema.CUTFLOW[0]``, all that came in.
    """
    left = np.ones(n, np.bool_)
    passing = {schema.CUTFLOW[0]: left}
    for name, mask in cuts.items():
        left = left & mask
        passing[name] = left
    return passing
