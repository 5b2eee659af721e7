"""The report's plots of how well the models do. Each function draws one figure from numbers and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullLocator

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
    panel_label,
    panels,
)

COLUMNS = 3
"""Panels side by side where each model has one."""


def auc_summary(metrics: Mapping[str, Any]) -> Figure:
    """AUC of each model with its error, one panel for each class, the published values beside."""
    published = {result.counterpart: result.auc for result in PUBLISHED}
    figure, axes = panels(1, len(metrics["classes"]), 1.4 + 0.4 * len(metrics["models"]), sharey=True)
    for sample, axis in zip(metrics["classes"], axes, strict=True):
        for place, values in enumerate(metrics["models"].values()):
            _auc_point(axis, place, values["auc"][sample], CLASS_COLOURS[sample])
            if reference := published.get(values["model"], {}).get(sample):
                axis.plot(reference, place, "d", markersize=7, color="0.45", markerfacecolor="none")
        axis.set_xlabel(f"AUC, {CLASS_LABELS[sample]} against the rest")
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.margins(x=0.12)
        axis.grid(axis="x")
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


def rejection_curves(metrics: Mapping[str, Any], performance: Performance) -> Figure:
    """Rejection (log) against efficiency, every model, and below its ratio to the first model's.

    A pair of panels for each class and background. Markers are the working points; an arrow stands at the limit (95 %)
    where none of the background passes.
    """
    classes = performance.classes
    pairs = [(wanted, other) for wanted in classes for other in classes if other != wanted]
    figure, axes = panels(2 * len(classes), len(classes) - 1, 2.3, sharex=True, height_ratios=[3, 1] * len(classes))
    cells = np.reshape(np.array(axes), (len(classes), 2, -1)).swapaxes(1, 2).reshape(-1, 2)
    rates = performance.nominal.curve[..., :-1]
    top = 3 / float(np.min(rates[rates > 0], initial=0.1))
    for (wanted, other), (axis, below) in zip(pairs, cells, strict=True):
        label, background = classes.index(wanted), classes.index(other)
        first = _rejection(performance.roc(performance.models[0], label, background)[0])
        for place, model in enumerate(performance.models):
            style = model_style(place)
            rate, resampled = performance.roc(model, label, background)
            if len(performance.models) <= MOST_BANDS:
                _band(axis, resampled, style["color"], top)
            line = {**style, "marker": ""}
            axis.plot(ROC_GRID, _rejection(rate), **line, label=model_label(model))
            below.plot(ROC_GRID, _rejection(rate) / first, **line)
            points = metrics["models"][model]["working_points"][wanted]
            aside = 0.0012 * (place - (len(performance.models) - 1) / 2)  # or those at one limit would hide each other
            _rejection_points(axis, points, other, aside, {**style, "linestyle": ""})
        panel_label(axis, f"{CLASS_LABELS[wanted]} against {CLASS_LABELS[other]}", "lower left")
        axis.set(xlim=(ROC_GRID[0], ROC_GRID[-1]), yscale="log", ylim=(1, top))
        for each in (axis, below):
            each.grid()
    _ratio_axis(list(cells[:, 1]))
    for axis, below in cells[:: len(classes) - 1]:
        axis.set_ylabel("rejection (1 / false-positive rate)")
        below.set_ylabel("ratio to\nthe first", fontsize=9)
    for axis in axes[1 - len(classes) :]:
        axis.set_xlabel("efficiency (true-positive rate)")
    figure_legend(figure, axes[0], columns=min(len(performance.models), 5))
    return figure


MOST_BANDS = 4
"""Models up to which their rejection has a band; more would hide each other."""


def _ratio_axis(axes: Sequence[Axes]) -> None:
    """The same limits for all, which hold every curve that is not more than a factor of 50 away."""
    ratios = np.concatenate([line.get_ydata() for axis in axes for line in axis.lines])
    low, high = np.nanmin(ratios, initial=0.6), np.nanmax(ratios, initial=1.7)
    for axis in axes:
        axis.set(yscale="log", ylim=(max(low, 0.02) / 1.3, min(high, 50) * 1.3))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 50 else (1, 3)))
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.tick_params(axis="y", labelsize=8.5)


def _rejection(rate: FloatArray) -> FloatArray:
    """NaN where nothing passes."""
    return np.divide(1, rate, out=np.full_like(rate, np.nan), where=rate > 0)


def _band(axis: Axes, resampled: FloatArray, colour: str, top: float) -> None:
    """The middle 68 % of the resamplings, up to the top where nothing passes in so many."""
    defined = resampled[np.isfinite(resampled).all(axis=1)]
    if len(defined) > 1:
        low, high = np.maximum(np.quantile(defined, ONE_SIGMA, axis=0), 1 / (10 * top))
        axis.fill_between(ROC_GRID, 1 / high, 1 / low, color=colour, alpha=0.18, linewidth=0)


def _rejection_points(
    axis: Axes, points: Sequence[Mapping[str, Any]], background: str, aside: float, style: dict[str, Any]
) -> None:
    for point in points:
        measured, place = point["background"][background], point["true_positive_rate"] + aside
        if measured["upper_limit_95"] is not None:
            least = 1 / measured["upper_limit_95"]
            axis.errorbar(place, least, yerr=0.8 * least, lolims=True, **style)
        elif (rejection := measured["rejection"]) is not None:
            low, high = np.maximum(measured["interval"] or [1 / rejection] * 2, 1e-9)  # from 0: up to beyond the axis
            ends = np.maximum([[rejection - 1 / high], [1 / low - rejection]], 0)
            axis.errorbar(place, rejection, yerr=ends, **style)


def rate_curves(performance: Performance) -> Figure:
    """Rate of all processes together (log, Hz) against the efficiency for each class, with the budgets as lines."""
    figure, axes = panels(1, len(performance.classes), 3.9, sharey=True)
    for label, (sample, axis) in enumerate(zip(performance.classes, axes, strict=True)):
        for place, model in enumerate(performance.models):
            hertz = total_rate(performance.nominal.curve[place, label, :, :-1], performance.hertz)
            axis.plot(ROC_GRID, hertz, **{**model_style(place), "marker": ""}, label=model_label(model))
        for budget in performance.config.rate_budgets:
            axis.axhline(budget, color="0.6", linestyle=":", linewidth=1)
        axis.set(xlim=(ROC_GRID[0], ROC_GRID[-1]), yscale="log", xlabel=f"efficiency for {CLASS_LABELS[sample]}")
        axis.grid()
    axes[0].set_ylabel("rate of all processes [Hz]")
    figure_legend(figure, axes[0], columns=min(len(performance.models), 5))
    return figure


def stability(metrics: Mapping[str, Any]) -> Figure:
    """Efficiency for each class at its first working point, in slices: a row of panels for each quantity."""
    slices, classes = metrics["slices"], metrics["classes"]
    figure, axes = panels(max(1, len(slices)), len(classes), 2.4, sharey="row")
    cells = [(quantity, sample) for quantity in slices for sample in classes]
    for (quantity, sample), axis in zip(cells, axes, strict=False):
        for place, model in enumerate(metrics["models"]):
            if sample in metrics["models"][model]["stability"]:
                shift = (place + 0.5) / len(metrics["models"]) - 0.5  # so that error bars stand side by side
                measured = metrics["models"][model]["stability"][sample][quantity][sample]
                _efficiencies(axis, measured, 0.8 * shift, place, model)
        names = slices[quantity]
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
        axis.set(
            xlabel=feature_label(quantity, FEATURE_SYMBOLS.get(quantity, quantity)),
            ylabel=f"{CLASS_LABELS[sample]} kept",
            xlim=(-0.5, len(names) - 0.5),
        )
        axis.margins(y=0.1)
        axis.grid(axis="y")
    figure_legend(figure, axes[0], columns=min(len(metrics["models"]), 5))
    return figure


def _efficiencies(
    axis: Axes, measured: Mapping[str, Sequence[float | None]], shift: float, place: int, model: str
) -> None:
    share, low, high = (np.array(measured[key], np.float64) for key in ("share", "low", "high"))
    style = {**model_style(place), "linestyle": "", "markersize": 4}
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
        panel_label(axis, title, "upper left")
        axis.set(xlabel="probability of the likeliest class", xlim=(1 / len(metrics["classes"]), 1))
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
        axis.set_xlabel(f"predicted by {model_label(model)}")
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
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.legend(title=model_label(model))
        axis.grid()
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("cross-entropy per event")
    return figure


def _learning_curve(axis: Axes, losses: Sequence[float], label: str, style: dict[str, Any]) -> None:
    axis.plot(range(1, len(losses) + 1), losses, label=label, **style)
