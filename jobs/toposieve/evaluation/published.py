"""Published results on the same task, to put ours beside (arXiv:1909.10389, and its notebooks for the tree ensembles).

They were measured on another sample, of 856,090 events; ours may be a few hundred. Read them as the level to expect,
not as a test.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """One published classifier."""

    name: str
    auc: dict[str, float | None]
    """Sample → area under the ROC curve; None where not published."""
    accuracy: float
    hardware: str
    """Where and how long it trained."""
    counterpart: str | None = None
    """Our model of the same architecture."""


PUBLISHED: tuple[PublishedResult, ...] = (
    PublishedResult("HLF network", {"qcd": 0.9874, "ttbar": 0.9855, "wjets": 0.9813}, 0.9156, "5 min, T4", "hlf"),
    PublishedResult(
        "Inclusive, GRU", {"qcd": 0.9950, "ttbar": 0.9969, "wjets": 0.9947}, 0.9564, "2 h 02, T4", "inclusive"
    ),
    PublishedResult(
        "Inclusive, LSTM", {"qcd": 0.9952, "ttbar": 0.9968, "wjets": 0.9947}, 0.9572, "4 h 27, T4", "inclusive_lstm"
    ),
    PublishedResult("Inclusive, Transformer", {"qcd": 0.9936, "ttbar": 0.9948, "wjets": 0.9923}, 0.9462, "17 h 27, T4"),
    PublishedResult("Random forest", {"qcd": None, "ttbar": 0.9824, "wjets": 0.9769}, 0.9078, "Spark"),
    PublishedResult("XGBoost", {"qcd": None, "ttbar": 0.9865, "wjets": 0.9830}, 0.9205, "Spark"),
    PublishedResult("LightGBM", {"qcd": None, "ttbar": 0.9860, "wjets": 0.9823}, 0.9186, "Spark"),
)
