"""What a trigger is chosen by, from ``metrics.json``: the report's first words, and its tables for that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toposieve.evaluation.page import Section, Table
from toposieve.evaluation.table import format_target, format_value

Metrics = Mapping[str, Any]
Excess = Mapping[str, float | None]
"""A difference of false-positive rates, and its error."""


def summary(metrics: Metrics) -> list[str]:
    """What to take from the page, in a few sentences: the best model, of each class too, and what limits all that."""
    best = _best(metrics["models"], lambda values: values["accuracy"]["value"])
    lines = []
    if best is not None:
        accuracy = format_value(metrics["models"][best]["accuracy"])
        lines.append(f"{best} puts most events into their class: accuracy {accuracy}.{_as_good(metrics, best)}")
    lines += [line for sample in metrics["classes"] if (line := _best_trigger(metrics, sample))]
    sample, least = min(((name, of["effective_events"]) for name, of in metrics["test"].items()), key=lambda of: of[1])
    if least > 0:
        lines.append(
            f"The fewest test events are those of {sample}, worth {least:,.0f}: a share of it below "
            f"about 1 in {math.ceil(least / 3):,} that passes cannot be seen."
        )
    if metrics["missing"]:
        lines.append(f"Not trained, and so not in this report: {', '.join(metrics['missing'])}.")
    return lines


def _best(models: Mapping[str, Metrics], figure: Callable[[Metrics], float | None]) -> str | None:
    """The model whose figure is largest, the first of equal ones; None where none has one."""
    figures = {model: value for model, values in models.items() if (value := figure(values)) is not None}
    return max(figures, key=lambda model: figures[model], default=None)


def _as_good(metrics: Metrics, best: str) -> str:
    """Models that are not below the best one by twice the error of the difference, which is that of training too."""
    alike = []
    for one in metrics["differences"]:
        found = one["accuracy"]
        error = _whole_error(found)
        if best in (one["model"], one["reference"]) and error and abs(found["value"]) < 2 * error:
            alike.append(one["reference"] if one["model"] == best else one["model"])
    if len(alike) == len(metrics["models"]) - 1 > 1:
        return " No other is below it by twice the error of their difference."
    return f" Less than twice the error of the difference below it: {', '.join(alike)}." if alike else ""


def _best_trigger(metrics: Metrics, sample: str) -> str:
    """The model that lets least through at the last working point of a class, and the best within the first budget."""
    target = _last_target(metrics)
    best = _best_at(metrics, sample, target)
    if best is None:
        return ""
    point = _points_at(metrics, sample, target)[best]
    passing = ", ".join(_one_in(of, name) for name, of in point["background"].items())
    keeping = f"To keep {100 * target:g} % of {sample}, {best} lets the least through: {passing}."
    alike = [
        model
        for model, excess in _excesses(metrics, sample, target, best).items()
        if all(of["value"] is None or of["error"] is None or of["value"] < 2 * of["error"] for of in excess.values())
    ]
    also = f" Not more by twice the error of the difference: {', '.join(alike)}." if alike else ""
    return keeping + also + _within_budget(metrics["models"], sample)


def _last_target(metrics: Metrics) -> float:
    """The largest true-positive rate that is asked for."""
    return float(max(metrics["configuration"]["evaluation"]["working_points"]))


def _points_at(metrics: Metrics, sample: str, target: float) -> dict[str, Metrics]:
    return {
        model: point
        for model, values in metrics["models"].items()
        for point in values["working_points"][sample]
        if point["target"] == target and point["false_positive_rate"] is not None
    }


def _best_at(metrics: Metrics, sample: str, target: float) -> str | None:
    return _best(_points_at(metrics, sample, target), lambda point: -point["false_positive_rate"])


def _excesses(metrics: Metrics, sample: str, target: float, best: str) -> dict[str, dict[str, Excess]]:
    """Every other model → background → how much more of it passes than by the best one, with its whole error."""
    found = {}
    for one in metrics["differences"]:
        if best in (one["model"], one["reference"]):
            other, sign = (one["model"], 1) if one["reference"] == best else (one["reference"], -1)
            [point] = (point for point in one["working_points"][sample] if point["target"] == target)
            found[other] = {name: _signed(of, sign) for name, of in point["background"].items()}
    return found


def _signed(difference: Metrics, sign: int) -> Excess:
    value = difference["value"]
    return {"value": None if value is None else sign * value, "error": _whole_error(difference)}


def _whole_error(difference: Metrics) -> float | None:
    """That of training, too, where seeds tell it."""
    error: float | None = difference.get("total_error") or difference["error"]
    return error


def _one_in(measured: Metrics, name: str) -> str:
    rate, limit = measured["false_positive_rate"], measured["upper_limit_95"]
    if limit is not None:
        return f"none of {name}, less than 1 in {1 / limit:,.0f} at 95 %"
    return f"1 in {1 / rate:.3g} of {name}" if rate else f"an unknown share of {name}"


def _within_budget(models: Mapping[str, Metrics], sample: str) -> str:
    first = {
        model: values["rate_budgets"][sample][0] for model, values in models.items() if values["rate_budgets"][sample]
    }
    best = _best(first, lambda point: point.get("true_positive_rate"))
    if best is None:
        return ""
    budget, kept = first[best]["budget"], first[best]["true_positive_rate"]
    return f" Within {budget:,.4g} Hz of everything, {best} keeps most of {sample}: {100 * kept:.1f} %."


WORKING_POINTS = (
    "A working point keeps a chosen share of one class (true-positive rate): events pass if their score is at or "
    "above a threshold, the tightest that keeps that share of the validation split; everything else is measured on "
    "the test split. What it lets through of another process is that one's false-positive rate: “1 in 20” means "
    "that one event in twenty passes, a rejection of 20. Brackets are 68 % intervals of it."
)


def working_points(metrics: Metrics) -> list[Table]:
    """Tables of each class: what its thresholds keep, and let through of each other process, also beyond the best."""
    tables = []
    for sample in metrics["classes"]:
        tables += [_points_for(metrics, sample), *_excess_for(metrics, sample)]
    return tables


def _excess_for(metrics: Metrics, sample: str) -> list[Table]:
    target = _last_target(metrics)
    best = _best_at(metrics, sample, target)
    excesses = _excesses(metrics, sample, target, best) if best else {}
    if not excesses:
        return []
    others = [name for name in metrics["classes"] if name != sample]
    rows = [[model, *(format_value(of[name], "+") for name in others)] for model, of in excesses.items()]
    caption = (
        f"What others let through more than {best} where {100 * target:g} % of {sample} are wanted: differences of "
        "false-positive rates, with the errors of the test sample, and of training where seeds tell it"
    )
    return [Table(caption, ["model", *others], rows)]


def _points_for(metrics: Metrics, sample: str) -> Table:
    others = [name for name in metrics["classes"] if name != sample]
    rows = [
        [
            model,
            format_target(point["target"]),
            *_kept(point),
            *(_background(point["background"][name]) for name in others),
        ]
        for model, values in metrics["models"].items()
        for point in values["working_points"][sample]
    ]
    header = [
        "model",
        "wanted",
        "threshold",
        "true-positive rate",
        *(f"false-positive rate, {name}" for name in others),
    ]
    return Table(f"Working points for {sample}", header, rows)


def _kept(point: Mapping[str, Any]) -> list[str]:
    kept = {"value": point["true_positive_rate"], "error": point["true_positive_error"]}
    return [f"{point['threshold']:.4g}", format_value(kept)]


def _background(measured: Mapping[str, Any]) -> str:
    rate, limit, interval = (measured[key] for key in ("false_positive_rate", "upper_limit_95", "interval"))
    if limit is not None:
        return f"0 (< {limit:.4f} at 95 %), none passes"
    if rate is None or interval is None:
        return "n/a"
    return f"{rate:.4f} [{interval[0]:.4f}, {interval[1]:.4f}], 1 in {1 / rate:.3g}" if rate > 0 else f"{rate:.4f}"


def rates(metrics: Metrics) -> Section:
    """Hertz within each budget, or what is missing to know them."""
    config, classes = metrics["configuration"]["evaluation"], metrics["classes"]
    unknown = [name for name, hertz in metrics["hertz"].items() if hertz is None]
    if unknown:
        note = (
            f"No rates: the cross-section of {', '.join(unknown)} is not known. Give it, in pb and of the selected "
            "events, as cross_sections of the evaluation."
        )
        return Section("rates", RATES_TITLE, notes=[note])
    before = ", ".join(f"{name} {hertz:,.3g}" for name, hertz in metrics["hertz"].items())
    points = [
        (model, sample, point)
        for model, values in metrics["models"].items()
        for sample in classes
        for point in values["rate_budgets"][sample]
    ]
    rows = [
        [model, sample, f"{point['budget']:,.4g}", *_within(point, classes)]
        for model, sample, point in points
        if point["threshold"] is not None
    ]
    unmet = [
        f"No threshold of {model} for {sample} stays within {point['budget']:,.4g} Hz."
        for model, sample, point in points
        if point["threshold"] is None
    ]
    header = ["model", "for", "at most [Hz]", "threshold", "true-positive rate", "all [Hz]"]
    caption = "Thresholds within rate budgets; errors are those of the test sample, then of the cross-sections"
    return Section(
        "rates",
        RATES_TITLE,
        notes=unmet,
        words=[f"At {config['luminosity']:.3g} cm⁻² s⁻¹, Hz after selection and before any cut: {before}."],
        plots=["rates"],
        tables=[Table(caption, [*header, *(f"{sample} [Hz]" for sample in classes)], rows)],
    )


RATES_TITLE = "Trigger rates"


def _within(point: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    total = point["rate"]["total"]
    errors = " ± ".join("?" if total[key] is None else f"{total[key]:.3g}" for key in ("error", "cross_section_error"))
    each = [_hertz(point["rate"]["processes"][name]) for name in classes]
    return [*_kept(point), f"{_hertz(total['value'])} ± {errors}", *each]


def _hertz(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4g}"


def calibration(metrics: Metrics) -> Table:
    """The figures of calibration, as trained and with the fitted temperature."""
    names = ("expected_error", "brier", "loss")
    rows = [
        [
            model,
            *(_number(measured[key][name]) for key in ("as_trained", "with_temperature") for name in names),
            _number(measured["temperature"]),
        ]
        for model, values in metrics["models"].items()
        for measured in [values["calibration"]]
    ]
    of_each = ("expected calibration error", "Brier score", "cross-entropy")
    header = ["model", *of_each, *(f"{name}, with temperature" for name in of_each), "temperature"]
    return Table("Calibration on test; the temperature is fitted on validation", header, rows)


def training_errors(metrics: Metrics) -> list[Table]:
    """Mean and spread over the seeds of each model that has several, and differences with both errors."""
    if not metrics["seeds"]:
        return []
    classes = metrics["classes"]
    header = ["seeds", "runs", *(f"AUC {sample}" for sample in classes), "accuracy"]
    groups = [
        [
            ", ".join(group["labels"]),
            len(group["labels"]),
            *(_spread(group["auc"][sample]) for sample in classes),
            _spread(group["accuracy"]),
        ]
        for group in metrics["seeds"]
    ]
    differences = [
        [
            f"{one['model']} - {one['reference']}",
            *(_both_errors(one["auc"][sample]) for sample in classes),
            _both_errors(one["accuracy"]),
        ]
        for one in metrics["differences"]
        if one["accuracy"]["training_error"] is not None
    ]
    return [
        Table("Mean over seeds, with the spread of single trainings", header, groups),
        Table(
            "Differences with the errors of test sample and training in quadrature", ["pair", *header[2:]], differences
        ),
    ]


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _spread(measured: Mapping[str, float | None]) -> str:
    return format_value({"value": measured["mean"], "error": measured["spread"]})


def _both_errors(measured: Mapping[str, float | None]) -> str:
    return format_value({"value": measured["value"], "error": measured["total_error"]}, "+")
