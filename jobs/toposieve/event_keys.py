"""Hashes of events' identities, for ever the same: the order of selected files, and the start of random choices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)


def event_keys(file_id: str, entries: NDArray[np.int64]) -> Keys:
    """Keys of events: SplitMix64 (Steele, Lea & Flood, 2014) at the entry's step, from a state that the file id gives.

    Within a file no two are equal.

    Args:
        file_id: The ROOT file.
        entries: (events,).
    """
    return mix(digest64(file_id) + entries.astype(np.uint64) * _STEP)


def digest64(text: str) -> Keys:
    """A number that follows from a text, (1,)."""
    return text_keys([text])


def text_keys(texts: Iterable[str]) -> Keys:
    """A number for each text, such as an event's id, (texts,)."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def mix(values: Keys) -> Keys:
    """SplitMix64's finaliser: other values, other results, and no likeness between the results of like values."""
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
