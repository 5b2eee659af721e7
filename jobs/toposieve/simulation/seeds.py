"""Seeds: one for each file and block, from what it is and never from when or where it is made.

Pythia's generator starts independent sequences from neighbouring seeds. So the files of a series get seeds that follow
each other, from a start of the series' own, and no two are the same.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

import numpy as np

PYTHIA_SEEDS = 900_000_000
"""Pythia takes seeds from 1 to this."""

SEEDS_PER_DAY = 36_000
"""Seeds that a sample's files have in a day before they take the next day's. After 25,000 days they are used again."""


def series_seed(number: int, *series: str | int) -> int:
    """Seed of one file, from 1 to :data:`PYTHIA_SEEDS`: no other of these next numbers of the series has it."""
    return (_digest(*series) + number) % PYTHIA_SEEDS + 1


def file_number(partition: str, index: int) -> int:
    """Number of a partition's file among those of all partitions; a day's are apart from those of every other day."""
    day = day_of(partition)
    return (_digest(partition) if day is None else day.toordinal() * SEEDS_PER_DAY) + index


def day_of(partition: str) -> datetime | None:
    """The day that a partition is, or None where it has another name.

    >>> day_of("2026-01-02"), day_of("20260102"), day_of("warm-up")
    (datetime.datetime(2026, 1, 2, 0, 0), None, None)
    """
    try:
        day = datetime.fromisoformat(partition)
    except ValueError:
        return None
    return day if day.date().isoformat() == partition else None


def detector_rng(sample: str, seed: int) -> np.random.Generator:
    """Random numbers of pile-up and detector for the file of a sample that Pythia makes with ``seed``."""
    return np.random.default_rng([seed, 1, *sample.encode()])


def _digest(*identity: str | int) -> int:
    """A number of 64 bits that depends on every part of ``identity`` and on their order."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, identity)).encode(), digest_size=8).digest(), "big")
