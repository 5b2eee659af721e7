"""How every plot looks: mplhep's ROOT style at page size, one colour for each class, one line style for each model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import mplhep
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toposieve import schema
from toposieve.classes import CLASSES

CLASS_COLOURS = {name: each.colour for name, each in CLASSES.items()}
CLASS_LABELS = {name: each.title for name, each in CLASSES.items()}

MODEL_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "linestyle": (0, (1, 1)), "marker": "s"},
    {"color": "#CC79A7", "linestyle": (0, (5, 2)), "marker": "^"},
    {"color": "#56489C", "linestyle": "-", "marker": "o"},
    {"color": "#E69F00", "linestyle": (0, (3, 1, 1, 1)), "marker": "D"},
    {"color": "#56B4E9", "linestyle": (0, (8, 2)), "marker": "v"},
    {"color": "#8C564B", "linestyle": (0, (1, 3)), "marker": "P"},
    {"color": "#7F7F7F", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "X"},
    {"color": "#A68A00", "linestyle": (0, (2, 1)), "marker": "<"},
    {"color": "#B2182B", "linestyle": (0, (8, 2, 2, 2)), "marker": ">"},
)
"""Of the first, second, … model of a report. Told apart by line and marker too: black-and-white print will do."""

PAGE_WIDTH = 11.0
"""Width of a figure over the full page, inch."""

_PAGE_SIZES: dict[str, Any] = {
    "font.size": 12,
    "axes.labelsize": 12,
    "axes.titlesize": 12,
    "axes.linewidth": 1,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10.5,
    "legend.handlelength": 2.2,
    "xtick.major.size": 5,
    "xtick.minor.size": 2.5,
    "xtick.major.pad": 4,
    "ytick.major.size": 5,
    "ytick.minor.size": 2.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "errorbar.capsize": 0,
    "savefig.dpi": 130,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.06,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Draw and save figures in this block in the report's style, whatever the user's own is."""
    with mpl.style.context(["default", mplhep.style.ROOT, _PAGE_SIZES]):
        yield


def panels(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of page width with a grid of panels, row by row.

    Args:
        rows: Rows of panels.
        columns: Panels in a row.
        height: Height of one row, inch.
        options: For ``Figure.subplots``.
    """
    figure = Figure(figsize=(PAGE_WIDTH, rows * height))
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def model_style(place: int) -> dict[str, Any]:
    """How curves of a report's first (0), second, … model look."""
    return MODEL_STYLES[place % len(MODEL_STYLES)]


def model_label(model: str) -> str:
    """A model's name for a legend."""
    return model.replace("_", " ")


def feature_label(name: str, symbol: str) -> str:
    """An axis label with the feature's unit."""
    unit = schema.UNITS.get(name, "1")
    return symbol if unit == "1" else f"{symbol} [{unit}]"


def figure_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend above all panels, from the handles of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is the same to the byte for the same figure."""
    figure.savefig(path, metadata={"Software": None})
