"""Whether a score of .8 is right eight times in ten: calibration of the probabilities. Arrays in, arrays out.

Logits are any numbers whose softmax is the probability. Weights are signed; where those of a bin do not add up to more
than 0, the bin is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from toposieve.evaluation.metrics import FloatArray, IntArray, number

BINS = 15
"""Of equal width in the probability, as Guo et al. have it."""

FLOOR = 1e-7
"""Of a probability."""

MOST = 20.0
"""Temperatures from 1 / MOST to MOST are tried."""


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are meant; NaN where weights do not add up to more than 0."""

    confidence: FloatArray
    """(bins,) mean of the highest probability."""
    accuracy: FloatArray
    """(bins,) share of events in which it is right."""
    share: FloatArray
    """(bins,) of all the weight."""
    events: FloatArray
    """(bins,) effective ones, (Σw)² / Σw²."""
    expected_error: float
    """Expected calibration error: mean of \\|accuracy - confidence\\| over the bins by their share."""
    brier: float
    """Brier score: mean of the squared distance of the probabilities from the truth, 0 to 2."""
    loss: float
    """Cross-entropy, nats per event."""


def calibrate(logits: npt.NDArray[np.floating], labels: IntArray, weights: FloatArray) -> Calibration:
    """Compare probabilities with the truth (Guo et al., arXiv:1706.04599).

    Args:
        logits: (events, classes).
        labels: (events,).
        weights: (events,).
    """
    probabilities = softmax(np.asarray(logits, np.float64), axis=1)  # (events, classes)
    highest = probabilities.max(axis=1)
    places = np.minimum((highest * BINS).astype(np.intp), BINS - 1)
    sums, squares, sure, right = (
        np.bincount(places, weights * values, minlength=BINS)
        for values in (np.ones(len(labels)), weights, highest, probabilities.argmax(axis=1) == labels)
    )
    confidence, accuracy = (np.divide(s, sums, out=np.full(BINS, np.nan), where=sums > 0) for s in (sure, right))
    share = np.where(sums > 0, sums, 0.0) / max(sums.clip(0).sum(), np.finfo(float).tiny)
    distance = (probabilities**2).sum(axis=1) - 2 * probabilities[np.arange(len(labels)), labels] + 1
    return Calibration(
        confidence,
        accuracy,
        share,
        np.divide(sums**2, squares, out=np.zeros(BINS), where=squares > 0),
        expected_error=float(np.nansum(share * abs(accuracy - confidence))) if (sums > 0).any() else float("nan"),
        brier=_mean(distance, weights),
        loss=_loss(logits, labels, weights),
    )


def fit_temperature(logits: npt.NDArray[np.floating], labels: IntArray, weights: FloatArray) -> float:
    """The number by which logits are to be divided for the smallest cross-entropy: to be fitted on validation.

    Args:
        logits: (events, classes).
        labels: (events,).
        weights: (events,).

    Returns:
        Above 1 where the model is too sure; NaN where the weights do not add up to more than 0.
    """
    if weights.sum() <= 0:
        return float("nan")
    end = float(np.log(MOST))
    found = minimize_scalar(
        lambda log: _loss(logits / np.exp(log), labels, weights), bounds=(-end, end), method="bounded"
    )
    return float(np.exp(found.x))


def summarise(
    scores: npt.NDArray[np.floating], labels: IntArray, weights: FloatArray, temperature: float
) -> dict[str, Any]:
    """How well the test events' probabilities are meant, as they are and with the temperature, for JSON.

    Args:
        scores: (events, classes) probabilities.
        labels: (events,).
        weights: (events,).
        temperature: As fitted on validation; NaN where it could not be: what is said with it is not known either.
    """
    logits, known = as_logits(scores), np.isfinite(temperature)
    return {
        "temperature": number(temperature),
        "as_trained": _describe(calibrate(logits, labels, weights)),
        "with_temperature": _describe(
            calibrate(logits / temperature, labels, weights) if known else calibrate(logits, labels, 0 * weights)
        ),
    }


def as_logits(scores: npt.NDArray[np.floating]) -> FloatArray:
    """Logarithms of probabilities, none below that of :data:`FLOOR`."""
    logits: FloatArray = np.log(np.maximum(scores, FLOOR), dtype=np.float64)
    return logits


def _describe(calibration: Calibration) -> dict[str, Any]:
    """Scalars as they are, bins as lists."""
    return {
        name: [number(one) for one in value] if isinstance(value, np.ndarray) else number(value)
        for name, value in vars(calibration).items()
    }


def _loss(logits: npt.NDArray[np.floating], labels: IntArray, weights: FloatArray) -> float:
    return _mean(-log_softmax(np.asarray(logits, np.float64), axis=1)[np.arange(len(labels)), labels], weights)


def _mean(values: FloatArray, weights: FloatArray) -> float:
    total = weights.sum()
    return float(weights @ values / total) if total > 0 else float("nan")
