"""What passes at the thresholds that validation gave, for JSON: efficiencies, backgrounds one by one, and hertz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from toposieve.evaluation import intervals, rates
from toposieve.evaluation.metrics import FloatArray, number, standard_error
from toposieve.weights import WeightSums

if TYPE_CHECKING:
    from toposieve.evaluation.performance import Performance

THE_REST = -1
"""Place of all backgrounds together among the classes."""


def with_error(value: float, error: float) -> dict[str, float | None]:
    """A value with its error; None where it is undefined."""
    return {"value": number(value), "error": number(error)}


def at_targets(performance: Performance, place: int, label: int) -> list[dict[str, Any]]:
    """Of each true-positive rate that is wanted: the threshold, and what passes it on test.

    ``true_positive_rate`` is what test keeps, with ``true_positive_error``; the threshold is for ``target`` on
    validation. ``false_positive_rate`` is that of all backgrounds together, each process has its own in ``background``.
    """
    points = ((key, {"target": target}) for key, target in enumerate(performance.config.working_points))
    return [
        aim | _point(performance, place, label, key)
        for key, aim in points
        if np.isfinite(performance.thresholds[place, label, key])
    ]


def at_budgets(performance: Performance, place: int, label: int) -> list[dict[str, Any]]:
    """Of each rate budget: the same; with no threshold, and nothing else, where none meets it or rates are unknown."""
    start = len(performance.config.working_points)
    points = []
    for key, budget in enumerate(performance.config.rate_budgets, start):
        met = np.isfinite(performance.thresholds[place, label, key])
        points.append({"budget": budget, "threshold": None} | (_point(performance, place, label, key) if met else {}))
    return points


def differences(performance: Performance, after: int, before: int, label: int) -> list[dict[str, Any]]:
    """False-positive rates of one model less those of another at each target, with the errors of paired resamplings."""
    nominal, resampled = performance.nominal.passing[:, label], performance.resampled.passing[:, :, label]
    value = nominal[after] - nominal[before]  # (thresholds, classes + 1)
    error = standard_error(resampled[:, after] - resampled[:, before])
    return [
        {
            "target": target,
            "background": {
                sample: with_error(value[key, other], error[key, other])
                for sample, other in _backgrounds(performance, label)
            },
        }
        for key, target in enumerate(performance.config.working_points)
    ]


def _backgrounds(performance: Performance, label: int) -> list[tuple[str, int]]:
    return [(sample, other) for other, sample in enumerate(performance.classes) if other != label]


def _point(performance: Performance, place: int, label: int, key: int) -> dict[str, Any]:
    backgrounds = _backgrounds(performance, label)
    passing = performance.nominal.passing[place, label, key]  # (classes + 1,)
    resampled = performance.resampled.passing[:, place, label, key]  # (resamplings, classes + 1)
    sums = [*performance.sums, WeightSums.merge(performance.sums[other] for _, other in backgrounds)]
    return {
        "threshold": float(performance.thresholds[place, label, key]),
        "true_positive_rate": number(float(passing[label])),
        "true_positive_error": number(float(standard_error(resampled)[label])),
        **_false_positives(passing, resampled, sums, THE_REST),
        "background": {sample: _false_positives(passing, resampled, sums, other) for sample, other in backgrounds},
        "rate": _rate(passing[:-1], resampled[:, :-1], performance),
    }


def _false_positives(passing: FloatArray, resampled: FloatArray, sums: list[WeightSums], of: int) -> dict[str, Any]:
    """Rate, error and interval of what passes of one column, and how many events there are for each that passes."""
    rate, samples = float(passing[of]), resampled[:, of]
    return {
        "false_positive_rate": number(rate),
        "error": number(float(standard_error(samples))),
        "interval": intervals.rate_interval(rate, samples, sums[of]),
        "upper_limit_95": intervals.upper_limit(rate, sums[of]),
        "rejection": 1 / rate if rate > 0 else None,
    }


def _rate(passing: FloatArray, resampled: FloatArray, performance: Performance) -> dict[str, Any]:
    """Hz of each process and of all; ``error`` is that of the test sample, apart from those of the cross-sections."""
    hertz = performance.hertz
    total = rates.total_rate(passing, hertz)
    of_cross_sections = np.sqrt(np.sum((passing * performance.hertz_errors) ** 2))
    error = standard_error(rates.total_rate(resampled, hertz))
    return {
        "total": with_error(float(total), float(error)) | {"cross_section_error": number(float(of_cross_sections))},
        "processes": {name: number(passing[label] * hertz[label]) for label, name in enumerate(performance.classes)},
    }
