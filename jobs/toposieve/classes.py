"""The classes that events are told apart by: all that is said of one, in one place. Standard library only.

Another class is another entry, at the end: simulation, selection, balance, models, report and form follow. Which of
them a dataset has is chosen when it is made, and said in its manifest: who reads it asks that, and not this table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class EventClass:
    """A process, and the sample of its events."""

    title: str
    """In plots: text with LaTeX."""
    colour: str
    """In plots: of the palette of Okabe and Ito, which every kind of colour vision tells apart."""
    process: tuple[str, ...]
    """Pythia's settings for it."""
    leptons: str = "prompt"
    """Where those come from that events are kept for: ``prompt``, from W, Z and tau, or ``heavy_flavour``, from c and b
    hadrons, which take another generator."""
    file_share: float = 1.0
    """Events in its files, in units of ``events_per_file``: fewer where an event takes longer."""
    btag_mask: int = 1
    """Default of the bits of Jet.BTag that count."""
    words: str = ""
    """In a sentence, where its name alone would not do."""


CLASSES: dict[str, EventClass] = {
    "qcd": EventClass(
        title="QCD",
        colour="#D55E00",
        process=("HardQCD:all = on", "PhaseSpace:pTHatMin = 25"),
        leptons="heavy_flavour",
        file_share=0.4,
        words="QCD multijets",
    ),
    "ttbar": EventClass(
        title=r"$t\bar{t}$",
        colour="#0072B2",
        process=("Top:gg2ttbar = on", "Top:qqbar2ttbar = on"),
        words="top-quark pairs",
    ),
    "wjets": EventClass(
        title=r"$W$+jets",
        colour="#009E73",
        process=("WeakSingleBoson:ffbar2W = on", "24:onMode = off", "24:onIfAny = 11 13 15"),
        words="a W boson with jets",
    ),
}
"""In the order of forms, and of the labels of a dataset that has them all."""

PUBLISHED_CLASSES: tuple[str, ...] = ("qcd", "ttbar", "wjets")
"""Of arXiv:1909.10389, and of datasets of versions of this project whose manifests did not say theirs."""


def labels_of(classes: Sequence[str]) -> dict[str, int]:
    """Each class of a dataset → its label.

    >>> labels_of(["qcd", "zjets"])
    {'qcd': 0, 'zjets': 1}
    """
    return {name: label for label, name in enumerate(classes)}
