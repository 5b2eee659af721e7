"""How well the models do on the test events: the numbers of the report, with their bootstrap errors."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from toposieve.config import EvaluationConfig
from toposieve.evaluation import calibration, metrics, rates, working_points
from toposieve.evaluation.metrics import FloatArray, IntArray, Measurement
from toposieve.weights import WeightSums

ROC_GRID = np.linspace(0.5, 1.0, 201)
"""True-positive rates at which the ROC curves are drawn."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Events of one split with every model's scores."""

    labels: IntArray
    """(events,)."""
    weights: FloatArray
    """(events,) signed."""
    scores: Mapping[str, npt.NDArray[np.floating]]
    """Model → (events, classes)."""
    classes: tuple[str, ...]
    """Of the dataset, in the order of their labels."""


@dataclass(frozen=True)
class Performance:
    """Measured metrics of all models, and of every bootstrap resampling."""

    models: tuple[str, ...]
    classes: tuple[str, ...]
    """In the order of their labels."""
    config: EvaluationConfig
    hertz: FloatArray
    """(classes,) rate of each before any cut on scores; NaN where its cross-section is not known."""
    hertz_errors: FloatArray
    """(classes,) from those of the cross-sections; a configured one is exact."""
    thresholds: FloatArray
    """(models, classes, working points, then rate budgets), chosen on validation; NaN where there is none."""
    nominal: Measurement
    """Its targets are :data:`ROC_GRID`."""
    resampled: Measurement
    sums: tuple[WeightSums, ...]
    """Of each class's weights."""
    temperatures: FloatArray
    """(models,) that calibrate each best on validation."""

    def roc(self, model: str, label: int, background: int) -> tuple[FloatArray, FloatArray]:
        """Share of a background that passes, on :data:`ROC_GRID`: (201,), and of each resampling, (resamplings, 201).

        Args:
            model: Its name.
            label: The class that is wanted.
            background: Another class, or -1 for all others together.
        """
        place = self.models.index(model)
        return self.nominal.curve[place, label, :, background], self.resampled.curve[:, place, label, :, background]


def choose_thresholds(validation: Sample, hertz: FloatArray, config: EvaluationConfig) -> FloatArray:
    """Thresholds of every model for each class's working points and rate budgets, from validation events alone.

    Args:
        validation: The validation split.
        hertz: (classes,) rate of each before the cut; NaN where it is not known.
        config: Working points and budgets.

    Returns:
        (models, classes, working points + budgets); NaN where there is none.
    """
    labels, weights, targets = validation.labels, validation.weights, np.asarray(config.working_points)
    chosen = []
    for scores in validation.scores.values():
        budgets = [
            [rates.budget_threshold(labels, weights, scores[:, label], hertz, budget) for budget in config.rate_budgets]
            for label in range(len(validation.classes))
        ]
        chosen.append(np.hstack([metrics.choose_thresholds(labels, weights, scores, targets), budgets]))
    return np.stack(chosen)


def measure(
    validation: Sample,
    test: Sample,
    config: EvaluationConfig,
    cross_sections: Mapping[str, tuple[float, float] | None] = MappingProxyType({}),
) -> Performance:
    """Choose thresholds on validation and measure every model on test, then again on each resampling of its events.

    Args:
        validation: Scores of the same models.
        test: The events that all numbers are from.
        config: Working points, rates and bootstrap.
        cross_sections: Class → that of its selected events and its error, pb, where it is known; those of ``config``
            come first.
    """
    known = dict(cross_sections) | {sample: (value, 0.0) for sample, value in config.cross_sections.items()}
    picobarn = np.array([known.get(sample) or (np.nan, np.nan) for sample in test.classes])  # (classes, 2)
    hertz, hertz_errors = rates.process_rates(picobarn, config.luminosity).T
    thresholds = choose_thresholds(validation, hertz, config)
    evaluator = metrics.Evaluator(test.labels, test.scores, ROC_GRID, thresholds)
    resampled = []
    resamplings = evaluator.bootstrap(test.weights, config.bootstrap_samples, config.seed)
    for done, measurement in enumerate(resamplings, start=1):
        resampled.append(measurement)
        if done % 50 == 0 or done == config.bootstrap_samples:
            logger.info("bootstrap: %d of %d resamplings", done, config.bootstrap_samples)
    sums = tuple(WeightSums.of(test.weights[test.labels == label].tolist()) for label in range(len(test.classes)))
    nominal = evaluator.measure(test.weights)
    temperatures = [
        calibration.fit_temperature(calibration.as_logits(scores), validation.labels, validation.weights)
        for scores in validation.scores.values()
    ]
    return Performance(
        tuple(test.scores),
        test.classes,
        config,
        hertz,
        hertz_errors,
        thresholds,
        nominal,
        metrics.stack(resampled),
        sums,
        np.array(temperatures),
    )


def summarise_test_events(
    labels: IntArray, weights: FloatArray, stored: npt.NDArray[np.floating], classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Sample → number of test events, their summed weight, its negative share, and the effective number of events.

    Args:
        labels: (events,).
        weights: (events,) as they count.
        stored: (events,) as the shards hold them, for the last two: they say so of a class that counts nothing, too.
        classes: In the order of their labels.
    """
    of_class = {sample: labels == label for label, sample in enumerate(classes)}
    sums = {sample: WeightSums.of(stored[chosen].tolist()) for sample, chosen in of_class.items()}
    return {
        sample: {
            "events": int(chosen.sum()),
            "weight": math.fsum(weights[chosen]),
            "negative_share": sums[sample].negative_share,
            "effective_events": sums[sample].effective_events,
        }
        for sample, chosen in of_class.items()
    }


def summarise_models(performance: Performance, test: Sample) -> dict[str, dict[str, Any]]:
    """Model → its AUCs, accuracy, working points, rates and confusion matrices, ready for JSON (undefined is None)."""
    return {
        model: {
            **_summarise(performance.nominal, performance.resampled, place, performance.classes),
            "working_points": {
                sample: working_points.at_targets(performance, place, label)
                for label, sample in enumerate(performance.classes)
            },
            "rate_budgets": {
                sample: working_points.at_budgets(performance, place, label)
                for label, sample in enumerate(performance.classes)
            },
            "calibration": calibration.summarise(
                test.scores[model], test.labels, test.weights, performance.temperatures[place]
            ),
            "confusion": _confusion(test.labels, test.weights, test.scores[model]),
        }
        for place, model in enumerate(performance.models)
    }


def summarise_differences(performance: Performance) -> list[dict[str, Any]]:
    """AUC, accuracy and rates of each model less those of each before it, with the errors of paired resamplings."""
    pairs = itertools.combinations(range(len(performance.models)), 2)
    return [
        {
            "model": performance.models[after],
            "reference": performance.models[before],
            **_summarise(
                _difference(performance.nominal, after, before, axis=0),
                _difference(performance.resampled, after, before, axis=1),
                0,
                performance.classes,
            ),
            "working_points": {
                sample: working_points.differences(performance, after, before, label)
                for label, sample in enumerate(performance.classes)
            },
        }
        for before, after in pairs
    ]


def _difference(measurement: Measurement, after: int, before: int, axis: int) -> Measurement:
    def subtract(values: FloatArray) -> FloatArray:
        return values.take([after], axis) - values.take([before], axis)

    return Measurement(*(subtract(values) for values in vars(measurement).values()))


def _summarise(nominal: Measurement, resampled: Measurement, place: int, classes: Sequence[str]) -> dict[str, Any]:
    auc_error = metrics.standard_error(resampled.auc)[place]
    accuracy_error = metrics.standard_error(resampled.accuracy)[place]
    return {
        "auc": {
            sample: working_points.with_error(nominal.auc[place, label], auc_error[label])
            for label, sample in enumerate(classes)
        },
        "accuracy": working_points.with_error(nominal.accuracy[place], accuracy_error),
    }


def _confusion(labels: IntArray, weights: FloatArray, scores: npt.NDArray[np.floating]) -> dict[str, list[list[float]]]:
    predicted = scores.argmax(axis=1)
    return {
        "events": metrics.confusion_matrix(labels, predicted, np.ones(len(labels)), scores.shape[1]).tolist(),
        "weights": metrics.confusion_matrix(labels, predicted, weights, scores.shape[1]).tolist(),
    }
