"""Means and widths of features over particles, in parts that merge, always in the same order of summation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve.physics.compiled import kernel
from toposieve.physics.events import FloatArray


@dataclass(frozen=True)
class Moments:
    """Weighted moments of some values; parts merge, in a fixed order, to the same last bit.

    Attributes:
        weight: Sum of the absolute weights: with signs, a part could have values and no mean.
        mean: Mean of each column by absolute weight, (columns,).
        squares: Weighted sum of squared deviations from that mean, (columns,).
    """

    weight: float
    mean: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls, columns: int) -> Moments:
        """Moments of no value, the neutral element of :meth:`merge`."""
        return cls(0.0, np.zeros(columns), np.zeros(columns))

    @classmethod
    def of(cls, values: NDArray[Any], weights: NDArray[Any], columns: int) -> Moments:
        """Moments of the first columns.

        Args:
            values: (n, columns or more).
            weights: Of any sign, (n,).
            columns: How many.
        """
        return cls(*_moments(values, np.abs(weights.astype(np.float64)), columns))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of values (Chan, Golub & LeVeque, 1979: stable however large the mean is)."""
        weight = self.weight + other.weight
        share = other.weight / weight if weight else 0.0
        delta = other.mean - self.mean
        return Moments(
            weight=weight,
            mean=self.mean + share * delta,
            squares=self.squares + other.squares + self.weight * share * delta**2,
        )

    def reweighted(self, factor: float) -> Moments:
        """Moments of the same values with every weight times ``factor``."""
        return Moments(factor * self.weight, self.mean, factor * self.squares)


@kernel
def _moments(values: NDArray[Any], weights: FloatArray, columns: int) -> tuple[float, FloatArray, FloatArray]:
    total, mean, squares = 0.0, np.zeros(columns), np.zeros(columns)
    for i in range(len(values)):
        total += weights[i]
        for j in range(columns):
            mean[j] += weights[i] * values[i, j]
    if total > 0:
        mean /= total
    for i in range(len(values)):
        for j in range(columns):
            difference = values[i, j] - mean[j]
            squares[j] += weights[i] * difference * difference
    return total, mean, squares
