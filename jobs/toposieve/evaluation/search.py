"""What a report says of the searches behind tuned models: what was tried, and which keys mattered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toposieve.errors import InvalidInputError
from toposieve.evaluation.style import model_label, panels
from toposieve.io.store import Key
from toposieve.training.runs import SUMMARY_FILE

COLUMNS = 3
"""Panels side by side."""
MOST_TICKS = 9
"""Values of a key that are named."""

Trials = Sequence[Mapping[str, Any]]


def read_search(folder: Key) -> dict[str, Any]:
    """The part of ``metrics.json`` on one search: its trials, and how much of the loss each key explains.

    Args:
        folder: The search's, ``{base}/studies/{study}``.

    Raises:
        InvalidInputError: It has not ended, or is damaged.
    """
    key = folder / SUMMARY_FILE
    if key.stat() is None:
        raise InvalidInputError(f"{folder} has no {SUMMARY_FILE}: run tune.py to its end, or check --studies")
    try:
        found: dict[str, Any] = json.loads(key.read_text())
    except ValueError as error:
        raise InvalidInputError(f"{key} is no JSON ({error}): remove it, and run tune.py again") from None
    return found


def draw_search(search: Mapping[str, Any]) -> Figure:
    """How a search went: the loss of each trial, what each key explains, and the loss against each key's values.

    Args:
        search: As :func:`read_search` gives it. Trials without a finite loss are left out.
    """
    trials = [trial for trial in search["trials"] if trial["loss"] is not None]
    keys = list(trials[0]["values"])
    figure, axes = panels(-(-(2 + len(keys)) // COLUMNS), COLUMNS, 3.0)
    _history(axes[0], trials, model_label(search["model"]))
    _importances(axes[1], search["importances"])
    for axis, key in zip(axes[2:], keys, strict=False):
        _values(axis, key, trials)
    for axis in axes[2 + len(keys) :]:
        axis.remove()
    return figure


def _history(axis: Axes, trials: Trials, model: str) -> None:
    numbers, losses, epochs = _arrays(trials)
    for count, places in _by_epochs(epochs):
        axis.plot(numbers[places], losses[places], ".", label=f"{count} epochs")
    whole = epochs == max(epochs)
    axis.step(numbers[whole], np.minimum.accumulate(losses[whole]), where="post", color="0.3", label="best so far")
    axis.set(xlabel=f"trial of {model}", ylabel="validation loss", yscale="log")
    axis.legend()


def _importances(axis: Axes, importances: Mapping[str, float]) -> None:
    ordered = sorted(importances.items(), key=lambda each: each[1])
    axis.barh([_words(key) for key, _ in ordered], [share for _, share in ordered], color="0.6")
    axis.set(xlabel="share of the loss's variance", xlim=(0, 1))


def _values(axis: Axes, key: str, trials: Trials) -> None:
    _, losses, epochs = _arrays(trials)
    values = [trial["values"][key] for trial in trials]
    if all(isinstance(value, float) for value in values):
        where = np.array(values)
        axis.set_xscale("log")
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
