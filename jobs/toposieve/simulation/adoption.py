"""Files of the simulation: made once, and found again by the next run if this one does not come to its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toposieve.io.manifests import Unit
from toposieve.io.store import Key
from toposieve.io.units import adopt_or_make


@dataclass(frozen=True)
class Finished:
    """A finished file, and who made it."""

    unit: Unit
    adopted: bool
    """Whether an earlier run did, which has not published it."""


def finish(folder: Key, name: str, make: Callable[[Path], Unit], *, adopt: bool) -> Finished:
    """See :func:`~toposieve.io.units.adopt_or_make`."""
    made = False

    def note(path: Path) -> Unit:
        nonlocal made
        made = True
        return make(path)

    unit = adopt_or_make(folder, name, note, adopt=adopt)
    return Finished(unit, adopted=not made)
