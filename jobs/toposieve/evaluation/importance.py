"""What each model loses where a feature, or a kind of particle, says nothing of its event: permutation importance.

The loss is a difference on the same events, before and after the exchange (:mod:`toposieve.permutation`), and its error
that of resamplings of these events: whom an event is given something of is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toposieve.config import EvaluationConfig
from toposieve.evaluation.distributions import FEATURE_SYMBOLS
from toposieve.evaluation.metrics import Evaluator, FloatArray, IntArray, Measurement, stack, standard_error
from toposieve.evaluation.page import Section, Table
from toposieve.evaluation.performance import Sample
from toposieve.evaluation.style import CLASS_COLOURS, CLASS_LABELS, model_label, panels
from toposieve.evaluation.table import format_value
from toposieve.evaluation.working_points import with_error
from toposieve.io.scores import PermutedScores, probabilities

RESAMPLINGS = 50
"""Most, behind each error: enough for a tenth of it."""


def summarise(
    sample: Sample, permuted: Mapping[str, PermutedScores | None], config: EvaluationConfig
) -> dict[str, dict[str, Any]]:
    """Label → how many events were tried, and what each exchange costs, for JSON; without labels that were not tried.

    ``exchanged`` has, of each feature and kind of particle, by class ``auc``: the AUC before less that after, and
    ``rejection``: for each background, events for each that passes at the first working point, before less after.

    Args:
        sample: The test split, with scores as they are.
        permuted: Label → scores after each exchange; None where there are none.
        config: Working points and bootstrap.
    """
    return {
        label: {
            "events": len(found.rows),
            "target": config.working_points[0],
            "exchanged": measure(
                sample.labels[found.rows],
                sample.weights[found.rows],
                sample.scores[label][found.rows],
                {name: probabilities(logits) for name, logits in found.logits.items()},
                sample.classes,
                config,
            ),
        }
        for label, found in permuted.items()
        if found is not None
    }


def measure(
    labels: IntArray,
    weights: FloatArray,
    scores: npt.NDArray[np.floating],
    permuted: Mapping[str, npt.NDArray[np.floating]],
    classes: Sequence[str],
    config: EvaluationConfig,
) -> dict[str, dict[str, Any]]:
    """What each exchange costs, as :func:`summarise` describes it.

    Args:
        labels: (events,).
        weights: (events,) signed.
        scores: (events, classes), before.
        permuted: What is exchanged → (events, classes), after.
        classes: In the order of their labels.
        config: Working points and bootstrap.
    """
    none = np.empty((1 + len(permuted), scores.shape[1], 0))
    evaluator = Evaluator(labels, {"": scores, **permuted}, config.working_points[:1], none)
    samples = min(config.bootstrap_samples, RESAMPLINGS)
    nominal = evaluator.measure(weights)
    resampled = stack(list(evaluator.bootstrap(weights, samples, config.seed)))
    auc = _losses(nominal.auc, resampled.auc)
    rejection = _losses(_rejection(nominal), _rejection(resampled))
    return {
        name: {
            "auc": {sample: with_error(*auc[:, place, label]) for label, sample in enumerate(classes)},
            "rejection": {
                sample: {
                    other: with_error(*rejection[:, place, label, background])
                    for background, other in enumerate(classes)
                    if other != sample
                }
                for label, sample in enumerate(classes)
            },
        }
        for place, name in enumerate(permuted)
    }


def _losses(nominal: FloatArray, resampled: FloatArray) -> FloatArray:
    """Before less after, and the error of that: (2, exchanges, classes, ...)."""
    error = standard_error(resampled[:, :1] - resampled[:, 1:])
    return np.stack([nominal[:1] - nominal[1:], error])


def _rejection(measured: Measurement) -> FloatArray:
    """Events of each process for each that passes, (..., classes, classes + 1); NaN where none does."""
    rate = measured.curve[..., 0, :]
    return np.divide(1.0, rate, out=np.full_like(rate, np.nan), where=rate > 0)


def draw_importances(metrics: Mapping[str, Any]) -> Figure:
    """What each model's AUC for each class loses by each exchange: a row of panels for each model that was tried."""
    found, classes = metrics["importance"], metrics["classes"]
    figure, axes = panels(len(found), len(classes), 1.0 + 0.22 * MOST_BARS)
    cells = [(label, sample) for label in found for sample in classes]
    for (label, sample), axis in zip(cells, axes, strict=True):
        _draw(axis, found[label]["exchanged"], sample)
        axis.set_xlabel(f"loss of AUC of {model_label(label)}, {CLASS_LABELS[sample]}")
    return figure


MOST_BARS = 10
"""Of each model and class, the exchanges that lose most."""


def _draw(axis: Axes, exchanged: Mapping[str, Any], sample: str) -> None:
    losses = {name: of["auc"][sample] for name, of in exchanged.items()}
    names = sorted(losses, key=lambda name: _or_zero(losses[name]["value"]))[-MOST_BARS:]  # the most important on top
    values = [_or_zero(losses[name]["value"]) for name in names]
    errors = [_or_zero(losses[name]["error"]) for name in names]
    axis.barh(range(len(names)), values, xerr=errors, color=CLASS_COLOURS[sample])
    axis.axvline(0, color="0.4", linewidth=1)
    axis.set_yticks(range(len(names)), [FEATURE_SYMBOLS.get(name, name) for name in names])
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.tick_params(axis="y", which="both", length=0)


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else value


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The report's part about it: the figure, and a table for each model; none where no model was tried."""
    classes = metrics["classes"]
    tables = [
        Table(
            f"AUC that {label} loses where others' values are given to {of['events']:,} test events",
            ["exchanged", *classes],
            [
                [name, *(format_value(losses["auc"][sample], "+") for sample in classes)]
                for name, losses in of["exchanged"].items()
            ],
        )
        for label, of in metrics["importance"].items()
    ]
    return [Section("importance", "What the models look at", plots=["importance"], tables=tables)] if tables else []
