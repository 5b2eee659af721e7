"""What passes of other events at the same thresholds: of varied ones, or of another simulation. Arrays in, arrays out.

Thresholds are those of the nominal events. Varied events are the nominal ones, measured otherwise: each that is in both
test splits is compared with itself, and what becomes of the selection is in the cutflows. Events of another sample are
others: their shares are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from toposieve.evaluation.metrics import BoolArray, FloatArray, IntArray
from toposieve.evaluation.page import Section, Table
from toposieve.evaluation.performance import Sample
from toposieve.evaluation.style import CLASS_COLOURS, CLASS_LABELS, figure_legend, model_label, panels
from toposieve.evaluation.table import format_value
from toposieve.evaluation.working_points import with_error


@dataclass(frozen=True)
class Passing:
    """Which events of a process pass a threshold."""

    passes: BoolArray
    """(events,)."""
    weights: FloatArray
    """(events,) signed."""

    @property
    def share(self) -> float:
        """Of the weight; NaN where that does not add up to more than 0."""
        total = float(self.weights.sum())
        return float(self.weights @ self.passes) / total if total > 0 else float("nan")


def same_events_shift(nominal: Passing, passes: BoolArray) -> tuple[float, float]:
    """Share that passes of varied events less that of the same ones as they are, and its error.

    Args:
        nominal: The events as they are.
        passes: (events,) which of them pass when they are varied.

    >>> events = Passing(np.array([True, True, False, False]), np.ones(4))
    >>> same_events_shift(events, np.array([True, False, False, False]))
    (-0.25, 0.21650635094610965)
    """
    total = float(nominal.weights.sum())
    if total <= 0:
        return float("nan"), float("nan")
    change = passes.astype(np.float64) - nominal.passes
    shift = float(nominal.weights @ change) / total
    return shift, float(np.sqrt(np.sum((nominal.weights * (change - shift)) ** 2))) / total


def other_events_shift(nominal: Passing, other: Passing) -> tuple[float, float]:
    """Share that passes of other events less that of the nominal ones, and its error: both samples' in quadrature.

    >>> events = Passing(np.array([True, False]), np.ones(2))
    >>> shift, error = other_events_shift(events, Passing(np.array([True]), np.ones(1)))
    >>> shift, round(error, 4)
    (0.5, 0.3536)
    """
    return other.share - nominal.share, float(np.hypot(_share_error(nominal), _share_error(other)))


def _share_error(sample: Passing) -> float:
    share, total = sample.share, float(sample.weights.sum())
    return float(np.sqrt(np.sum((sample.weights * (sample.passes - share)) ** 2))) / total if total > 0 else np.nan


def same_events(nominal_ids: pa.Array, other_ids: pa.Array) -> IntArray:
    """Place of each nominal event among the others, -1 where it is none of them, (events,)."""
    found = pc.fill_null(pc.index_in(nominal_ids, other_ids), -1)
    places: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return places


def summarise(
    nominal: Sample, other: Sample, thresholds: FloatArray, targets: tuple[float, ...], places: IntArray
) -> dict[str, Any]:
    """How many events were compared, and what of them passes otherwise, for JSON.

    ``same_events`` is how many of the nominal ``events`` were compared with themselves; where it is 0, the others are
    no variation but another sample. ``labels`` has by label and class, for each working point, ``target`` and
    ``processes``: for each process ``share`` of the nominal events and ``shift`` with its error. Those of the class
    itself are of its efficiency, those of others of false-positive rates.

    Args:
        nominal: Events as they are, with each label's scores.
        other: Varied events, or another sample, with scores of the same labels.
        thresholds: (labels, classes, working points or more), as validation gave them for the nominal events.
        targets: The working points.
        places: Where the same events are among the others, as :func:`same_events` gives it.
    """
    events, same = len(places), np.asarray(places >= 0)
    if same.any():
        nominal, other = _take(nominal, same), _take(other, places[same])
    shifts = {
        label: {
            sample: [
                {"target": target, "processes": _shifts(nominal, other, label, wanted, cut, paired=bool(same.any()))}
                for target, cut in zip(targets, thresholds[number, wanted], strict=False)
                if np.isfinite(cut)
            ]
            for wanted, sample in enumerate(nominal.classes)
        }
        for number, label in enumerate(nominal.scores)
        if label in other.scores
    }
    return {"events": events, "same_events": int(same.sum()), "labels": shifts}


def _take(sample: Sample, rows: BoolArray | IntArray) -> Sample:
    scores = {label: values[rows] for label, values in sample.scores.items()}
    return Sample(sample.labels[rows], sample.weights[rows], scores, sample.classes)


def _shifts(
    nominal: Sample, other: Sample, label: str, wanted: int, threshold: float, *, paired: bool
) -> dict[str, Any]:
    before, after = (sample.scores[label][:, wanted] >= threshold for sample in (nominal, other))
    found = {}
    for process, sample in enumerate(nominal.classes):
        own, of = nominal.labels == process, other.labels == process
        events = Passing(before[own], nominal.weights[own])
        shift = (
            same_events_shift(events, after[of])
            if paired
            else other_events_shift(events, Passing(after[of], other.weights[of]))
        )
        found[sample] = {"share": with_error(events.share, _share_error(events)), "shift": with_error(*shift)}
    return found


def draw_shifts(metrics: Mapping[str, Any]) -> Figure:
    """How what passes each first working point shifts, relative to it: by model, class, variation and process."""
    found, classes = metrics["systematics"], metrics["classes"]
    labels = _labels(metrics)
    figure, axes = panels(len(labels), len(classes), 1.4 + 0.4 * len(found), sharey=True)
    cells = [(label, sample) for label in labels for sample in classes]
    for (label, sample), axis in zip(cells, axes, strict=True):
        _draw(axis, found, label, sample, classes)
        axis.set_xlabel(f"relative shift, {model_label(label)} for {CLASS_LABELS[sample]}")
    axes[0].set_yticks(range(len(found)), list(found))
    axes[0].set_ylim(len(found) - 0.4, -0.6)
    figure_legend(figure, axes[0], columns=len(classes))
    return figure


def _labels(metrics: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(label for of in metrics["systematics"].values() for label in of["labels"]))


def _draw(axis: Axes, variations: Mapping[str, Any], label: str, sample: str, processes: Sequence[str]) -> None:
    for number, process in enumerate(processes):
        relative = np.array([_relative(_first_point(of, label, sample), process) for of in variations.values()])
        axis.errorbar(
            relative[:, 0],
            np.arange(len(relative)) + 0.15 * (number - (len(processes) - 1) / 2),
            xerr=relative[:, 1],
            fmt="o",
            color=CLASS_COLOURS[process],
            label=CLASS_LABELS[process],
        )
    axis.axvline(0, color="0.4", linewidth=1)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _first_point(varied: Mapping[str, Any], label: str, sample: str) -> Mapping[str, Any]:
    points = varied["labels"].get(label, {}).get(sample)
    return points[0]["processes"] if points else {}


def _relative(processes: Mapping[str, Any], process: str) -> tuple[float, float]:
    """Shift divided by the share, and its error; NaN where it is undefined."""
    of = processes.get(process)
    if of is None or not of["share"]["value"] or of["shift"]["value"] is None:
        return np.nan, np.nan
    return of["shift"]["value"] / of["share"]["value"], (of["shift"]["error"] or 0.0) / of["share"]["value"]


def sections(metrics: Mapping[str, Any]) -> list[Section]:
    """The report's part about it: figure, what was compared, and a table for each model; none without variations."""
    found, classes = metrics["systematics"], metrics["classes"]
    if not found:
        return []
    compared = Table(
        "What was compared",
        ["variation", "events", "the same events", "dataset"],
        [[name, f"{of['events']:,}", f"{of['same_events']:,}", of["dataset"]] for name, of in found.items()],
        [3],
        "Where no events are the same, it is another sample, and its own statistical error is part of the shift's.",
    )
    shifts = [
        Table(
            f"Shift of the share that passes the first working points of {label}",
            ["kept", "process", *found],
            [
                [sample, process, *(_shift(_first_point(of, label, sample), process) for of in found.values())]
                for sample in classes
                for process in classes
            ],
            [1],
        )
        for label in _labels(metrics)
    ]
    return [Section("systematics", "Events measured otherwise", plots=["systematics"], tables=[compared, *shifts])]


def _shift(processes: Mapping[str, Any], process: str) -> str:
    of = processes.get(process)
    return format_value(of["shift"], "+") if of else "n/a"
