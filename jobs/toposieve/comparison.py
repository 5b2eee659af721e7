"""What would change if a candidate took the place of the published model, and whether the configured rules let it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from toposieve.config import PublicationConfig
from toposieve.evaluation.seeds import in_quadrature
from toposieve.evaluation.table import format_target
from toposieve.registry import Version

Json = dict[str, Any]
NONE: Mapping[str, Any] = {}
Measured = tuple[float | None, float | None]
"""A value and its error."""
NOTHING: Measured = (None, None)
DAY = "day"
"""Quantity whose slices are those that a dataset happens to have."""


def compare(candidate: Version, published: Version | None, config: PublicationConfig) -> Json:
    """Put a candidate beside the published model.

    Args:
        candidate: Who may be published.
        published: Who is; None for nobody.
        config: Rules.

    Returns:
        ``changes``: a row for each AUC, false-positive rate, rejection and rate of either, with both values, the
        difference and its error, both models' in quadrature (same events make it too large), None where one has none;
        ``worse_slices``: where the candidate is worse beyond both intervals; ``rules``: each with whether it is
        ``met``; ``accepted``: whether all are. Ready for JSON.
    """
    rules = list(_rules(candidate, published, config))
    return {
        "same_events": published is not None and _dataset(candidate) == _dataset(published),
        "changes": list(_changes(candidate, published)),
        "worse_slices": [] if published is None else list(_worse_slices(candidate, published)),
        "rules": rules,
        "accepted": all(rule["met"] for rule in rules),
    }


def format_comparison(comparison: Json) -> str:
    """The same as a table of text."""
    rows = [("", "candidate", "published", "difference")]
    rows += [
        (row["what"], _number(row["candidate"]), _number(row["published"]), _with_error(row))
        for row in comparison["changes"]
    ]
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>14}" for cell in row[1:3]) + f"{row[3]:>24}" for row in rows]
    lines += [f"worse: {each}" for each in comparison["worse_slices"]]
    lines += [
        f"{'met' if rule['met'] else 'NOT MET'}: {rule['rule']} ({rule['found']})" for rule in comparison["rules"]
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"


def _with_error(row: Json) -> str:
    return _number(row["difference"]) + ("" if row["error"] is None else f" ± {row['error']:.2g}")


def _dataset(version: Version) -> set[str]:
    return {mark for folder, mark in version.lineage.items() if folder.startswith("datasets/")}


def _changes(candidate: Version, published: Version | None) -> Iterator[Json]:
    now, then = _quantities(candidate), _quantities(published) if published else {}
    for what in now | then:
        (value, error), (other, others) = now.get(what, NOTHING), then.get(what, NOTHING)
        difference = None if value is None or other is None else value - other
        both = None if difference is None else in_quadrature(error, others)
        yield {"what": what, "candidate": value, "published": other, "difference": difference, "error": both}


def _quantities(version: Version) -> dict[str, Measured]:
    """What is compared; where nothing passed, the error of a rate is not known."""
    found: dict[str, Measured] = {
        f"AUC {name}": (auc["value"], auc["error"]) for name, auc in version.metrics["auc"].items()
    }
    for signal, points in version.thresholds.items():
        for point in points:
            at = f"{signal} at {format_target(point['target'])}"
            for process, passing in point.get("background", NONE).items():
                found[f"{at}: {process} false-positive rate"] = passing["false_positive_rate"], passing["error"] or None
                found[f"{at}: {process} rejection"] = passing["rejection"], None
            found[f"{at}: total Hz"] = _hertz(point)
    return found


def _hertz(point: Mapping[str, Any]) -> Measured:
    total = point.get("rate", NONE).get("total", NONE)
    return total.get("value"), total.get("error")


def _worse_slices(candidate: Version, published: Version) -> Iterator[str]:
    """Where less of the signal, or more of a background, passes, beyond the intervals of both.

    Days are compared within a dataset alone: others have others.
    """
    before = published.metrics.get("stability", NONE)
    for signal, quantities in candidate.metrics.get("stability", NONE).items():
        for quantity, processes in quantities.items():
            if quantity == DAY and _dataset(candidate) != _dataset(published):
                continue
            for process, now in processes.items():
                then = before.get(signal, NONE).get(quantity, NONE).get(process)
                if then is None or len(then["share"]) != len(now["share"]):
                    continue
                for place in range(len(now["share"])):
                    if _is_worse(now, then, place, is_signal=process == signal):
                        shares = f"{then['share'][place]:.3f} to {now['share'][place]:.3f}"
                        where = f"{quantity} is {_slice(quantity, place, len(now['share']))}"
                        yield f"{signal}: {process} where {where}, {shares}"


def _slice(quantity: str, place: int, count: int) -> str:
    """What a slice is called; of days, and of what was once sliced otherwise, nobody says it."""
    from toposieve.evaluation.slices import EDGES, names_of

    names = names_of(quantity) if quantity in EDGES else ()
    return names[place] if len(names) == count else f"number {place + 1} of {count}"


def _is_worse(now: Mapping[str, Any], then: Mapping[str, Any], place: int, *, is_signal: bool) -> bool:
    lower, upper = (now, then) if is_signal else (then, now)
    high, low = lower["high"][place], upper["low"][place]
    return high is not None and low is not None and high < low


def _rules(candidate: Version, published: Version | None, config: PublicationConfig) -> Iterator[Json]:
    for name, auc in candidate.metrics["auc"].items():
        value = auc["value"]
        met = value is not None and value >= config.auc_min
        yield {"rule": f"AUC {name} at least {config.auc_min}", "met": met, "found": _number(value)}
        if published is not None:
            yield _no_worse(name, auc, published.metrics["auc"].get(name, NONE), config.auc_errors)
    for name in published.metrics["auc"] if published else NONE:
        if name not in candidate.metrics["auc"]:
            yield {"rule": f"{name} is told apart, as by the published model", "met": False, "found": "no such class"}
    if config.rate_max is not None:
        point = _point(candidate, config)
        hertz, _ = _hertz(point) if point else NOTHING
        what = f"{config.rate_class} at {config.rate_working_point}: at most {config.rate_max:g} Hz"
        yield {"rule": what, "met": hertz is not None and hertz <= config.rate_max, "found": _number(hertz)}


def _no_worse(name: str, now: Mapping[str, Any], then: Mapping[str, Any], errors: float) -> Json:
    values, spread = (now.get("value"), then.get("value")), (now.get("error"), then.get("error"))
    if None in (*values, *spread):
        return {"rule": f"AUC {name} no worse", "met": False, "found": "n/a"}
    difference, error = values[0] - values[1], math.hypot(*spread)  # type: ignore[operator, arg-type]
    rule = f"AUC {name} no worse than published by {errors:g} errors"
    return {"rule": rule, "met": difference >= -errors * error, "found": f"{difference:+.4f} ± {error:.4f}"}


def _point(version: Version, config: PublicationConfig) -> Mapping[str, Any] | None:
    points = version.thresholds.get(config.rate_class, [])
    return next((point for point in points if point["target"] == config.rate_working_point), None)
