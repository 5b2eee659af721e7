"""The report's tables that a trigger is chosen by, from ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toposieve.evaluation import html
from toposieve.evaluation.table import format_value

Metrics = Mapping[str, Any]


def working_points(metrics: Metrics) -> list[str]:
    """A table for each class: what its thresholds keep, and let through of each other process."""
    explanation = (
        "A working point keeps a chosen share of one class (true-positive rate): events pass if their score is at or "
        "above a threshold, the tightest that keeps that share of the validation split; everything else is measured on "
        "the test split. What it lets through of another process is that one's false-positive rate: “1 in 20” means "
        "that one event in twenty passes. Brackets are 68 % intervals of it."
    )
    return [html.paragraph(explanation), *(_points_for(metrics, sample) for sample in metrics["classes"])]


def _points_for(metrics: Metrics, sample: str) -> str:
    others = [name for name in metrics["classes"] if name != sample]
    rows = [
        [model, f"{point['target']:.2f}", *_kept(point), *(_background(point["background"][name]) for name in others)]
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
    return html.table(f"Working points for {sample}", header, rows)


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


def rates(metrics: Metrics, figure: str) -> list[str]:
    """Hertz within each budget, or what is missing to know them."""
    config, classes = metrics["configuration"]["evaluation"], metrics["classes"]
    unknown = [name for name, hertz in metrics["hertz"].items() if hertz is None]
    if unknown:
        return [
            html.paragraph(
                f"No rates: the cross-section of {', '.join(unknown)} is not known. Give it, in pb and of the selected "
                "events, as cross_sections of the evaluation.",
                "note",
            )
        ]
    before = ", ".join(f"{name} {hertz:,.3g}" for name, hertz in metrics["hertz"].items())
    header = [
        "model",
        "for",
        "at most [Hz]",
        "threshold",
        "true-positive rate",
        "all [Hz]",
        *(f"{c} [Hz]" for c in classes),
    ]
    rows = [
        [model, sample, f"{point['budget']:,.4g}", *_within(point, classes)]
        for model, values in metrics["models"].items()
        for sample in classes
        for point in values["rate_budgets"][sample]
        if point["threshold"] is not None
    ]
    return [
        html.paragraph(f"At {config['luminosity']:.3g} cm⁻² s⁻¹, Hz after selection and before any cut: {before}."),
        figure,
        html.table(
            "Thresholds within rate budgets; errors are those of the test sample, then of the cross-sections",
            header,
            rows,
        ),
        *_unmet(metrics),
    ]


def _within(point: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    total = point["rate"]["total"]
    errors = " ± ".join("?" if total[key] is None else f"{total[key]:.3g}" for key in ("error", "cross_section_error"))
    each = [_hertz(point["rate"]["processes"][name]) for name in classes]
    return [*_kept(point), f"{_hertz(total['value'])} ± {errors}", *each]


def _hertz(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4g}"


def _unmet(metrics: Metrics) -> list[str]:
    return [
        html.paragraph(f"No threshold of {model} for {sample} stays within {point['budget']:,.4g} Hz.", "note")
        for model, values in metrics["models"].items()
        for sample, points in values["rate_budgets"].items()
        for point in points
        if point["threshold"] is None
    ]


def calibration(metrics: Metrics) -> str:
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
    return html.table("Calibration on test; the temperature is fitted on validation", header, rows)


def training_errors(metrics: Metrics) -> list[str]:
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
        html.table("Mean over seeds, with the spread of single trainings", header, groups),
        html.table(
            "Differences with the errors of test sample and training in quadrature", ["pair", *header[2:]], differences
        ),
    ]


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _spread(measured: Mapping[str, float | None]) -> str:
    return format_value({"value": measured["mean"], "error": measured["spread"]})


def _both_errors(measured: Mapping[str, float | None]) -> str:
    return format_value({"value": measured["value"], "error": measured["total_error"]}, "+")
