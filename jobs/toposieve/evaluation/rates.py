"""From shares that pass to hertz: what a trigger is paid in. Arrays in, arrays out.

The rate of a process is luminosity · cross-section · share that passes, the cross-section being that of the events that
selection keeps. An unknown cross-section is NaN, and so is every sum with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from toposieve.evaluation.metrics import FloatArray, IntArray, cumulative_share, rank

PICOBARN = 1e-36
"""cm²."""


def process_rates(cross_sections: FloatArray, luminosity: float) -> FloatArray:
    """Rate of each process before any cut on scores, Hz.

    Args:
        cross_sections: (processes, ...) of the selected events, pb, or their errors.
        luminosity: cm⁻² s⁻¹.

    >>> process_rates(np.array([150.0]), 2e34).round(6).tolist()
    [3.0]
    """
    return cross_sections * PICOBARN * luminosity


def total_rate(passing: FloatArray, hertz: FloatArray) -> FloatArray:
    """Rate of all processes together, Hz: each share counts by its own process's rate.

    Args:
        passing: (..., processes) shares that pass.
        hertz: (processes,) rates before the cut.

    >>> float(total_rate(np.array([0.5, 0.1]), np.array([10.0, 1000.0])))
    105.0
    """
    return np.asarray(passing @ hertz, np.float64)


def budget_threshold(
    labels: IntArray, weights: FloatArray, scores: npt.NDArray[np.floating], hertz: FloatArray, budget: float
) -> float:
    """The loosest threshold at which all processes together stay within a budget: to be chosen on validation.

    Args:
        labels: (events,) process of each event.
        weights: (events,).
        scores: (events,) for the class that is wanted.
        hertz: (processes,) rates before the cut, Hz.
        budget: Hz.

    Returns:
        NaN if the event of the highest score alone is too much, or a rate is not known.
    """
    ranking = rank(scores, labels == 0)
    ordered, process = weights[ranking.order], labels[ranking.order]
    shares = np.stack(
        [cumulative_share(np.where(process == one, ordered, 0.0), ranking.ends) for one in range(len(hertz))], axis=1
    )  # (thresholds + 1, processes)
    within = np.flatnonzero(total_rate(shares, hertz) <= budget)
    return float(ranking.thresholds[within[-1] - 1]) if len(within) and within[-1] else float("nan")
