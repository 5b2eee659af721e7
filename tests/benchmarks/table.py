"""The table that ``make bench`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured value, and what it has to be."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    """Value, in this run, of what it is compared with."""
    must: float | None = None
    """In the same unit."""
    stretch: float | None = None
    at_most: bool = False
    """Whether less is better."""
    peak_bytes: int = 0
    """The most memory that any one process had; 0 where it was not looked at."""

    @property
    def missed(self) -> bool:
        """Whether it is not what it must be.

        >>> rate, time = Figure("", 99.0, "events/s", must=100.0), Figure("", 99.0, "s", must=100.0, at_most=True)
        >>> rate.missed, time.missed
        (True, False)
        """
        return self.must is not None and (self.value > self.must if self.at_most else self.value < self.must)


def memory(name: str, peak_bytes: int, must: float | None = None, stretch: float | None = None) -> Figure:
    """The largest process of something, in MB."""
    return Figure(name, peak_bytes / 1e6, "MB", must=must, stretch=stretch, at_most=True)


def format_table(figures: Iterable[Figure]) -> str:
    """A line each: value, ratio to its baseline, what it must and should be, the largest process, whether it missed."""
    head = ("", "measured", "", "ratio", "must", "stretch", "largest process", "")
    lines = [_line(*head)]
    for each in figures:
        sign = "≤ " if each.at_most else ""
        lines.append(
            _line(
                each.name,
                _number(each.value),
                each.unit,
                _number(each.baseline and each.value / each.baseline),
                *(sign + _number(goal) if goal else "" for goal in (each.must, each.stretch)),
                f"{each.peak_bytes / 1e6:,.0f} MB" if each.peak_bytes else "",
                "MISSED" if each.missed else "",
            )
        )
    return "\n".join(lines)


def format_missed(figures: Sequence[Figure]) -> str:
    """A line for every must that is missed; empty where there is none."""
    return "\n".join(
        f"missed: {each.name}: {_number(each.value)} {each.unit}, must be at {'most' if each.at_most else 'least'} "
        f"{_number(each.must)}"
        for each in figures
        if each.missed
    )


def _line(name: str, *cells: str) -> str:
    value, unit, ratio, must, stretch, process, missed = cells
    return f"{name:66} {value:>8} {unit:10} {ratio:>6} {must:>8} {stretch:>8} {process:>15} {missed}".rstrip()


def _number(value: float | None) -> str:
    """Three digits at least.

    >>> _number(2060.4), _number(0.3712), _number(None)
    ('2,060', '0.371', '')
    """
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
