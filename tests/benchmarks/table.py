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


def format_table(rows: Iterable[Row]) -> str:
    """A line per path: rate per core, goal, ratio to its baseline, and the largest process."""
    lines = [f"{'path':50} {'events':>8} {'events/s/core':>14} {'goal':>8} {'ratio':>9} {'largest process':>16}"]
    for row in rows:
        goal = "" if row.goal is None else f"{row.goal:,g}"
        ratio = "" if row.baseline is None else f"{row.rate / row.baseline:,.1f}"
        memory = f"{row.usage.peak_process_bytes / 2**20:,.0f} MB"
        lines.append(f"{row.name:50} {row.events:8,} {row.rate:14,.1f} {goal:>8} {ratio:>9} {memory:>16}")
    return "\n".join(lines)
