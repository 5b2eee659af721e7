"""Weighted one-against-the-rest metrics and their bootstrap errors. Arrays in, arrays out.

A class's score is the model's output for it, whichever background it is to be told from: a trigger cuts on one number.
The events of the other classes are its background, each class by itself and all together ("the rest"). An event passes
a threshold if its score is at or above it, so events of equal score pass together and never have to be told apart.
Everything is NaN, never an exception, for a class without events or without background.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BINS = 4096
"""Of equal share of a class, and as many of its background, that the scores are sorted into once for all resamplings.

Up to twice as many distinct scores have a bin each, and nothing is lost. Of more, an AUC moves by about 1e-6, and a
point of the ROC curve by less than 1 / BINS along it; thresholds lie between bins, so what passes them stays exact.
"""

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
class Bins:
    """Events by their score for one class, in bins of decreasing score, and by their true class."""

    cells: npt.NDArray[np.unsignedinteger]
    """(events,) bin · classes + true class."""
    count: int
    """Number of bins."""
    passing: IntArray
    """(thresholds,) how many bins pass each threshold."""


@dataclass(frozen=True)
class Measurement:
    """The metrics of several models on one sample; resampled ones carry the resampling as a leading axis.

    The last axis of the rates is the true class of what passes; behind the classes follows the rest, all but the class
    that is wanted.
    """

    auc: FloatArray
    """(models, classes)."""
    accuracy: FloatArray
    """(models,)."""
    curve: FloatArray
    """(models, classes, targets, classes + 1) share that passes where the true-positive rate first reaches a target."""
    passing: FloatArray
    """(models, classes, thresholds, classes + 1) share that passes a given threshold."""


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
        cumulative_share(np.where(ranking.is_positive, ordered, 0.0), ranking.ends),
        cumulative_share(np.where(ranking.is_positive, 0.0, ordered), ranking.ends),
    )


def cumulative_share(weights: FloatArray, ends: IntArray) -> FloatArray:
    """Share of the weight up to each end, from 0 to 1, never falling; NaN where the weights add up to nothing.

    Args:
        weights: (events,) in order.
        ends: (ends,) places in that order.

    Returns:
        (ends + 1,), the first 0.
    """
    return _shares(np.concatenate([[0.0], np.cumsum(weights)[ends]]))


def _shares(sums: FloatArray) -> FloatArray:
    """Running sums (points, ...) as shares of the last."""
    total = sums[-1]
    shares = np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0)
    shares = np.maximum.accumulate(shares)
    return np.clip(shares, 0.0, 1.0)


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


def rate_upper_limit(events: float, confidence: float = 0.95) -> float:
    """Upper limit on a rate when none of ``events`` (effective) events passed; NaN without events."""
    return 1 - (1 - confidence) ** (1 / events) if events > 0 else float("nan")


def confusion_matrix(labels: IntArray, predicted: IntArray, weights: FloatArray, classes: int) -> FloatArray:
    """Summed weights, (true class, predicted class)."""
    cells = labels * classes + predicted
    sums = np.bincount(cells, weights=weights, minlength=classes**2).astype(np.float64)
    return sums.reshape(classes, classes)  # (true, predicted)


def choose_thresholds(
    labels: IntArray, weights: FloatArray, scores: npt.NDArray[np.floating], targets: FloatArray
) -> FloatArray:
    """The tightest threshold on each class's score that keeps each target share of it: to be chosen on validation.

    Args:
        labels: (events,).
        weights: (events,).
        scores: (events, classes).
        targets: (targets,) true-positive rates.

    Returns:
        (classes, targets); NaN for a class without events or background.
    """
    chosen = np.full((scores.shape[1], len(targets)), np.nan)
    for label in range(scores.shape[1]):
        ranking = rank(scores[:, label], labels == label)
        roc = roc_curve(ranking, weights)
        if roc.is_defined:
            chosen[label] = ranking.thresholds[working_point_index(roc, targets) - 1]
    return chosen


def bin_scores(
    scores: npt.NDArray[np.floating], labels: IntArray, label: int, classes: int, thresholds: FloatArray
) -> Bins:
    """Sort the scores of one class into :data:`BINS`, with a border at each threshold.

    Args:
        scores: (events,).
        labels: (events,) true class.
        label: The class that the scores are for.
        classes: How many there are.
        thresholds: (thresholds,); NaN passes nothing.
    """
    ranking = rank(scores, labels == label)
    groups = len(ranking.ends)
    passing = np.searchsorted(-ranking.thresholds, -np.nan_to_num(thresholds, nan=np.inf), side="right")
    key = np.arange(groups)
    if groups > 2 * BINS:
        positives = np.cumsum(ranking.is_positive)[ranking.ends]
        negatives = ranking.ends + 1 - positives
        key = sum(BINS * counts // max(counts[-1], 1) for counts in (positives, negatives))
        key += np.searchsorted(np.sort(passing), np.arange(groups), side="right")
    bins = np.cumsum(np.diff(key, prepend=key[:1]) > 0)  # (groups,) without gaps
    count = int(bins[-1]) + 1 if groups else 0
    cells = np.empty(len(scores), np.min_scalar_type(count * classes))
    cells[ranking.order] = np.repeat(bins, np.diff(ranking.ends, prepend=-1)) * classes + labels[ranking.order]
    return Bins(cells, count, np.append(0, bins + 1)[passing])


class Evaluator:
    """Measures several models on the same events, under any weights of those events.

    Args:
        labels: (events,) class of each event.
        scores: Model → (events, classes).
        targets: True-positive rates at which a point of the ROC curve is wanted.
        thresholds: (models, classes, thresholds) at which the share that passes is wanted.
    """

    def __init__(
        self,
        labels: IntArray,
        scores: Mapping[str, npt.NDArray[np.floating]],
        targets: Sequence[float] | FloatArray,
        thresholds: FloatArray,
    ) -> None:
        """Bin the events once for every model and class."""
        self.targets = np.asarray(targets, dtype=np.float64)
        self._thresholds = thresholds
        self._correct = [matrix.argmax(axis=1) == labels for matrix in scores.values()]
        self._bins = [
            [bin_scores(column, labels, label, len(matrix.T), cuts[label]) for label, column in enumerate(matrix.T)]
            for matrix, cuts in zip(scores.values(), thresholds, strict=True)
        ]

    def measure(self, weights: FloatArray) -> Measurement:
        """Every metric of every model under these weights."""
        areas, curves, passing = [], [], []
        for model in self._bins:
            for label, bins in enumerate(model):
                sums = _sums_above(bins, weights, label, len(model))
                shares = _shares(sums)
                roc = Roc(shares[:, label], shares[:, -1])
                areas.append(auc(roc))
                curves.append(
                    shares[working_point_index(roc, self.targets)]
                    if roc.is_defined
                    else np.full((len(self.targets), len(model) + 1), np.nan)
                )
                passing.append(_passing(sums, bins))
        shape = (len(self._bins), len(self._bins[0]))
        total = weights.sum()  # of signed weights, as the events are expected
        right = (np.einsum("i,i->", weights, correct) for correct in self._correct)  # BLAS is far slower
        return Measurement(
            auc=np.reshape(areas, shape),
            accuracy=np.array([np.clip(each / total, 0, 1) if total > 0 else np.nan for each in right]),
            curve=np.reshape(curves, (*shape, len(self.targets), -1)),
            passing=np.where(
                np.isfinite(self._thresholds)[..., np.newaxis],
                np.reshape(passing, (*shape, self._thresholds.shape[2], shape[1] + 1)),
                np.nan,
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


def _sums_above(bins: Bins, weights: FloatArray, label: int, classes: int) -> FloatArray:
    """Weight of each true class, and of the rest, in the first 0, 1, … bins: (bins + 1, classes + 1)."""
    sums = np.zeros((bins.count + 1, classes + 1))
    in_bins = np.bincount(bins.cells, weights, minlength=bins.count * classes).reshape(-1, classes)
    np.cumsum(in_bins, axis=0, out=sums[1:, :-1])
    sums[:, -1] = np.delete(sums[:, :-1], label, axis=1).sum(axis=1)
    return sums


def _passing(sums: FloatArray, bins: Bins) -> FloatArray:
    """Share of each column's weight that passes each threshold, (thresholds, classes + 1); of any sign."""
    total, passing = sums[-1], sums[bins.passing]
    shares: FloatArray = np.divide(passing, total, out=np.full_like(passing, np.nan), where=total > 0)
    return shares


def stack(measurements: Sequence[Measurement]) -> Measurement:
    """Resampled measurements as one, with the resampling as the leading axis."""
    return Measurement(*(np.stack([getattr(one, field.name) for one in measurements]) for field in fields(Measurement)))


def standard_error(resampled: FloatArray) -> FloatArray:
    """Standard deviation over the leading axis, leaving NaN out; NaN where fewer than two values are left."""
    finite = np.isfinite(resampled)
    count = finite.sum(axis=0)
    values = np.where(finite, resampled, 0.0)
    mean = values.sum(axis=0) / np.maximum(count, 1)
    squares = np.where(finite, values - mean, 0.0) ** 2
    return np.where(count > 1, np.sqrt(squares.sum(axis=0) / np.maximum(count - 1, 1)), np.nan)


def number(value: float) -> float | None:
    """A number as JSON has it: None where it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None
