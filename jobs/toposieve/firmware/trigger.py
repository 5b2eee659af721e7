"""What a trigger takes by the firmware's logits, beside what it takes by those of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toposieve.config import EvaluationConfig
from toposieve.evaluation import metrics, rates
from toposieve.io.scores import probabilities

_REPORT = EvaluationConfig()
TARGETS, LUMINOSITY = _REPORT.working_points, _REPORT.luminosity
"""Those of a report, unless it was told otherwise."""


@dataclass(frozen=True)
class Judged:
    """Events of a split, and what both say of them.

    Attributes:
        labels: (events,).
        weights: (events,).
        logits: Who says so → (events, classes).
    """

    labels: NDArray[np.int64]
    weights: NDArray[np.float64]
    logits: Mapping[str, NDArray[np.float64]]

    @property
    def scores(self) -> dict[str, NDArray[np.float32]]:
        """Who says so → probabilities, (events, classes)."""
        return {name: probabilities(each.astype(np.float32)) for name, each in self.logits.items()}


def working_points(
    validation: Judged,
    test: Judged,
    classes: Sequence[str],
    cross_sections: Mapping[str, tuple[float, float] | None],
) -> dict[str, list[dict[str, Any]]]:
    """What passes on test at the thresholds of validation, each of them of its own logits.

    Args:
        validation: What thresholds are chosen by.
        test: What passes, by the same names.
        classes: In the order of the labels.
        cross_sections: Class → that of its selected events and its error, pb; None where nobody knows.

    Returns:
        Class → for each target, by the names of who says so: the shares of this class and of all others that pass, and
        Hz of all processes together. None stands for what is not known.
    """
    chosen = [
        metrics.choose_thresholds(validation.labels, validation.weights, each, np.asarray(TARGETS))
        for each in validation.scores.values()
    ]
    evaluator = metrics.Evaluator(test.labels, test.scores, TARGETS, np.stack(chosen))
    passing = evaluator.measure(test.weights).passing  # (models, classes, targets, classes + 1)
    picobarn = np.array([(cross_sections[name] or (np.nan,))[0] for name in classes])
    hertz = rates.total_rate(passing[..., :-1], rates.process_rates(picobarn, LUMINOSITY))
    return {
        name: [
            {"target": target}
            | {
                model: {
                    "true_positive_rate": metrics.number(passing[place, label, key, label]),
                    "false_positive_rate": metrics.number(passing[place, label, key, -1]),
                    "hertz": metrics.number(hertz[place, label, key]),
                }
                for place, model in enumerate(test.logits)
            }
            for key, target in enumerate(TARGETS)
        ]
        for label, name in enumerate(classes)
    }
