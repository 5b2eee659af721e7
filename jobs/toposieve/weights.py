"""Sums of event weights, exact whatever the signs, and what follows from them. Numbers in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class WeightSums:
    """Sums over the weights w of some events; those of parts add up to those of the whole.

    Each is rounded once (:func:`math.fsum`), so neither the order of events nor cancellation shows.

    Attributes:
        total: Σw.
        negative: Σw of the events with w < 0, so at most 0.
        squares: Σw².
    """

    total: float = 0.0
    negative: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, weights: Sequence[float]) -> WeightSums:
        """Sums over single events.

        >>> WeightSums.of([1e16, 1.0, -1e16]).total
        1.0
        """
        return cls(math.fsum(weights), math.fsum(w for w in weights if w < 0), math.fsum(w * w for w in weights))

    @classmethod
    def merge(cls, parts: Iterable[WeightSums]) -> WeightSums:
        """Sums over all events of several parts."""
        every = list(parts)
        return cls(*(math.fsum(getattr(part, name) for part in every) for name in ("total", "negative", "squares")))

    @property
    def absolute(self) -> float:
        """Σ|w|."""
        return self.total - 2 * self.negative

    @property
    def negative_share(self) -> float:
        """Σ|w| of the negative weights over that of all, in [0, 1]; 0 without weight.

        >>> WeightSums.of([1.0, 1.0, 1.0, -1.0]).negative_share
        0.25
        """
        return abs(self.negative) / self.absolute if self.absolute else 0.0

    @property
    def effective_events(self) -> float:
        """(Σw)² / Σw², the effective sample size (Kish, Survey Sampling, 1965).

        So many events of equal weight have the same relative error of their sum; 0 without weight.

        >>> WeightSums.of([1.0, 1.0, 1.0, -1.0]).effective_events
        1.0
        """
        return self.total**2 / self.squares if self.squares else 0.0


def signed_factor(negative_share: float) -> float:
    """Σ|w| / Σw, which brings weights of mean |w| 1 to mean w 1; 0 where Σw is not above 0.

    >>> signed_factor(0.25)
    2.0
    """
    return 1 / (1 - 2 * negative_share) if negative_share < 0.5 else 0.0
