"""Inputs that are the same: their events would count twice, and land in training and in test."""

from __future__ import annotations

import filecmp
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from toposieve.io.store import Key


@dataclass(frozen=True)
class Content:
    """Some content, and what is known of it without reading it."""

    name: str
    known: Hashable
    """Sizes and checksums: where these differ, so do the bytes."""
    key: Key
    """Where the bytes are."""


def find_duplicates(contents: Iterable[Content]) -> list[list[str]]:
    """Names of contents that are the same, byte for byte, in groups of two and more, in the order given."""
    alike: dict[Hashable, list[list[Content]]] = {}
    for content in contents:
        groups = alike.setdefault(content.known, [])
        group = next((group for group in groups if _same_bytes(group[0].key, content.key)), None)
        if group is None:
            groups.append([content])
        else:
            group.append(content)
    return [[content.name for content in group] for groups in alike.values() for group in groups if len(group) > 1]


def _same_bytes(one: Key, other: Key) -> bool:
    try:
        with one.fetch() as first, other.fetch() as second:
            return filecmp.cmp(first, second, shallow=False)
    except FileNotFoundError:
        return False  # whoever reads it says so
