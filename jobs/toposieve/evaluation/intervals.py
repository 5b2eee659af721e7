"""Intervals of rates: how far the true one may be from the measured one. Numbers in, numbers out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

from toposieve.evaluation import metrics
from toposieve.evaluation.metrics import FloatArray
from toposieve.weights import WeightSums

ONE_SIGMA = (0.16, 0.84)
"""Quantiles between which 68 % lie: of the resamplings, and of what an interval covers."""

FEW = 25.0
"""Below so many effective events that pass, or that do not, resamplings tell too little: the exact interval is used."""


def clopper_pearson(passed: npt.ArrayLike, events: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both ends of the central 68 % interval of rates (Clopper and Pearson, Biometrika 26 (1934) 404).

    Args:
        passed: Events that passed; effective ones need not be whole.
        events: Of so many, more than 0.

    >>> [float(end.round(4)) for end in clopper_pearson(0, 10)]
    [0.0, 0.1674]
    """
    passed, failed = np.asarray(passed, np.float64), np.asarray(events, np.float64) - passed
    low, high = ONE_SIGMA
    with np.errstate(invalid="ignore"):
        ends = beta.ppf(low, passed, failed + 1), beta.ppf(high, passed + 1, failed)
    return np.where(passed > 0, ends[0], 0.0), np.where(failed > 0, ends[1], 1.0)


def rate_interval(rate: float, resampled: FloatArray, sums: WeightSums) -> tuple[float, float] | None:
    """Where the rate may be, at 68 %.

    From effective counts where few pass or few do not, and no weight is negative; else from the resamplings.

    Args:
        rate: Share of the weight that passes.
        resampled: (resamplings,) of the same; NaN where one has no events.
        sums: Of the weights of all events, passing or not.

    Returns:
        Both ends; None where no limit can be given: what passes does not add up to more than 0 though weights may be
        negative, or there are no events.
    """
    if not np.isfinite(rate) or (sums.negative < 0 and rate <= 0):
        return None
    events = sums.effective_events
    if sums.negative == 0 and events * min(rate, 1 - rate) < FEW:
        low, high = clopper_pearson(events * rate, events)
    else:
        low, high = np.nanquantile(resampled, ONE_SIGMA)
    return float(low), float(high)


def upper_limit(rate: float, sums: WeightSums) -> float | None:
    """Upper limit at 95 % where nothing passes; None where something does, or weights are negative."""
    if rate != 0 or sums.negative < 0 or sums.total <= 0:
        return None
    return metrics.rate_upper_limit(sums.effective_events)
