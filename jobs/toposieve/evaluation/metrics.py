"""Weighted one-against-the-rest metrics and their bootstrap errors. Arrays in, arrays out.

A class's score is the model's output for it; the events of the other classes are its background. An event passes a
threshold if its score is at or above it, so events of equal score pass together and never have to be told apart.
Everything is NaN, never an exception, for a class without events or without background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ROUNDING = 1e-12
"""A true-positive rate within this of a target, relative, has reached it: sums of weights are not exact."""


@dataclass(frozen=True)
class Ranking:
    """Events in order of decreasing score: what every resampling of their weights shares."""

    order: IntArray
    """(events,) positions of the events in that order."""
    is_positive: BoolArray
    """(events,) in that order."""
    ends: IntArray
    """(thresholds,) place in that order of the last event of each distinct score."""
    thresholds: FloatArray
    """(thresholds,) the distinct scores, decreasing."""


@dataclass(frozen=True)
class Roc:
    """The points of a ROC curve: (thresholds + 1,), from (0, 0), where nothing passes, to (1, 1)."""

    true_positive_rate: FloatArray
    false_positive_rate: FloatArray

    @property
    def is_defined(self) -> bool:
        """Whether there are both positives and negatives."""
        return bool(np.isfinite(self.true_positive_rate[-1]) and np.isfinite(self.false_positive_rate[-1]))


@dataclass(frozen=True)
class Measurement:
    """The metrics of several models on one sample; resampled ones carry the resampling as a leading axis."""

    auc: FloatArray
    """(models, classes)."""
    accuracy: FloatArray
    """(models,)."""
    false_positive_rate: FloatArray
    """(models, classes, targets) at each target true-positive rate."""


def rank(scores: npt.NDArray[np.floating], is_positive: BoolArray) -> Ranking:
    """Order events by decreasing score (stable) and find where the score changes."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)[: len(ordered)]
    return Ranking(order, is_positive[order], ends, ordered[ends])


def roc_curve(ranking: Ranking, weights: FloatArray) -> Roc:
    """The weighted ROC curve, one point for each distinct score.

    Args:
        ranking: The events' order by score.
        weights: (events,) in the events' own order; may be zero or negative.
    """
    ordered = weights[ranking.order]
    return Roc(
        _cumulative_share(np.where(ranking.is_positive, ordered, 0.0), ranking.ends),
        _cumulative_share(np.where(ranking.is_positive, 0.0, ordered), ranking.ends),
    )


def _cumulative_share(weights: FloatArray, ends: IntArray) -> FloatArray:
    sums = np.concatenate([[0.0], np.cumsum(weights)[ends]])
    if sums[-1] <= 0:
        return np.full_like(sums, np.nan)
    return np.clip(np.maximum.accumulate(sums / sums[-1]), 0.0, 1.0)


def auc(roc: Roc) -> float:
    """Area under the curve by trapezes: the chance that a positive outscores a negative, a tie counting one half."""
    if not roc.is_defined:
        return float("nan")
    return float(np.trapezoid(roc.true_positive_rate, roc.false_positive_rate))


def working_point_index(roc: Roc, targets: FloatArray) -> IntArray:
    """The points at which the curve first reaches each target true-positive rate.

    This is the tightest threshold that keeps at least the target, so the point can be used as it is: no interpolation
    between thresholds, hence with few events the true-positive rate may exceed the target.
    """
    reached = np.searchsorted(roc.true_positive_rate, targets * (1 - ROUNDING))
    return np.minimum(reached, len(roc.true_positive_rate) - 1)


def false_positive_rate_at(roc: Roc, targets: FloatArray) -> FloatArray:
    """False-positive rate at each target true-positive rate, as :func:`working_point_index` defines it."""
    if not roc.is_defined:
        return np.full(len(targets), np.nan)
    return roc.false_positive_rate[working_point_index(roc, targets)]


def rate_upper_limit(events: float, confidence: float = 0.95) -> float:
    """Upper limit on a rate when none of ``events`` (effective) events passed; NaN without events."""
    return 1 - (1 - confidence) ** (1 / events) if events > 0 else float("nan")


def confusion_matrix(labels: IntArray, predicted: IntArray, weights: FloatArray, classes: int) -> FloatArray:
    """Summed weights, (true class, predicted class)."""
    cells = labels * classes + predicted
    sums = np.bincount(cells, weights=weights, minlength=classes**2).astype(np.float64)
    return sums.reshape(classes, classes)  # (true, predicted)


class Evaluator:
    """Measures several models on the same events, under any weights of those events.

    Args:
        labels: (events,) class of each event.
        scores: Model → (events, classes).
        targets: True-positive rates at which the false-positive rate is wanted.
    """

    def __init__(
        self, labels: IntArray, scores: Mapping[str, npt.NDArray[np.floating]], targets: Sequence[float] | FloatArray
    ) -> None:
        """Rank the events once for every model and class."""
        self.targets = np.asarray(targets, dtype=np.float64)
        self._correct = [matrix.argmax(axis=1) == labels for matrix in scores.values()]
        self.rankings = [
            [rank(matrix[:, label], labels == label) for label in range(matrix.shape[1])] for matrix in scores.values()
        ]

    def measure(self, weights: FloatArray) -> Measurement:
        """Every metric of every model under these weights."""
        curves = [[roc_curve(ranking, weights) for ranking in model] for model in self.rankings]
        total = weights.sum()  # of signed weights, as the events are expected
        return Measurement(
            auc=np.array([[auc(roc) for roc in model] for model in curves]),
            accuracy=np.array(
                [np.clip(weights @ correct / total, 0, 1) if total > 0 else np.nan for correct in self._correct]
            ),
            false_positive_rate=np.array(
                [[false_positive_rate_at(roc, self.targets) for roc in model] for model in curves]
            ),
        )

    def bootstrap(self, weights: FloatArray, samples: int, seed: int) -> Iterator[Measurement]:
        """The metrics of ``samples`` resamplings, one after the other.

        Each event's weight is multiplied by a Poisson number of mean 1, the same for every model and class: hence
        differences between models get the error of paired samples. Memory stays that of one resampling.
        """
        random = np.random.default_rng(seed)
        for _ in range(samples):
            yield self.measure(weights * random.poisson(1.0, len(weights)))


def stack(measurements: Sequence[Measurement]) -> Measurement:
    """Resampled measurements as one, with the resampling as the leading axis."""
    return Measurement(
        np.stack([one.auc for one in measurements]),
        np.stack([one.accuracy for one in measurements]),
        np.stack([one.false_positive_rate for one in measurements]),
    )


def standard_error(resampled: FloatArray) -> FloatArray:
    """Standard deviation over the leading axis, leaving NaN out; NaN where fewer than two values are left."""
    finite = np.isfinite(resampled)
    count = finite.sum(axis=0)
    values = np.where(finite, resampled, 0.0)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    squares = np.where(finite, values - mean, 0.0) ** 2
    return np.where(count > 1, np.sqrt(squares.sum(axis=0) / np.maximum(count - 1, 1)), np.nan)
