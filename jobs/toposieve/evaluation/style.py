"""How every plot looks: mplhep's ROOT style at page size, one colour for each class, one line style for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

UNKNOWN_COLOUR = "#7F7F7F"
"""Of a class that the table does not know: datasets name their own."""


class _ByClass(dict[str, str]):
    """What the table says of each class; of others, a default.

    Args:
        known: Class → what is said of it.
        default: Of another, by its name.
    """

    def __init__(self, known: Mapping[str, str], default: Callable[[str], str]) -> None:
        super().__init__(known)
        self._default = default

    def __missing__(self, name: str) -> str:
        return self._default(name)


CLASS_COLOURS = _ByClass({name: each.colour for name, each in CLASSES.items()}, lambda _: UNKNOWN_COLOUR)
CLASS_LABELS = _ByClass({name: each.title for name, each in CLASSES.items()}, lambda name: name)


def name_classes(names: Sequence[str]) -> str:
    """Classes in a sentence, in words where there are any.

    >>> name_classes(["qcd", "ttbar", "zjets"])
    'QCD multijets (qcd), top-quark pairs (ttbar) and zjets'
    """
    words = {name: CLASSES[name].words for name in names if name in CLASSES}
    *first, last = (f"{words[name]} ({name})" if words.get(name) else name for name in names)
    return f"{', '.join(first)} and {last}"


MODEL_COLOURS = (
    "#000000",
    "#CC79A7",
    "#56489C",
    "#E69F00",
    "#56B4E9",
    "#8C564B",
    "#7F7F7F",
    "#A68A00",
    "#B2182B",
    "#1B7837",
)
MODEL_MARKERS = "s^oDvPX<>p*"
MODEL_LINES: tuple[Any, ...] = (
    (0, (1, 1)),
    (0, (5, 2)),
    "-",
    (0, (3, 1, 1, 1)),
    (0, (8, 2)),
    (0, (1, 3)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (2, 1)),
    (0, (8, 2, 2, 2)),
)
"""Of the first, second, … model of a report. Told apart by line and marker too: black-and-white print will do. Each
list is of another length, so that no two of 990 models look the same."""

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
    "xtick.minor.visible": False,  # on linear axes; drawing is mostly drawing ticks
    "ytick.minor.visible": False,
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
    return {
        "color": MODEL_COLOURS[place % len(MODEL_COLOURS)],
        "marker": MODEL_MARKERS[place % len(MODEL_MARKERS)],
        "linestyle": MODEL_LINES[place % len(MODEL_LINES)],
    }


def model_label(model: str) -> str:
    """A model's name for a legend."""
    return model.replace("_", " ")


def feature_label(name: str, symbol: str) -> str:
    """An axis label with the feature's unit."""
    unit = schema.UNITS.get(name, "1")
    return symbol if unit == "1" else f"{symbol} [{unit}]"


def panel_label(axes: Axes, text: str, corner: str = "upper right") -> None:
    """What a panel shows, in one of its corners: what is above belongs to :func:`experiment_label`."""
    vertical, horizontal = corner.split()
    place = (0.03 if horizontal == "left" else 0.97, 0 if vertical == "lower" else 1)
    offset = (0, 8 if vertical == "lower" else -16)
    axes.annotate(text, place, offset, "axes fraction", "offset points", ha=horizontal, fontsize=11.5)


def experiment_label(figure: Figure, sample: Mapping[str, float | None]) -> None:
    """Above the panels, as experiments have it: who shows it, and that it is simulation; pile-up and energy.

    As titles, which the layout keeps room for; ``mplhep.label`` would draw every figure once more to place its text.

    Args:
        figure: Its panels are of one grid.
        sample: ``energy`` (√s, TeV) and ``pileup`` (mean number of interactions); what is not known is left out.
    """
    energy, pileup = sample["energy"], sample["pileup"]
    conditions = [
        *([] if pileup is None else [rf"$\langle$PU$\rangle$ = {pileup:.0f}"]),
        *([] if energy is None else [f"√s = {energy:g} TeV"]),
    ]
    spec = figure.axes[0].get_subplotspec()
    last = spec.get_gridspec().ncols - 1 if spec else 0
    figure.axes[0].set_title(r"$\bf{Toposieve}$ $\it{Simulation}$", loc="left")
    figure.axes[last].set_title(", ".join(conditions), loc="right")


def figure_legend(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend above all panels, from the handles of one of them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is the same to the byte for the same figure."""
    figure.savefig(path, metadata={"Software": None})
