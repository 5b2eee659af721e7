"""The report's plots of how well the models do. Each function draws one figure from numbers and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from toposieve import schema
from toposieve.evaluation.distributions import FEATURE_SYMBOLS
from toposieve.evaluation.intervals import ONE_SIGMA
from toposieve.evaluation.metrics import FloatArray
from toposieve.evaluation.performance import ROC_GRID, Performance
from toposieve.evaluation.rates import total_rate
from toposieve.evaluation.reference import PUBLISHED
from toposieve.evaluation.slices import FEWEST
from toposieve.evaluation.style import (
    CLASS_COLOURS,
    CLASS_LABELS,
    feature_label,
    figure_legend,
    model_label,
    model_style,
    panels,
)

COLUMNS = 3
"""Panels side by side where each model has one."""


def auc_summary(metrics: Mapping[str, Any]) -> Figure:
    """AUC of each model with its error, one panel for each class, the published values beside."""
    published = {result.counterpart: result.auc for result in PUBLISHED}
    figure, axes = panels(1, len(metrics["classes"]), 1.4 + 0.4 * len(metrics["models"]), sharey=True)
    for sample, axis in zip(metrics["classes"], axes, strict=True):
        for place, (model, values) in enumerate(metrics["models"].items()):
            _auc_point(axis, place, values["auc"][sample], CLASS_COLOURS[sample])
            if reference := published.get(model, {}).get(sample):
                axis.plot(reference, place, "d", markersize=7, color="0.45", markerfacecolor="none")
        axis.set_title(f"{CLASS_LABELS[sample]} against the rest")
        axis.set_xlabel("area under the ROC curve")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.margins(x=0.12)
        axis.grid(axis="x")
        axis.tick_params(axis="y", which="minor", left=False, right=False)
    axes[0].set_yticks(range(len(metrics["models"])), [model_label(model) for model in metrics["models"]])
    axes[0].set_ylim(len(metrics["models"]) - 0.4, -0.6)  # first model on top
    figure.legend(
        handles=[Line2D([], [], linestyle="", **style) for style in _AUC_KEY], loc="outside upper center", ncols=2
    )
    return figure


_AUC_KEY: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": "0.2", "label": "this report"},
    {"marker": "d", "color": "0.45", "markerfacecolor": "none", "markersize": 7, "label": "published, another sample"},
)


def _auc_point(axis: Axes, place: int, quantity: Mapping[str, float | None], colour: str) -> None:
    if quantity["value"] is not None:
        axis.errorbar(quantity["value"], place, xerr=quantity["error"] or 0.0, fmt="o", color=colour, capsize=2)


def roc_curves(performance: Performance) -> Figure:
    """False-positive rate (log) against true-positive rate, a panel for each class and background, every model."""
    pairs = [(wanted, other) for wanted in schema.SAMPLES for other in schema.SAMPLES if other != wanted]
    rates = performance.nominal.curve[..., :-1]
    smallest = float(np.min(rates[rates > 0], initial=0.1))
    figure, axes = panels(len(schema.SAMPLES), len(schema.SAMPLES) - 1, 3.6, sharex=True, sharey=True)
    for (wanted, other), axis in zip(pairs, axes, strict=True):
        label, background = schema.LABELS[wanted], schema.LABELS[other]
        for place, model in enumerate(performance.models):
            _roc_curve(axis, *performance.roc(model, label, background), model_label(model), model_style(place))
            _roc_points(axis, performance, place, label, background)
        title = f"{CLASS_LABELS[wanted]} against {CLASS_LABELS[other]}"
        axis.set(xlim=(ROC_GRID[0], ROC_GRID[-1]), yscale="log", ylim=(0.6 * smallest, 1), title=title)
        axis.grid()
    _label_edges(axes, len(schema.SAMPLES) - 1, "true-positive rate (efficiency)", "false-positive rate")
    figure_legend(figure, axes[0], columns=min(len(performance.models), 5))
    return figure


def _label_edges(axes: Sequence[Axes], columns: int, below: str, left: str) -> None:
    for axis in axes[-columns:]:
        axis.set_xlabel(below)
    for axis in axes[::columns]:
        axis.set_ylabel(left)


def _roc_curve(axis: Axes, rate: FloatArray, resampled: FloatArray, name: str, style: dict[str, Any]) -> None:
    defined = resampled[np.isfinite(resampled).all(axis=1)]
    if len(defined) > 1:
        low, high = np.quantile(defined, ONE_SIGMA, axis=0)
        axis.fill_between(ROC_GRID, low, high, color=style["color"], alpha=0.18, linewidth=0)
    shown = np.where(rate > 0, rate, np.nan)  # no event passes: nothing to show on a log axis
    axis.plot(ROC_GRID, shown, **{**style, "marker": ""}, label=name)


def _roc_points(axis: Axes, performance: Performance, place: int, label: int, background: int) -> None:
    passing = performance.nominal.passing[place, label, : len(performance.config.working_points)]
    rates = np.where(passing[:, background] > 0, passing[:, background], np.nan)
    axis.plot(passing[:, label], rates, **{**model_style(place), "linestyle": ""}, clip_on=False)


def rate_curves(performance: Performance) -> Figure:
    """Rate of all processes together (log, Hz) against the efficiency for each class, with the budgets as lines."""
    figure, axes = panels(1, len(schema.SAMPLES), 3.9, sharey=True)
    for (sample, label), axis in zip(schema.LABELS.items(), axes, strict=True):
        for place, model in enumerate(performance.models):
            hertz = total_rate(performance.nominal.curve[place, label, :, :-1], performance.hertz)
            axis.plot(ROC_GRID, hertz, **{**model_style(place), "marker": ""}, label=model_label(model))
        for budget in performance.config.rate_budgets:
            axis.axhline(budget, color="0.6", linestyle=":", linewidth=1)
        axis.set(xlim=(ROC_GRID[0], ROC_GRID[-1]), yscale="log", title=f"kept for {CLASS_LABELS[sample]}")
        axis.grid()
    _label_edges(axes, len(schema.SAMPLES), "true-positive rate (efficiency)", "rate of all processes [Hz]")
    figure_legend(figure, axes[0], columns=min(len(performance.models), 5))
    return figure


def stability(metrics: Mapping[str, Any]) -> Figure:
    """Efficiency for each class at its first working point, in slices: a row of panels for each quantity."""
    slices, classes = metrics["slices"], metrics["classes"]
    figure, axes = panels(max(1, len(slices)), len(classes), 2.9, sharey="row")
    cells = [(quantity, sample) for quantity in slices for sample in classes]
    for (quantity, sample), axis in zip(cells, axes, strict=False):
        for place, model in enumerate(metrics["models"]):
            if sample in metrics["models"][model]["stability"]:
                _efficiencies(axis, metrics["models"][model]["stability"][sample][quantity][sample], place, model)
        names = slices[quantity]
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
        axis.tick_params(axis="x", which="minor", bottom=False, top=False)
        axis.set(
            title=f"{CLASS_LABELS[sample]} kept",
            xlabel=feature_label(quantity, FEATURE_SYMBOLS.get(quantity, quantity)),
        )
        axis.grid(axis="y")
    for axis in axes[:: len(classes)]:
        axis.set_ylabel("efficiency")
    figure_legend(figure, axes[0], columns=min(len(metrics["models"]), 5))
    return figure


def _efficiencies(axis: Axes, measured: Mapping[str, Sequence[float | None]], place: int, model: str) -> None:
    share, low, high = (np.array(measured[key], np.float64) for key in ("share", "low", "high"))
    shift = 0.08 * place  # so that error bars stand side by side
    style = {**model_style(place), "linestyle": ""}
    ends = np.abs([share - low, high - share])
    axis.errorbar(np.arange(len(share)) + shift, share, yerr=ends, **style, label=model_label(model))


def reliability(metrics: Mapping[str, Any]) -> Figure:
    """How often the likeliest class is right against its probability, as trained and with the fitted temperature."""
    figure, axes = panels(1, 2, 4.2, sharex=True, sharey=True)
    for axis, (key, title) in zip(axes, _CALIBRATIONS.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        for place, (model, values) in enumerate(metrics["models"].items()):
            measured = values["calibration"][key]
            confidence, accuracy, events = (
                np.array(measured[name], np.float64) for name in ("confidence", "accuracy", "events")
            )
            accuracy[events < FEWEST] = np.nan
            axis.plot(confidence, accuracy, **model_style(place), label=model_label(model))
        axis.set(title=title, xlabel="probability of the likeliest class", xlim=(1 / len(metrics["classes"]), 1))
        axis.grid()
    axes[0].set(ylabel="how often it is right", ylim=(0, 1))
    figure_legend(figure, axes[0], columns=min(len(metrics["models"]), 5))
    return figure


_CALIBRATIONS = {"as_trained": "as trained", "with_temperature": "with the temperature fitted on validation"}


def confusion_matrices(metrics: Mapping[str, Any]) -> Figure:
    """Share of each true class's weight that a model assigns to each class."""
    figure, axes = _panel_each(metrics["models"], 3.7)
    names = [CLASS_LABELS[sample] for sample in metrics["classes"]]
    for (model, values), axis in zip(metrics["models"].items(), axes, strict=False):
        weights = np.array(values["confusion"]["weights"])
        totals = weights.sum(axis=1, keepdims=True)
        shares = np.divide(weights, totals, out=np.full_like(weights, np.nan), where=totals > 0)
        _heat_map(axis, shares, np.array(values["confusion"]["events"]))
        axis.set(title=model_label(model), xlabel="predicted class")
        axis.set_xticks(range(len(names)), names)
        axis.set_yticks(range(len(names)), names)
        axis.tick_params(which="both", length=0)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("true class")
    return figure


def _panel_each(models: Mapping[str, Any], height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    figure, axes = panels(math.ceil(len(models) / COLUMNS), COLUMNS, height, **options)
    for axis in axes[len(models) :]:
        axis.set_axis_off()
    return figure, axes


def _heat_map(axis: Axes, shares: FloatArray, events: FloatArray) -> None:
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else "black"
        text = f"{100 * share:.1f} %" if np.isfinite(share) else "n/a"
        axis.text(column, row, text, ha="center", va="bottom", color=colour)
        axis.text(column, row + 0.08, f"{events[row, column]:,.0f}", ha="center", va="top", color=colour, fontsize=9)


def learning_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss against epoch, training and validation, one panel for each model.

    Args:
        histories: Model → name ("loss", "validation_loss") → value after each epoch.
    """
    figure, axes = _panel_each(histories, 3.4, sharey=True)
    for place, ((model, history), axis) in enumerate(zip(histories.items(), axes, strict=False)):
        colour = model_style(place)["color"]
        _learning_curve(axis, history.get("loss", ()), "training", {"linestyle": "--", "marker": "", "color": colour})
        _learning_curve(
            axis, history.get("validation_loss", ()), "validation", {"linestyle": "-", "marker": "o", "color": colour}
        )
        axis.set(title=model_label(model), xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.xaxis.set_minor_locator(MaxNLocator(1))
        axis.legend()
        axis.grid()
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("cross-entropy per event")
    return figure


def _learning_curve(axis: Axes, losses: Sequence[float], label: str, style: dict[str, Any]) -> None:
    axis.plot(range(1, len(losses) + 1), losses, label=label, **style)
