"""Seeds: one for each file and block, from what it is and never from when or where it is made."""

from __future__ import annotations

import hashlib

import numpy as np

PYTHIA_SEEDS = 900_000_000
"""Pythia takes seeds from 1 to this."""


def derive_seed(*identity: str | int) -> int:
    """A seed from 1 to :data:`PYTHIA_SEEDS` that depends on every part of ``identity`` and on their order."""
    digest = hashlib.blake2b("\0".join(map(str, identity)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PYTHIA_SEEDS + 1


def detector_rng(seed: int) -> np.random.Generator:
    """Random numbers of pile-up and detector for the file that Pythia makes with ``seed``."""
    return np.random.default_rng([seed, 1])
