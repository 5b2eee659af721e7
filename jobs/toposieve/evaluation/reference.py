"""Published results on the same task, to put ours beside (arXiv:1909.10389, and its notebooks for the tree ensembles).

They were measured on another sample, of 856,090 events; ours may be a few hundred. Read them as the level to expect,
not as a test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources


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
    """Our model of the same architecture, put beside the best published one."""


_RESULTS = resources.files("toposieve.evaluation").joinpath("published_results.json")

PUBLISHED = tuple(PublishedResult(**each) for each in json.loads(_RESULTS.read_text("utf-8")))
