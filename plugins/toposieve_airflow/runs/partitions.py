"""Which partitions (production days) a run works on."""

from __future__ import annotations

import re
from datetime import date, timedelta

MAX_PARTITIONS = 1000
"""A longer range is more likely a slip of the year than meant."""

RANGE = ("partition_start", "partition_end")
"""What the form calls the first and last day of a run."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{,199}")
"""Names of datasets and reports grow from it, and a name of 255 characters is the longest that disks have."""


class PartitionError(ValueError):
    """The run does not say which partitions it works on, or says it wrongly; the message gives the remedy."""


def choose_partitions(start: str | None, end: str | None, partition_key: str | None) -> list[str]:
    """Partitions of a run: the range of days if one is given, otherwise the run's partition key.

    Args:
        start: First day, ``YYYY-MM-DD``.
        end: Last day, included; ``start`` if empty.
        partition_key: The run's key: a day, or any other name of a folder under ``raw/<sample>/``.

    Raises:
        PartitionError: Neither is given, the range is wrong, or the key cannot be a folder's name.
    """
    if asked := asked_days(start, end):
        return asked
    if partition_key is None:
        raise PartitionError("which days? give partition_start and partition_end, or start the run with a key")
    return [check_key(partition_key)]


def check_key(partition_key: str) -> str:
    """The key itself, if it can be a folder's name.

    Raises:
        PartitionError: It cannot.
    """
    if not _KEY.fullmatch(partition_key):
        raise PartitionError(
            f"partition key {partition_key!r}: use up to 200 letters, digits, '.', '_' and '-', for example 2026-01-01"
        )
    return partition_key


def asked_days(start: str | None, end: str | None, keys: tuple[str, str] = RANGE) -> list[str]:
    """Every day of a range, which is one day if ``end`` is empty, and none if both are; errors call them by these keys.

    Raises:
        PartitionError: Only the end is given, or the range is wrong.
    """
    if start:
        return days(start, end or start, keys)
    if end:
        raise PartitionError(f"{keys[1]} is {end} but {keys[0]} is empty: give both, or neither")
    return []


def days(start: str, end: str, keys: tuple[str, str] = RANGE) -> list[str]:
    """Every day from ``start`` to ``end``, both included; errors call them by these keys.

    >>> days("2026-02-28", "2026-03-01")
    ['2026-02-28', '2026-03-01']

    Raises:
        PartitionError: A date is malformed, or the range is empty or too long.
    """
    first, last = _day(start, keys[0]), _day(end, keys[1])
    count = (last - first).days + 1
    if count < 1:
        raise PartitionError(f"{keys[1]} {end} is before {keys[0]} {start}: give the earlier day first")
    if count > MAX_PARTITIONS:
        raise PartitionError(f"{start} to {end} is {count} days; one run takes at most {MAX_PARTITIONS}")
    return [(first + timedelta(days=number)).isoformat() for number in range(count)]


def _day(text: str, key: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PartitionError(f"{key}: {text!r} is not a day; write it as 2026-01-01") from None
