"""The report's plots of what the events look like: scores, features and the cutflow. Draws figures, writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import hist
import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogitFormatter, LogitLocator, MaxNLocator, NullLocator
from scipy.special import expit, logit

from toposieve import schema
from toposieve.evaluation.metrics import FloatArray, IntArray
from toposieve.evaluation.style import (
    CLASS_COLOURS,
    CLASS_LABELS,
    feature_label,
    figure_legend,
    model_label,
    panel_label,
    panels,
)

Binning = hist.axis.Regular | hist.axis.Variable

BINS = 40
"""Most bins of a histogram; few events get fewer."""

TAIL = 0.005
"""Share of the events beyond each end of a feature's axis; they are added to the end bins."""

FEATURE_SYMBOLS = {
    "HT": r"$H_T$",
    "MET": r"$p_T^{miss}$",
    "phiMET": r"$\phi(p_T^{miss})$",
    "MT": r"$m_T$",
    "nJets": "number of jets",
    "nBjets": "number of b-tagged jets",
    "LepPt": r"lepton $p_T$",
    "LepEta": r"lepton $\eta$",
    "LepPhi": r"lepton $\phi$",
    "LepIsoCh": "isolation, charged",
    "LepIsoGamma": "isolation, photons",
    "LepIsoNeu": "isolation, neutral",
    "LepCharge": "lepton charge",
    "LepIsEle": "lepton is an electron",
    "particles": "number of particles",
    "pileup": "pile-up interactions",
}

COUNTED_FEATURES = frozenset({"nJets", "nBjets", "LepCharge", "LepIsEle"})
"""Features with whole values: a bin for each, as far as possible."""

CUT_LABELS = {
    "events": "raw events",
    "lepton_pt": "lepton above threshold",
    "isolated_lepton": "isolated lepton",
    "balanced": "balanced",
    "train": "training split",
    "validation": "validation split",
    "test": "test split",
}
"""Plain names of the cutflow's steps."""


def score_distributions(
    scores: Mapping[str, npt.NDArray[Any]], labels: IntArray, weights: FloatArray, classes: Sequence[str]
) -> Figure:
    """Each model's score of each class, by true class, normalised to one for each true class.

    The axis is that of the logit, log(p / (1 - p)): both ends are seen, where a trigger's threshold lies.
    """
    figure, axes = panels(len(scores), len(classes), 2.9 if len(scores) < 5 else 2.2, sharex=True, sharey=True)
    cells = [(model, label, sample) for model in scores for label, sample in enumerate(classes)]
    axis_of_scores = _score_axis(scores.values(), _bins(len(labels), len(classes)))
    smallest_share = 0.3 / max(1, np.bincount(labels, minlength=1).max())  # a bin of one event stands clear of the axis
    for (model, label, sample), axis in zip(cells, axes, strict=True):
        _histogram_by_class(axis, axis_of_scores, scores[model][:, label], labels, weights, classes)
        axis.set(yscale="log", ylim=(smallest_share, 5), xlabel="", xscale="logit")
        axis.xaxis.set_major_locator(LogitLocator(nbins=5))
        axis.xaxis.set_major_formatter(LogitFormatter(one_half="0.5"))
        axis.xaxis.set_minor_locator(NullLocator())
        panel_label(axis, f"{model_label(model)} for {CLASS_LABELS[sample]}")
    for axis in axes[-len(classes) :]:
        axis.set_xlabel("score")
    for axis in axes[:: len(classes)]:
        axis.set_ylabel("share of events")
    figure_legend(figure, axes[0], columns=len(classes))
    return figure


def _score_axis(scores: Iterable[npt.NDArray[Any]], bins: int) -> hist.axis.Variable:
    """Bins that are equally wide in the logit, as far as scores of four-byte precision tell 1 from less."""
    closest = float(np.finfo(np.float32).eps)
    ends = np.array([np.quantile(of_model, [TAIL, 1 - TAIL]) for of_model in scores])  # (models, 2)
    low, high = logit(np.clip([ends[:, 0].min(), ends[:, 1].max()], closest, 1 - closest))
    return hist.axis.Variable(expit(np.linspace(min(low, -1), max(high, 1), bins + 1)))


def feature_distributions(
    features: npt.NDArray[np.float32],
    particles: IntArray,
    labels: IntArray,
    weights: FloatArray,
    classes: Sequence[str],
) -> Figure:
    """The high-level features in physical units, and the number of particles, by class.

    Args:
        features: (events, 14), GeV and radians.
        particles: (events,) number of particles; not drawn when empty.
        labels: (events,).
        weights: (events,).
        classes: In the order of their labels.
    """
    columns: dict[str, npt.NDArray[Any]] = {
        name: features[:, place] for place, name in enumerate(schema.HIGH_LEVEL_FEATURES)
    }
    if len(particles):
        columns["particles"] = particles
    per_row = 3
    figure, axes = panels(math.ceil(len(columns) / per_row), per_row, 2.5)
    for axis in axes[len(columns) :]:
        axis.set_axis_off()
    for (name, values), axis in zip(columns.items(), axes, strict=False):
        _histogram_by_class(axis, _feature_axis(name, values, len(classes)), values, labels, weights, classes)
        axis.set_xlabel(feature_label(name, FEATURE_SYMBOLS.get(name, "number of particles")))
        if name in COUNTED_FEATURES:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for axis in axes[::per_row]:
        axis.set_ylabel("share of events")
    figure_legend(figure, axes[0], columns=len(classes))
    return figure


def _feature_axis(name: str, values: npt.NDArray[Any], classes: int) -> hist.axis.Regular:
    if not len(values):
        return hist.axis.Regular(1, 0.0, 1.0)
    if name in COUNTED_FEATURES:
        return _whole_number_axis(values, BINS)
    if values.dtype.kind == "i":
        return _whole_number_axis(values, _bins(len(values), classes))
    if schema.UNITS.get(name) == "rad":
        return hist.axis.Regular(_bins(len(values), classes), -math.pi, math.pi)
    low, high = np.quantile(values, [TAIL, 1 - TAIL])
    return hist.axis.Regular(_bins(len(values), classes), low, high if high > low else low + 1.0)


def _whole_number_axis(values: npt.NDArray[Any], most_bins: int) -> hist.axis.Regular:
    """Bins of the same number of whole values each."""
    low, high = round(values.min()), round(values.max())
    width = math.ceil((high - low + 1) / most_bins)
    bins = math.ceil((high - low + 1) / width)
    return hist.axis.Regular(bins, low - 0.5, low - 0.5 + bins * width)


def _bins(events: int, classes: int) -> int:
    """Rice's rule for the events of one class."""
    return int(np.clip(2 * math.cbrt(events / classes), 8, BINS))


def _histogram_by_class(
    axis: Axes,
    binning: Binning,
    values: npt.NDArray[Any],
    labels: IntArray,
    weights: FloatArray,
    classes: Sequence[str],
) -> None:
    for label, sample in enumerate(classes):
        histogram = share_histogram(binning, values[labels == label], weights[labels == label])
        options = {"histtype": "step", "color": CLASS_COLOURS[sample], "label": CLASS_LABELS[sample], "yerr": True}
        mplhep.histplot(histogram, ax=axis, flow="none", **options)
    axis.set_xlim(binning.edges[0], binning.edges[-1])


def share_histogram(binning: Binning, values: npt.NDArray[Any], weights: FloatArray) -> hist.Hist[Any]:
    """Weighted share of events in each bin, with variances; the end bins take what lies beyond.

    Weights that do not add up to more than 0 have no shares: every bin is 0.
    """
    histogram = hist.Hist(binning, storage=hist.storage.Weight())
    histogram.fill(np.clip(values, binning.centers[0], binning.centers[-1]), weight=weights)
    total = histogram.sum().value
    return histogram / total if total > 0 else histogram * 0


def cutflow(steps: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Figure:
    """Events of each sample left after each step, on a log axis.

    Args:
        steps: As in ``metrics.json``: name and, per class, events.
        classes: In the order of their labels.
    """
    figure, (axis,) = panels(1, 1, 3.8)
    width = 0.8 / len(classes)
    places = np.arange(len(steps))
    for number, sample in enumerate(classes):
        events = [step["events"].get(sample, 0) for step in steps]
        bars = axis.bar(
            places + (number - (len(classes) - 1) / 2) * width,
            events,
            width,
            color=CLASS_COLOURS[sample],
            label=CLASS_LABELS[sample],
        )
        axis.bar_label(bars, [f"{count:,}" for count in events], fontsize=8, padding=2)
    axis.set(yscale="log", ylabel="events, unweighted", ylim=(0.5, None))
    axis.set_ylim(top=axis.get_ylim()[1] * 8)  # room for the legend
    axis.set_xticks(places, [CUT_LABELS.get(step["name"], step["name"]) for step in steps])
    axis.tick_params(axis="x", which="both", length=0)
    axis.legend(ncols=len(classes))
    return figure
