"""Events as flat arrays: what every physics function takes.

A collection's objects of all events lie behind each other in flat arrays, one per leaf; event ``i`` owns the entries
``offsets[i]:offsets[i + 1]``. GeV, mm and radians throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
AnyArray: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Jagged:
    """One collection of all events.

    Attributes:
        offsets: (n + 1,) int64; event ``i`` owns the entries ``offsets[i]:offsets[i + 1]`` of each leaf.
            It need not start at 0.
        leaves: Leaf name → flat array.
    """

    offsets: IntArray
    leaves: Mapping[str, AnyArray]

    def __len__(self) -> int:
        """Number of events."""
        return len(self.offsets) - 1

    def counts(self) -> IntArray:
        """Objects per event, (n,)."""
        return np.diff(self.offsets)


Events: TypeAlias = Mapping[str, Jagged]
"""Collection → its objects, for every collection of ``schema.DELPHES_LEAVES``."""


@dataclass(frozen=True)
class EventBatch:
    """Consecutive events of one file.

    Attributes:
        entry_start: Entry of the first event in the file.
        events: The needed leaves; the muon collection is always called ``schema.MUON``.
        weight: (n,) float32, 1 where the file has no weights.
        pileup: Pile-up interactions, (n,) int32, ``schema.NO_PILEUP`` where the file does not say.
    """

    entry_start: int
    events: Events
    weight: NDArray[np.float32]
    pileup: NDArray[np.int32]


class Objects(NamedTuple):
    """What kernels see of a collection: contiguous and read-only, so that one compiled version serves all callers."""

    offsets: IntArray
    pt: NDArray[np.float32]
    eta: NDArray[np.float32]
    phi: NDArray[np.float32]


def count_events(events: Events) -> int:
    """Number of events, after a check that the collections fit together.

    Raises:
        InvalidInputError: A collection or leaf is missing, or collections hold different numbers of events, or an
            event has no or several ``MissingET``.
    """
    for collection, leaves in schema.DELPHES_LEAVES.items():
        missing = [leaf for leaf in leaves if collection not in events or leaf not in events[collection].leaves]
        if missing:
            raise InvalidInputError(f"events have no {collection}.{missing[0]}; every leaf of the schema is needed")
    lengths = {collection: len(events[collection]) for collection in schema.DELPHES_LEAVES}
    if len(set(lengths.values())) != 1:
        raise InvalidInputError(f"collections hold different numbers of events: {lengths}; read them over one range")
    wrong = np.flatnonzero(events["MissingET"].counts() != 1)
    if len(wrong):
        raise InvalidInputError(
            f"MissingET has length {events['MissingET'].counts()[wrong[0]]} in event {wrong[0]}; it must be 1"
        )
    return lengths["MissingET"]


def column(events: Events, collection: str, leaf: str) -> AnyArray:
    """A leaf as a contiguous, read-only array of the schema's type."""
    return _read_only(events[collection].leaves[leaf], schema.DELPHES_LEAVES[collection][leaf])


def objects(events: Events, collection: str) -> Objects:
    """A collection's kinematics for a kernel; ``pt`` is ET where the collection has no PT."""
    pt = "PT" if "PT" in schema.DELPHES_LEAVES[collection] else "ET"
    return Objects(
        _read_only(events[collection].offsets, "int64"),
        column(events, collection, pt),
        column(events, collection, "Eta"),
        column(events, collection, "Phi"),
    )


def _read_only(values: AnyArray, dtype: str) -> AnyArray:
    view = np.ascontiguousarray(values, dtype=dtype).view()
    view.flags.writeable = False
    return view
