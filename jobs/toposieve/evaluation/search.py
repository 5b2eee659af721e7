"""What a report says of the searches behind tuned models: what was tried, and which keys mattered."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from toposieve.errors import InvalidInputError
from toposieve.evaluation.style import model_label, panels
from toposieve.io.names import digest
from toposieve.io.store import Key
from toposieve.models import TREE_MODELS
from toposieve.training.runs import STUDIES_DIRECTORY, SUMMARY_FILE

COLUMNS = 3
"""Panels side by side."""
MOST_TICKS = 9
"""Values of a key that are named."""

logger = logging.getLogger(__name__)

Trials = Sequence[Mapping[str, Any]]


def read_searches(base: Key, names: Iterable[str], kept: Iterable[str] = ()) -> dict[str, Any]:
    """The part of ``metrics.json`` on searches: the trials of each, and how much of the loss each key explains.

    One that has not ended is left out, and said: a report need not wait for it.

    Args:
        base: Where all data lives.
        names: Names of searches.
        kept: The same of those that a report there has.

    Returns:
        Name → content of its summary.

    Raises:
        InvalidInputError: One is damaged.
    """
    found = {}
    for name in dict.fromkeys([*names, *kept]):
        key = base / STUDIES_DIRECTORY / name / SUMMARY_FILE
        if key.stat() is None:
            logger.warning("the search %s is not in the report: %s is not there; run tune.py to its end", name, key)
        else:
            found[name] = _read(key)
    return found


def search_fingerprints(searches: Mapping[str, Any]) -> dict[str, str]:
    """Folder of each search → what changes with its content, for the manifest of a report."""
    return {f"{STUDIES_DIRECTORY}/{name}": digest(json.dumps(search)) for name, search in searches.items()}


def _read(key: Key) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(key.read_text())
    except ValueError as error:
        raise InvalidInputError(f"{key} is no JSON ({error}): remove it, and run tune.py again") from None
    return found


def draw_searches(searches: Mapping[str, Any]) -> Figure:
    """How searches went: the loss of each trial, what each key explains, and the loss against each key's values.

    Args:
        searches: As :func:`read_searches` gives them; each begins a row. Trials without a finite loss are left out.
    """
    rows = {name: -(-(2 + len(search["trials"][0]["values"])) // COLUMNS) for name, search in searches.items()}
    figure, axes = panels(sum(rows.values()), COLUMNS, 3.0)
    for name, search in searches.items():
        own, axes = axes[: COLUMNS * rows[name]], axes[COLUMNS * rows[name] :]
        _draw(own, search)
    return figure


def _draw(axes: Sequence[Axes], search: Mapping[str, Any]) -> None:
    trials = [trial for trial in search["trials"] if trial["loss"] is not None]
    keys = list(trials[0]["values"])
    _history(axes[0], trials, search["model"])
    _importances(axes[1], search)
    for axis, key in zip(axes[2:], keys, strict=False):
        _values(axis, key, trials)
    for axis in axes[2 + len(keys) :]:
        axis.remove()


def _history(axis: Axes, trials: Trials, model: str) -> None:
    numbers, losses, epochs = _arrays(trials)
    for count, places in _by_epochs(epochs):
        label = "trials" if model in TREE_MODELS else f"epochs: {count}"
        axis.plot(numbers[places], losses[places], ".", label=label)
    whole = epochs == max(epochs)
    axis.step(numbers[whole], np.minimum.accumulate(losses[whole]), where="post", color="0.3", label="best so far")
    axis.set(xlabel=f"trial of {model_label(model)}", ylabel="validation loss", yscale="log")
    low, high = axis.get_ylim()
    axis.set_ylim(top=high * (high / low) ** 0.5)  # room for the legend
    axis.legend(loc="upper right", ncols=2, handlelength=1, columnspacing=1)


def _importances(axis: Axes, search: Mapping[str, Any]) -> None:
    ordered = sorted(search["importances"].items(), key=lambda each: each[1])
    axis.barh([_words(key) for key, _ in ordered], [share for _, share in ordered], color="0.6")
    epochs = search.get("importance_epochs") or max(trial["epochs"] for trial in search["trials"])
    when = "" if search["model"] in TREE_MODELS else f", epochs: {epochs}"
    axis.set(xlabel=f"share of the loss's variance{when}", xlim=(0, 1))
    if not ordered:
        axis.text(0.5, 0.5, "too few trials, or all alike", ha="center", transform=axis.transAxes)
        axis.set_yticks([])


def _values(axis: Axes, key: str, trials: Trials) -> None:
    _, losses, epochs = _arrays(trials)
    values = [trial["values"][key] for trial in trials]
    if all(isinstance(value, float) and value > 0 for value in values):
        where = np.array(values)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        names = sorted({json.dumps(value) for value in values}, key=lambda name: (len(name), name))
        where = np.array([names.index(json.dumps(value)) for value in values])
        _name_ticks(axis, names)
    for _, places in _by_epochs(epochs):
        axis.plot(where[places], losses[places], ".")
    axis.set(xlabel=_words(key), ylabel="validation loss", yscale="log")


def _name_ticks(axis: Axes, names: Sequence[str]) -> None:
    shown = range(0, len(names), -(-len(names) // MOST_TICKS))
    axis.set_xticks(list(shown), [names[place].strip('"') for place in shown], rotation=30, ha="right", fontsize=8)


def _arrays(trials: Trials) -> list[np.ndarray]:
    """Numbers, losses and epochs, each (trials,)."""
    return [np.array([trial[key] for trial in trials]) for key in ("number", "loss", "epochs")]


def _by_epochs(epochs: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(int(count), epochs == count) for count in np.unique(epochs)]


def _words(key: str) -> str:
    return key.replace("_", " ")
