"""The classes of a dataset, as its manifest says them: three- and four-class datasets may lie side by side."""

from __future__ import annotations

from toposieve.classes import PUBLISHED_CLASSES
from toposieve.io.manifests import Manifest

CLASSES = "classes"
"""In a dataset's manifest: its classes, in the order of their labels."""


def classes_of(dataset: Manifest) -> tuple[str, ...]:
    """The classes of a dataset, in the order of their labels.

    Args:
        dataset: Its manifest; an older one that does not say is of the published three, as all were.
    """
    return tuple(dataset.extra.get(CLASSES, PUBLISHED_CLASSES))
