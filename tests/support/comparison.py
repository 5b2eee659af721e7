"""Comparison of the library's features with the plain-Python reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from support.events import to_events
from support.reference import Event, Particle, ReferenceEvent, reference_cutflow, reference_select
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.physics.features import low_level_features, sequence_order
from toposieve.physics.selection import SelectedEvents, select_events

RELATIVE, ABSOLUTE = 1e-6, 1e-6
"""Features agree to float32's precision; the definition asks for 1e-5 relative."""


def high_level_array(event: ReferenceEvent) -> NDArray[np.float64]:
    """The reference's high-level features in the schema's order, (14,)."""
    return np.array([event.high_level[name] for name in schema.HIGH_LEVEL_FEATURES])


def low_level_array(particles: Sequence[Particle]) -> NDArray[np.float32]:
    """The reference's particles in the schema's order, (n, 19)."""
    return np.array([[particle[name] for name in schema.LOW_LEVEL_FEATURES] for particle in particles], np.float32)


def cutflow_of(selected: SelectedEvents) -> dict[str, int]:
    """Events after each cut."""
    return {name: int(passing.sum()) for name, passing in selected.passing.items()}


def assert_selected_like_reference(
    events: Sequence[Event], config: SelectionConfig | None = None, btag_mask: int = 1
) -> SelectedEvents:
    """Select the events with the library and with the reference; all that is selected and computed must agree."""
    config = config or SelectionConfig()
    selected = select_events(to_events(events), config, btag_mask=btag_mask)
    reference = [reference_select(event, config, btag_mask) for event in events]
    expected = [event for event in reference if event is not None]
    assert selected.rows.tolist() == [i for i, event in enumerate(reference) if event is not None]
    assert cutflow_of(selected) == reference_cutflow(list(events), config)
    assert np.diff(selected.offsets).tolist() == [len(event.particles) for event in expected]
    low_level = low_level_features(selected.particles)
    order = sequence_order(selected.offsets, selected.particles["Eta"], selected.particles["Phi"])
    for i, event in enumerate(expected):
        own = slice(selected.offsets[i], selected.offsets[i + 1])
        np.testing.assert_allclose(selected.high_level[i], high_level_array(event), RELATIVE, ABSOLUTE)
        np.testing.assert_allclose(low_level[own], low_level_array(event.particles), RELATIVE, ABSOLUTE)
        np.testing.assert_allclose(low_level[order[own]], low_level_array(event.sequence()), RELATIVE, ABSOLUTE)
    return selected
