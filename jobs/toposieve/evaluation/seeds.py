"""The error of training: runs that differ in their seed alone, and how far their results spread."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np


def seed_groups(configurations: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Labels of the runs that are one model and configuration but for the seed, where there are two or more.

    Args:
        configurations: Label → the run's configuration, its model included.

    >>> seed_groups({"a": {"model": "hlf", "seed": 1}, "b": {"model": "hlf", "seed": 2}, "c": {"model": "gru"}})
    [['a', 'b']]
    """
    groups: dict[str, dict[Any, str]] = {}
    for label, configuration in configurations.items():
        rest = {key: value for key, value in configuration.items() if key != "seed"}
        of_seeds = groups.setdefault(json.dumps(rest, sort_keys=True), {})
        of_seeds.setdefault(configuration.get("seed"), label)  # one run under two labels is no second seed
    return [list(labels.values()) for labels in groups.values() if len(labels) > 1]


def spread(values: Sequence[float | None]) -> float | None:
    """Standard deviation of a quantity over seeds; None with less than two that are defined.

    >>> spread([1.0, 3.0, None])
    1.4142135623730951
    """
    defined = [value for value in values if value is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def in_quadrature(*errors: float | None) -> float | None:
    """Independent errors together; None where one is not known.

    >>> in_quadrature(3.0, 4.0)
    5.0
    """
    return None if None in errors else math.hypot(*(error for error in errors if error is not None))


def summarise(models: Mapping[str, Mapping[str, Any]], groups: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Mean and spread of every result of each group, for JSON.

    Args:
        models: Label → its AUCs, accuracy and working points, as ``metrics.json`` has them.
        groups: Labels of the seeds of one model and configuration.
    """
    return [
        {
            "labels": list(labels),
            "auc": {
                sample: _mean_and_spread([models[label]["auc"][sample]["value"] for label in labels])
                for sample in models[labels[0]]["auc"]
            },
            "accuracy": _mean_and_spread([models[label]["accuracy"]["value"] for label in labels]),
            "false_positive_rate": _rates_over(models, labels),
        }
        for labels in groups
    ]


def _rates_over(models: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Class → of each working point: background → mean and spread of what passes of it."""
    points = [models[label]["working_points"] for label in labels]
    return {
        sample: [
            {
                "target": of_seeds[0]["target"],
                **{
                    other: _mean_and_spread([point["background"][other]["false_positive_rate"] for point in of_seeds])
                    for other in of_seeds[0]["background"]
                },
            }
            for of_seeds in zip(*(of[sample] for of in points), strict=True)
        ]
        for sample in points[0]
    }


def _mean_and_spread(values: Sequence[float | None]) -> dict[str, float | None]:
    defined = [value for value in values if value is not None]
    return {"mean": float(np.mean(defined)) if defined else None, "spread": spread(values)}


def with_training_errors(
    differences: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Differences between single runs with the error of training, and both errors in quadrature.

    Args:
        differences: As :func:`toposieve.evaluation.performance.summarise_differences` gives them.
        groups: As :func:`summarise` gives them; a run in none of them has no known error.
    """
    group_of = {label: group for group in groups for label in group["labels"]}
    return [
        _with_training_error(one, group_of.get(one["model"]), group_of.get(one["reference"])) for one in differences
    ]


def _with_training_error(
    difference: Mapping[str, Any], group: Mapping[str, Any] | None, reference: Mapping[str, Any] | None
) -> dict[str, Any]:
    def with_total(measured: Mapping[str, Any], find: Callable[[Mapping[str, Any]], float | None]) -> dict[str, Any]:
        training = in_quadrature(*(None if of is None else find(of) for of in (group, reference)))
        return {**measured, "training_error": training, "total_error": in_quadrature(measured["error"], training)}

    return {
        **difference,
        "auc": {
            sample: with_total(measured, partial(_area_spread, sample))
            for sample, measured in difference["auc"].items()
        },
        "accuracy": with_total(difference["accuracy"], lambda of: of["accuracy"]["spread"]),
        "working_points": {
            sample: [
                {
                    **point,
                    "background": {
                        other: with_total(measured, partial(_rate_spread, sample, point["target"], other))
                        for other, measured in point["background"].items()
                    },
                }
                for point in points
            ]
            for sample, points in difference["working_points"].items()
        },
    }


def _area_spread(sample: str, group: Mapping[str, Any]) -> float | None:
    spread_of: float | None = group["auc"][sample]["spread"]
    return spread_of


def _rate_spread(sample: str, target: float, other: str, group: Mapping[str, Any]) -> float | None:
    points = group["false_positive_rate"][sample]  # none where no threshold was found
    return next((point[other]["spread"] for point in points if point["target"] == target), None)
