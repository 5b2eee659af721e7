"""ROOT files in the flat layout of Delphes: jagged branches ``EFlowTrack.PT`` with counters ``EFlowTrack_size``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import awkward as ak
import numpy as np
import uproot

from toposieve import schema
from toposieve.physics.events import Jagged

BASKET_EVENTS = 500
"""Least events in a basket, where the file has as many."""
EVENT_LEAVES = {"Number": "int64", "Weight": "float32"}
"""Leaves of the ``Event`` collection, of length 1."""


class DelphesWriter:
    """Writes one ROOT file; use it as a context manager.

    Args:
        path: The file, replaced if it exists.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; the file is made by the first events."""
        self._path = path
        self._waiting: list[ak.Array] = []

    def __enter__(self) -> DelphesWriter:
        """Create the file and its tree."""
        self._file = uproot.recreate(self._path, compression=uproot.ZLIB(1))
        self._tree = self._file.mktree(
            schema.TREE_NAME,
            _branch_types(),
            counter_name=lambda counted: f"{counted}_size",
            field_name=lambda outer, inner: f"{outer}.{inner}",
        )
        return self

    def add(self, events: Mapping[str, Jagged]) -> None:
        """Append events: the collections of ``schema.DELPHES_LEAVES`` and ``Event``."""
        self._waiting.append(ak.zip({name: _records(jagged) for name, jagged in events.items()}, depth_limit=1))
        # What is left at the end goes into the last basket: it must not be a small one.
        if sum(map(len, self._waiting)) >= 2 * BASKET_EVENTS:
            waiting = ak.concatenate(self._waiting)
            self._write(waiting[:BASKET_EVENTS])
            self._waiting = [waiting[BASKET_EVENTS:]]

    def _write(self, events: ak.Array) -> None:
        self._tree.extend({name: events[name] for name in ak.fields(events)})

    def __exit__(self, error: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """Write what waits, and close."""
        if error is None and self._waiting:
            self._write(ak.concatenate(self._waiting))
        self._file.close()


def event_collection(first_number: int, weights: np.ndarray) -> Jagged:
    """The ``Event`` collection: numbers counted on from ``first_number``, and weights."""
    values = {"Number": first_number + np.arange(len(weights)), "Weight": weights}
    leaves = {leaf: values[leaf].astype(dtype) for leaf, dtype in EVENT_LEAVES.items()}
    return Jagged(np.arange(len(weights) + 1), leaves)


def _branch_types() -> dict[str, ak.types.Type]:
    collections = {"Event": EVENT_LEAVES, **schema.DELPHES_LEAVES}
    return {
        collection: ak.types.from_datashape(
            "var * {" + ", ".join(f"{leaf}: {dtype}" for leaf, dtype in leaves.items()) + "}", highlevel=False
        )
        for collection, leaves in collections.items()
    }


def _records(collection: Jagged) -> ak.Array:
    return ak.unflatten(ak.zip(dict(collection.leaves)), collection.counts())
