"""Writes small ROOT files in the flat layout of Delphes, right or wrong on purpose, and reads true ones naively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

from support.events import to_events
from support.reference import Event
from toposieve import schema
from toposieve.physics.events import Jagged

BASKET_EVENTS = 500
FAST = uproot.ZLIB(1)
TRUE_BRANCHES = 1138
OTHER_JETS = [
    f"{kind}{radius}"
    for kind in ("GenJet", "ParticleFlowJet", "CaloJet", "TrackJet")
    for radius in ("02", "04", "08", "15")
]
MEAN_OBJECTS = {
    "EFlowTrack": 280,
    "EFlowPhoton": 190,
    "EFlowNeutralHadron": 90,
    "Electron": 0.6,
    "MuonTight": 0.6,
    "Jet": 5,
}


def write_events(
    path: Path, events: Sequence[Event], weights: Sequence[float] | None = None, compression: Any = FAST
) -> Path:
    """Write a good file of the given events."""
    return write_collections(path, collections(events, weights), compression=compression)


def write_wide(path: Path, events: Sequence[Event]) -> Path:
    """Write events with weights, muons of the plain kind, and as many branches as a true file has.

    What this project does not read are jets of other radii, as in the true one.
    """
    content = collections(events, weights=[0.5 + number for number in range(len(events))])
    content["Muon"] = content.pop(schema.MUON)
    return write_collections(path, widened(content))


def widened(content: Mapping[str, Jagged]) -> dict[str, Jagged]:
    """The collections, and so many others that there are as many branches as in a true file."""
    wide = dict(content)
    needed = sum(len(jagged.leaves) + 1 for jagged in content.values())  # with the counters
    leaves, more = divmod(TRUE_BRANCHES - needed - len(OTHER_JETS), len(OTHER_JETS))
    jets = content["Jet"]
    for number, name in enumerate(OTHER_JETS):
        members = {f"Member{member}": jets.leaves["PT"] + member for member in range(leaves + (number < more))}
        wide[name] = Jagged(jets.offsets, members)
    return wide


def collections(events: Sequence[Event], weights: Sequence[float] | None = None) -> dict[str, Jagged]:
    """What :func:`write_collections` takes, to be spoilt before it is written."""
    found = dict(to_events(events))
    if weights is not None:
        found["Event"] = Jagged(np.arange(len(weights) + 1), {"Weight": np.asarray(weights, dtype=np.float32)})
    return found


def write_collections(
    path: Path, content: Mapping[str, Jagged], tree: str = schema.TREE_NAME, compression: Any = FAST
) -> Path:
    """Write whatever collections and leaves are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: _records(jagged) for name, jagged in content.items()}
    with uproot.recreate(path, compression=compression) as file:
        written = file.mktree(
            tree,
            {name: records.type.content for name, records in arrays.items()},
            counter_name=lambda counted: f"{counted}_size",
            field_name=lambda outer, inner: f"{outer}.{inner}",
        )
        total = len(next(iter(arrays.values())))
        for start in range(0, total, BASKET_EVENTS):
            written.extend({name: records[start : start + BASKET_EVENTS] for name, records in arrays.items()})
    return path


def with_leaf(content: Mapping[str, Jagged], collection: str, leaf: str, values: Any) -> dict[str, Jagged]:
    """The collections with one leaf's flat values replaced, or taken out where ``values`` is None."""
    leaves = {**content[collection].leaves, leaf: values}
    kept = {name: array for name, array in leaves.items() if array is not None}
    return {**content, collection: Jagged(content[collection].offsets, kept)}


def read_naively(path: Path, muon: str = schema.MUON) -> list[Event]:
    """Events of a file as plain lists, one branch after the other; independent of ``toposieve.io``."""
    with uproot.open(path) as file:
        tree = file[schema.TREE_NAME]
        leaves = {
            collection: {
                leaf: tree[f"{muon if collection == schema.MUON else collection}.{leaf}"].array().to_list()
                for leaf in names
            }
            for collection, names in schema.DELPHES_LEAVES.items()
        }
        entries = tree.num_entries
    return [
        {name: {leaf: values[entry] for leaf, values in columns.items()} for name, columns in leaves.items()}
        for entry in range(entries)
    ]


def realistic_collections(seed: int, events: int) -> dict[str, Jagged]:
    """As many objects an event as simulated ones have, in random directions: for speed, not for physics."""
    rng = np.random.default_rng(seed)
    content = {}
    for collection, leaves in schema.DELPHES_LEAVES.items():
        mean = MEAN_OBJECTS.get(collection)
        counts = np.ones(events, dtype=np.int64) if mean is None else rng.poisson(mean, events)
        total = int(counts.sum())
        content[collection] = Jagged(
            np.concatenate([[0], np.cumsum(counts)]),
            {leaf: _random_values(rng, collection, leaf, total).astype(dtype) for leaf, dtype in leaves.items()},
        )
    return content


def _random_values(rng: np.random.Generator, collection: str, leaf: str, total: int) -> np.ndarray:
    if leaf in ("PT", "ET", "MET"):
        return rng.exponential(2, total) + (25 if collection in ("Electron", "MuonTight", "Jet", "MissingET") else 0.4)
    if leaf == "Eta":
        return rng.uniform(-2.5, 2.5, total)
    if leaf == "Phi":
        return rng.uniform(-3.14, 3.14, total)
    if leaf in ("Charge", "BTag"):
        return rng.integers(0, 2, total)
    return rng.normal(0, 1, total)


def _records(jagged: Jagged) -> ak.Array:
    counts = np.diff(jagged.offsets)
    # A file's leaves may be spoilt so that they do not fit together; uproot writes only what does.
    return ak.zip({leaf: ak.unflatten(values, counts) for leaf, values in jagged.leaves.items()})
