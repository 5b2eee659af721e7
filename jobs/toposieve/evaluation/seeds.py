"""The error of training: runs that differ in their seed alone, and how far their results spread."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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
