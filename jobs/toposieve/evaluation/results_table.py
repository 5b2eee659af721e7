"""The README's table of results, in Markdown, from a report's ``metrics.json`` and the times beside it.

Command:
    python -m toposieve.evaluation.results_table BASE/reports/REPORT/metrics.json README.md

It goes between the lines ``<!-- results -->`` and ``<!-- end of results -->``. Rows that stand there for other models
stay, if they are of as many test events: the table may be filled by several reports, each on a machine of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toposieve.errors import InvalidInputError
from toposieve.evaluation.reference import PUBLISHED
from toposieve.evaluation.seeds import spread
from toposieve.evaluation.table import read_metrics
from toposieve.io.publication import TIMING_NAME
from toposieve.io.store import Key, root_key
from toposieve.training.runs import MODELS_DIRECTORY

START, END = "<!-- results -->", "<!-- end of results -->"
WANTED = ("ttbar", "wjets")
"""The classes that a trigger keeps, each against the backgrounds that it cuts."""

Metrics = Mapping[str, Any]


class Cost(NamedTuple):
    """What one run costs, where it was trained and scored."""

    trained: float | None
    """Events a second of training, by all workers."""
    latency: Sequence[Mapping[str, float]]
    """As :func:`toposieve.latency.measure` gives it, of one event and of a batch; empty where it is not known."""


def costs_of(metrics: Metrics, base: Key) -> dict[str, Cost]:
    """Label → cost of its run, from the times that stand beside a report and beside the runs that are still there."""
    latency = _read(base / "reports" / metrics["report"] / TIMING_NAME).get("latency", {})
    models = base / MODELS_DIRECTORY
    return {
        label: Cost(
            _read(models / of["model"] / of["run"] / TIMING_NAME).get("events_per_second"), latency.get(label, ())
        )
        for label, of in metrics["models"].items()
    }


def _read(key: Key) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(key.read_text())
    except (FileNotFoundError, ValueError):  # not there any more, or broken
        return {}
    return content


def results(metrics: Metrics, costs: Mapping[str, Cost]) -> str:
    """Areas under the ROC curves, rejection and rates where each wanted class is kept, and cost: a table each.

    A row is one model and configuration; of several seeds it has the mean. The first error is that of the test sample,
    the second that of training, the standard deviation over seeds; a model of one seed has none.

    Args:
        metrics: Content of ``metrics.json``.
        costs: Label → what its run costs.
    """
    groups = [*_groups(metrics)]
    tables = [_areas(metrics, groups)]
    tables += [_rejections(metrics, groups, wanted) for wanted in WANTED if wanted in metrics["classes"]]
    return "\n\n".join([*tables, _costs(costs, groups), _caption(metrics)])


def with_other_rows(tables: str, written: str) -> str:
    """The same with the rows for other models that are written already, if those are of the same test events."""
    *new, caption = [block.splitlines() for block in tables.split("\n\n")]
    old = {block.splitlines()[0]: block.splitlines() for block in written.strip().split("\n\n") if block}
    if caption[0] not in old:
        return tables
    blocks = []
    for ours in new:
        rows = {row.split(" | ")[0]: row for row in [*old.get(ours[0], ours)[2:], *ours[2:]]}
        blocks.append("\n".join([*ours[:2], *(rows[name] for name in sorted(rows))]))
    return "\n\n".join([*blocks, *caption])


def _groups(metrics: Metrics) -> Iterator[list[str]]:
    """Labels of each row's seeds, in the order of the report."""
    of_label = {label: group["labels"] for group in metrics["seeds"] for label in group["labels"]}
    shown: set[str] = set()
    for label in metrics["models"]:
        if label not in shown:
            group = of_label.get(label, [label])
            shown.update(group)
            yield group


def _areas(metrics: Metrics, groups: Sequence[Sequence[str]]) -> str:
    classes = metrics["classes"]
    published = {one.counterpart: one for one in PUBLISHED if one.counterpart}
    rows = []
    for labels in groups:
        of = [metrics["models"][label] for label in labels]
        best = published.get(of[0]["model"])
        areas = [_with_errors([model["auc"][sample] for model in of]) for sample in classes]
        theirs = " / ".join(_figure(best.auc.get(sample)) for sample in classes) if best else "–"
        accuracy = _figure(_mean(model["accuracy"]["value"] for model in of))
        rows.append(
            [labels[0], str(len(labels)), *areas, accuracy, _count(of[0]["training"].get("parameters")), theirs]
        )
    header = ["model", "seeds", *(f"AUC {sample}" for sample in classes), "accuracy", "parameters", "published AUC"]
    return _table(header, rows)


def _rejections(metrics: Metrics, groups: Sequence[Sequence[str]], wanted: str) -> str:
    """One background event in so many passes where so much of the wanted class is kept, and the rate of all."""
    first = next(iter(metrics["models"].values()))
    targets = [point["target"] for point in first["working_points"][wanted]]
    others = [sample for sample in metrics["classes"] if sample != wanted]
    rows = []
    for labels in groups:
        of = [metrics["models"][label]["working_points"][wanted] for label in labels]
        cells = [_rejection(of, key, other) for other in others for key in range(len(targets))]
        cells += [_hertz(of, key) for key in range(len(targets))]
        rows.append([labels[0], *cells])
    header = [f"{other} rejection at {target:g}" for other in others for target in targets]
    return _table([f"{wanted} kept", *header, *(f"Hz at {target:g}" for target in targets)], rows)


def _rejection(models: Sequence[Sequence[Mapping[str, Any]]], key: int, other: str) -> str:
    """Of the mean rate; a lower limit where nothing passes."""
    points = [points[key]["background"][other] for points in models]
    rate = _mean(point["false_positive_rate"] for point in points)
    if rate:
        return f"{1 / rate:.3g}"
    limit = points[0]["upper_limit_95"]
    return f"> {1 / limit:.3g}" if limit else "–"


def _hertz(models: Sequence[Sequence[Mapping[str, Any]]], key: int) -> str:
    rate = _mean(points[key]["rate"]["total"]["value"] for points in models)
    return "–" if rate is None else f"{rate:.3g}"


def _costs(costs: Mapping[str, Cost], groups: Sequence[Sequence[str]]) -> str:
    """Of each row's first seed."""
    header = ["model", "training, events/s", "one event, ms", "99 % within, ms", "in batches, events/s"]
    rows = []
    for label, *_ in groups:
        trained, latency = costs[label]
        times = ["–"] * 3
        if latency:
            one, batch = latency
            times = [f"{1000 * one[key]:.2g}" for key in ("p50", "p99")] + [_round(batch["batch"] / batch["p50"])]
        rows.append([label, _round(trained), *times])
    return _table(header, rows)


def _round(rate: float | None) -> str:
    return "–" if rate is None else f"{float(f'{rate:.2g}'):,.0f}"


def _with_errors(quantities: Sequence[Mapping[str, float | None]]) -> str:
    training = spread([quantity["value"] for quantity in quantities])
    errors = [quantities[0]["error"], training]
    value = _mean(quantity["value"] for quantity in quantities)
    return " ± ".join([_figure(value), *(_figure(error) for error in errors if error is not None)])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".lstrip("0")


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])


def _caption(metrics: Metrics) -> str:
    events = ", ".join(f"{values['events']:,} {sample}" for sample, values in metrics["test"].items())
    return (
        f"Test events: {events}. Rejection is that of one process; rates are those of all processes that are "
        "simulated. Costs are those of the first seed, on whatever machine it was: networks in Keras, as trained."
    )


def main(arguments: Sequence[str]) -> int:
    """Write the tables into the file that the command line names."""
    if len(arguments) != 2:
        print("usage: python -m toposieve.evaluation.results_table METRICS_JSON README", file=sys.stderr)
        return 2
    metrics_json, readme = arguments[0], Path(arguments[1])
    base = metrics_json.rpartition("/")[0].rpartition("/")[0].rpartition("/")[0]
    try:
        metrics, text = read_metrics(metrics_json), readme.read_text("utf-8")
        tables = results(metrics, costs_of(metrics, root_key("METRICS_JSON", base)))
        before, start, rest = text.partition(START)
        written, end, after = rest.partition(END)
        if not (start and end):
            raise InvalidInputError(f"{readme}: no lines {START} and {END}: put them where the tables belong")
    except (OSError, InvalidInputError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    readme.write_text(f"{before}{START}\n\n{with_other_rows(tables, written)}\n\n{END}{after}", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
