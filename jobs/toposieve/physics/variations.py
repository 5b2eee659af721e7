"""Systematic variations: the same events as another detector might have measured them. Arrays in, arrays out.

Objects are varied before anything is computed of them, so every feature follows as it does of any events. What is
dropped or flipped follows from a hash of the event and of the object's place in it: the same objects whatever the file
is cut into, and of a smaller share always some of those of a larger one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from toposieve.config import SelectionConfig
from toposieve.event_keys import Keys, digest64, mix
from toposieve.physics.events import AnyArray, Events, Jagged


def vary(events: Events, keys: Keys, config: SelectionConfig, *, btag_mask: int) -> Events:
    """Vary events as ``config`` says: the same events where it says nothing.

    ``jet_scale`` and ``met_scale`` multiply PT and MET, each by itself: directions stay, and MET does not follow jets.
    A share ``track_loss`` of the tracks is missing, those of leptons among them. A share ``btag_flips`` of the jets is
    b-tagged if it was not, and is not if it was.

    Args:
        events: The events.
        keys: Hashes of who they are, (events,).
        config: What to vary.
        btag_mask: Bits of ``Jet.BTag`` that count as b-tagged.
    """
    varied = dict(events)
    if config.jet_scale != 1:
        varied["Jet"] = _scaled(varied["Jet"], "PT", config.jet_scale)
    if config.met_scale != 1:
        varied["MissingET"] = _scaled(varied["MissingET"], "MET", config.met_scale)
    if config.btag_flips:
        jets = varied["Jet"]
        varied["Jet"] = _with(
            jets, {"BTag": _flipped(jets, _drawn(jets, keys, "b-tag") < config.btag_flips, btag_mask)}
        )
    if config.track_loss:
        tracks = varied["EFlowTrack"]
        varied["EFlowTrack"] = _kept(tracks, _drawn(tracks, keys, "track") >= config.track_loss)
    return varied


def _with(objects: Jagged, leaves: Mapping[str, AnyArray]) -> Jagged:
    return Jagged(objects.offsets, {**objects.leaves, **leaves})


def _scaled(objects: Jagged, leaf: str, scale: float) -> Jagged:
    values = objects.leaves[leaf]
    return _with(objects, {leaf: (values.astype(np.float64) * scale).astype(values.dtype)})


def _flipped(jets: Jagged, is_flipped: NDArray[np.bool_], mask: int) -> NDArray[np.uint32]:
    """b-tags of all jets, of which those of some are the other way."""
    bits, mask_bits = jets.leaves["BTag"].astype(np.uint32), np.uint32(mask)
    flipped = np.where(bits & mask_bits, bits & ~mask_bits, bits | mask_bits)
    return np.where(is_flipped, flipped, bits)


def _kept(objects: Jagged, is_kept: NDArray[np.bool_]) -> Jagged:
    """Some of the objects."""
    before = np.append(0, np.cumsum(is_kept)).astype(np.int64)  # kept ones before each place
    return Jagged(before[objects.offsets], {leaf: values[is_kept] for leaf, values in objects.leaves.items()})


def _drawn(objects: Jagged, keys: Keys, what: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each entry of the leaves, from its event and its place in it, (entries,)."""
    length = len(next(iter(objects.leaves.values())))
    if not len(keys):
        return np.zeros(length)
    event = np.searchsorted(objects.offsets, np.arange(length), side="right") - 1
    owner = np.clip(event, 0, len(keys) - 1)  # entries before the first event and after the last are nobody's
    place = (np.arange(length) - objects.offsets[owner]).astype(np.uint64)
    drawn = mix(mix(keys[owner] ^ digest64(what)) + place)
    shares: NDArray[np.float64] = (drawn >> np.uint64(11)) / 2.0**53
    return shares
