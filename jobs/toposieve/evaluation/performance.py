"""How well the models do on the test events: the numbers of the report, with their bootstrap errors."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from toposieve import schema
from toposieve.config import EvaluationConfig
from toposieve.evaluation import metrics
from toposieve.evaluation.metrics import BoolArray, FloatArray, IntArray, Measurement
from toposieve.weights import WeightSums

ROC_GRID = np.linspace(0.5, 1.0, 201)
"""True-positive rates at which the ROC curves are drawn."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Performance:
    """Measured metrics of all models, and of every bootstrap resampling."""

    models: tuple[str, ...]
    working_points: tuple[float, ...]
    nominal: Measurement
    """Its targets are the working points, then :data:`ROC_GRID`."""
    resampled: Measurement
    evaluator: metrics.Evaluator

    def roc(self, model: str, label: int) -> tuple[FloatArray, FloatArray]:
        """False-positive rate on :data:`ROC_GRID`: (201,), and of every resampling: (resamplings, 201)."""
        place, grid = self.models.index(model), slice(len(self.working_points), None)
        return (
            self.nominal.false_positive_rate[place, label, grid],
            self.resampled.false_positive_rate[:, place, label, grid],
        )


def measure(
    labels: IntArray, weights: FloatArray, scores: Mapping[str, npt.NDArray[np.floating]], config: EvaluationConfig
) -> Performance:
    """Measure every model, then again on each resampling of the events.

    Args:
        labels: (events,).
        weights: (events,).
        scores: Model → (events, classes).
        config: Working points and bootstrap.
    """
    targets = np.concatenate([config.working_points, ROC_GRID])
    evaluator = metrics.Evaluator(labels, scores, targets)
    resampled = []
    for done, measurement in enumerate(evaluator.bootstrap(weights, config.bootstrap_samples, config.seed), start=1):
        resampled.append(measurement)
        if done % 50 == 0 or done == config.bootstrap_samples:
            logger.info("bootstrap: %d of %d resamplings", done, config.bootstrap_samples)
    nominal = evaluator.measure(weights)
    return Performance(tuple(scores), config.working_points, nominal, metrics.stack(resampled), evaluator)


def summarise_test_events(
    labels: IntArray, weights: FloatArray, stored: npt.NDArray[np.floating]
) -> dict[str, dict[str, float]]:
    """Sample → number of test events, their summed weight, its negative share, and the effective number of events.

    Args:
        labels: (events,).
        weights: (events,) as they count.
        stored: (events,) as the shards hold them, for the last two: they say so of a class that counts nothing, too.
    """
    sums = {sample: WeightSums.of(stored[labels == label].tolist()) for sample, label in schema.LABELS.items()}
    return {
        sample: {
            "events": int((labels == schema.LABELS[sample]).sum()),
            "weight": math.fsum(weights[labels == schema.LABELS[sample]]),
            "negative_share": of_class.negative_share,
            "effective_events": of_class.effective_events,
        }
        for sample, of_class in sums.items()
    }


def summarise_models(
    performance: Performance,
    labels: IntArray,
    weights: FloatArray,
    scores: Mapping[str, npt.NDArray[np.floating]],
) -> dict[str, dict[str, Any]]:
    """Model → its AUCs, accuracy, working points and confusion matrices, ready for JSON (undefined values are None)."""
    return {
        model: {
            **_summarise(performance.nominal, performance.resampled, place),
            "working_points": {
                sample: _working_points(performance, place, label, labels == label, weights)
                for sample, label in schema.LABELS.items()
            },
            "confusion": _confusion(labels, weights, scores[model]),
        }
        for place, model in enumerate(performance.models)
    }


def summarise_differences(performance: Performance) -> list[dict[str, Any]]:
    """AUC and accuracy of each model less those of each model before it, with the errors of paired resamplings."""
    pairs = itertools.combinations(range(len(performance.models)), 2)
    return [
        {
            "model": performance.models[after],
            "reference": performance.models[before],
            **_summarise(
                _difference(performance.nominal, after, before, axis=0),
                _difference(performance.resampled, after, before, axis=1),
                0,
            ),
        }
        for before, after in pairs
    ]


def _difference(measurement: Measurement, after: int, before: int, axis: int) -> Measurement:
    def subtract(values: FloatArray) -> FloatArray:
        return values.take([after], axis) - values.take([before], axis)

    return Measurement(*(subtract(values) for values in vars(measurement).values()))


def _summarise(nominal: Measurement, resampled: Measurement, place: int) -> dict[str, Any]:
    auc_error = metrics.standard_error(resampled.auc)[place]
    accuracy_error = metrics.standard_error(resampled.accuracy)[place]
    return {
        "auc": {
            sample: _with_error(nominal.auc[place, label], auc_error[label]) for sample, label in schema.LABELS.items()
        },
        "accuracy": _with_error(nominal.accuracy[place], accuracy_error),
    }


def _with_error(value: float, error: float) -> dict[str, float | None]:
    return {"value": _number(value), "error": _number(error)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _working_points(
    performance: Performance, place: int, label: int, is_positive: BoolArray, weights: FloatArray
) -> list[dict[str, float | None]]:
    ranking = performance.evaluator.rankings[place][label]
    roc = metrics.roc_curve(ranking, weights)
    if not roc.is_defined:
        return []
    errors = metrics.standard_error(performance.resampled.false_positive_rate)[place, label]
    limit = metrics.rate_upper_limit(WeightSums.of(weights[~is_positive].tolist()).effective_events)
    points = metrics.working_point_index(roc, np.asarray(performance.working_points))
    return [
        {
            "target": target,
            "threshold": float(ranking.thresholds[point - 1]),
            "true_positive_rate": float(roc.true_positive_rate[point]),
            "false_positive_rate": float(roc.false_positive_rate[point]),
            "error": _number(errors[position]),
            "upper_limit_95": limit if roc.false_positive_rate[point] == 0 else None,
        }
        for position, (target, point) in enumerate(zip(performance.working_points, points, strict=True))
    ]


def _confusion(labels: IntArray, weights: FloatArray, scores: npt.NDArray[np.floating]) -> dict[str, list[list[float]]]:
    predicted = scores.argmax(axis=1)
    return {
        "events": metrics.confusion_matrix(labels, predicted, np.ones(len(labels)), scores.shape[1]).tolist(),
        "weights": metrics.confusion_matrix(labels, predicted, weights, scores.shape[1]).tolist(),
    }
