"""Tables: rows that are filtered, sorted and shown a page at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ROWS = 50
"""Rows of a page."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some rows of a table.

    Attributes:
        rows: Those shown.
        number: Of this page, from 1.
        last: Number of the last page.
        count: Rows on all pages.
    """

    rows: Sequence[Row]
    number: int
    last: int
    count: int


def page_of(rows: Sequence[Row], number: int) -> Page[Row]:
    """A page of a table; the nearest one where there is none of this number.

    >>> page_of(range(120), 9)
    Page(rows=range(100, 120), number=3, last=3, count=120)
    """
    last = max(1, -(-len(rows) // ROWS))
    number = min(max(number, 1), last)
    return Page(rows[(number - 1) * ROWS : number * ROWS], number, last, len(rows))


def matches(query: str, texts: Iterable[str]) -> bool:
    """Whether each word of a query is in one of the texts, in any case.

    >>> matches("HLF 2026", ["2026-01-01", "hlf"]), matches("hlf 2027", ["2026-01-01", "hlf"])
    (True, False)
    """
    every = "\n".join(texts).casefold()
    return all(word in every for word in query.casefold().split())
