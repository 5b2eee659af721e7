"""The table of AUCs as text, from a report's ``metrics.json``.

Command:
    python -m toposieve.evaluation.table BASE/reports/REPORT/metrics.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from toposieve.errors import InvalidInputError
from toposieve.io.store import root_key


def format_table(metrics: Mapping[str, Any]) -> str:
    """The AUC of each model and class and the accuracy, with errors, then the differences between models.

    Args:
        metrics: Content of ``metrics.json``.
    """
    rows = [[model, *_cells(metrics, values)] for model, values in metrics["models"].items()]
    rows += [
        [f"{pair['model']} - {pair['reference']}", *_cells(metrics, pair, sign="+")] for pair in metrics["differences"]
    ]
    header = ["AUC", *metrics["classes"], "accuracy"]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    return "\n".join([lines[0], "-" * len(max(lines, key=len)), *lines[1:], "", _caption(metrics)])


def format_target(target: float) -> str:
    """A working point's share with two decimals, or with all that it has: no two have one name.

    >>> format_target(0.9), format_target(0.994), format_target(0.9999)
    ('0.90', '0.994', '0.9999')
    """
    return max(f"{target:.2f}", str(target), key=len)


def format_value(quantity: Mapping[str, float | None], sign: str = "") -> str:
    """A value with its error to four decimals; "n/a" where it is undefined.

    >>> format_value({"value": 0.98765, "error": 0.0021})
    '0.9877 ± 0.0021'
    >>> format_value({"value": None, "error": None})
    'n/a'
    """
    value, error = quantity["value"], quantity["error"]
    if value is None:
        return "n/a"
    return f"{value:{sign}.4f} ± {'?' if error is None else format(error, '.4f')}"


def _cells(metrics: Mapping[str, Any], values: Mapping[str, Any], sign: str = "") -> list[str]:
    quantities = [*(values["auc"][name] for name in metrics["classes"]), values["accuracy"]]
    return [format_value(quantity, sign) for quantity in quantities]


def _caption(metrics: Mapping[str, Any]) -> str:
    events = ", ".join(f"{values['events']:,} {name}" for name, values in metrics["test"].items())
    samples = metrics["configuration"]["evaluation"]["bootstrap_samples"]
    return (
        "Area under the ROC curve of each class against the rest, weighted.\n"
        f"Test events: {events}; errors from {samples} bootstrap resamplings."
    )


def main(arguments: list[str]) -> int:
    """Print the table of the ``metrics.json`` given on the command line."""
    if len(arguments) != 1:
        print("usage: python -m toposieve.evaluation.table METRICS_JSON", file=sys.stderr)
        return 2
    try:
        print(format_table(read_metrics(arguments[0])))
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def read_metrics(location: str) -> Mapping[str, Any]:
    """Content of a ``metrics.json``.

    Raises:
        InvalidInputError: It is not there or is broken.
    """
    folder, _, name = location.rpartition("/")
    try:
        metrics: Mapping[str, Any] = json.loads((root_key("METRICS_JSON", folder or ".") / name).read_text())
    except (OSError, InvalidInputError, json.JSONDecodeError) as error:
        raise InvalidInputError(f"{location}: {error}; evaluate.py writes it") from None
    return metrics


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
