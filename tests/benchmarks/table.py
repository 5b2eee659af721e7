"""The table that ``make bench`` prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measure import Usage


@dataclass(frozen=True)
class Row:
    """One measured path."""

    name: str
    events: int
    usage: Usage
    baseline: float | None = None
    """Events per CPU second of what the path is compared with."""
    goal: float | None = None
    """Events per CPU second to reach."""

    @property
    def rate(self) -> float:
        """Events per CPU second."""
        return self.events / self.usage.cpu_seconds


@dataclass(frozen=True)
class Duration:
    """Wall-clock time of something."""

    name: str
    seconds: float
    baseline: float | None = None
    """Seconds of what it is compared with."""
    goal: float | None = None
    """Most seconds that it may take."""


def format_tables(figures: Iterable[Row | Duration]) -> str:
    """Rates in one table, durations in another; a table without a line is left out."""
    rows, durations = [], []
    for each in figures:
        (rows if isinstance(each, Row) else durations).append(each)
    tables = [(format_rates, rows), (format_durations, durations)]
    return "\n\n".join(make(lines) for make, lines in tables if lines)


def format_rates(rows: Iterable[Row]) -> str:
    """A line per path: rate per core, goal, ratio to its baseline, and the largest process."""
    lines = [f"{'path':50} {'events':>8} {'events/s/core':>14} {'goal':>8} {'ratio':>9} {'largest process':>16}"]
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:,g}"
        ratio = "" if row.baseline is None else f"{row.rate / row.baseline:,.1f}"
        memory = f"{row.usage.peak_process_bytes / 2**20:,.0f} MB"
        lines.append(f"{row.name:50} {row.events:8,} {row.rate:14,.1f} {goal:>8} {ratio:>9} {memory:>16}")
    return "\n".join(lines)


def format_durations(durations: Iterable[Duration]) -> str:
    """A line each: seconds, the most that they may be, and ratio to the baseline."""
    lines = [f"{'duration':70} {'seconds':>8} {'at most':>8} {'ratio':>6}"]
    for each in durations:
        goal = "" if each.goal is None else f"{each.goal:,.2f}"
        ratio = "" if each.baseline is None else f"{each.seconds / each.baseline:.2f}"
        lines.append(f"{each.name:70} {each.seconds:8,.2f} {goal:>8} {ratio:>6}")
    return "\n".join(lines)
