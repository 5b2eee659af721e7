"""ROOT files in the flat layout of Delphes: jagged branches ``EFlowTrack.PT`` with counters ``EFlowTrack_size``.

The same events give the same bytes: nothing in a file comes from chance or a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import awkward as ak
import numpy as np
import uproot

from toposieve import schema
from toposieve.physics.events import Jagged

BASKET_EVENTS = 500
"""Least events in a basket, where the file has as many."""
EVENT_LEAVES = {
    "Number": "int64",
    **{branch.removeprefix("Event."): dtype for branch, dtype in schema.OPTIONAL_BRANCHES.items()},
}
"""Leaves of the ``Event`` collection, of length 1."""


class DelphesWriter:
    """Writes the tree of a file that :func:`delphes_file` has opened.

    Args:
        tree: uproot's tree.
    """

    def __init__(self, tree: Any) -> None:
        """Nothing waits yet."""
        self._tree = tree
        self._waiting: list[ak.Array] = []

    def add(self, events: Mapping[str, Jagged]) -> None:
        """Append events: the collections of ``schema.DELPHES_LEAVES`` and ``Event``."""
        self._waiting.append(ak.zip({name: _records(jagged) for name, jagged in events.items()}, depth_limit=1))
        # What is left at the end goes into the last basket: it must not be a small one.
        if sum(map(len, self._waiting)) >= 2 * BASKET_EVENTS:
            waiting = ak.concatenate(self._waiting)
            while len(waiting) >= 2 * BASKET_EVENTS:
                self._write(waiting[:BASKET_EVENTS])
                waiting = waiting[BASKET_EVENTS:]
            self._waiting = [waiting]

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._write(ak.concatenate(self._waiting))
            self._waiting = []

    def _write(self, events: ak.Array) -> None:
        self._tree.extend({name: events[name] for name in ak.fields(events)})


@contextmanager
def delphes_file(path: Path, uuid: UUID, date: datetime) -> Iterator[DelphesWriter]:
    """Create a ROOT file with an empty tree, and write what the block adds.

    Args:
        path: The file, replaced if it exists. Its name is not in its content.
        uuid: What ROOT shall know it by.
        date: When it shall seem to have been written, from 1995 to 2058.
    """
    with (
        _dated(date),
        # Given a stream instead of a path, uproot has no name to write into the file: ours is one for the moment.
        path.open("w+b") as stream,
        closing(uproot.recreate(stream, compression=uproot.ZLIB(1), uuid_function=lambda: uuid)) as file,
    ):
        tree = file.mktree(
            schema.TREE_NAME,
            _branch_types(),
            counter_name=lambda counted: f"{counted}_size",
            field_name=lambda outer, inner: f"{outer}.{inner}",
        )
        writer = DelphesWriter(tree)
        yield writer
        writer.flush()


@contextmanager
def _dated(date: datetime) -> Iterator[None]:
    """Let uproot write this date wherever it would write that of today: it has no option for it."""
    to_code = uproot._util.datetime_to_code
    uproot._util.datetime_to_code = lambda _: to_code(date)
    try:
        yield
    finally:
        uproot._util.datetime_to_code = to_code


def event_collection(first_number: int, weights: np.ndarray, pileup: np.ndarray) -> Jagged:
    """The ``Event`` collection: numbers counted on from ``first_number``, weights, and pile-up interactions."""
    values = {"Number": first_number + np.arange(len(weights)), "Weight": weights, "PileUp": pileup}
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
