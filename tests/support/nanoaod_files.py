"""Writes small ROOT files in the flat layout of NanoAOD, and damages ROOT files on purpose."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

TREE = "Events"

EVENTS: list[dict[str, Any]] = [
    {
        "run": 1,
        "event": 2**33,
        "Jet": [
            {"pt": 50.5, "eta": 1.5, "jetId": 6, "puId": True},
            {"pt": 30.0, "eta": -2.0, "jetId": 2, "puId": False},
        ],
        "MET_pt": 20.25,
        "HLT_IsoMu24": True,
        "PSWeight": [1.0, 0.5],
        "covariance": [1.0, 2.0, 3.0],
        "generator": "Pythia8",
    },
    {
        "run": 2**32 - 1,
        "event": 1,
        "Jet": [],
        "MET_pt": 7.5,
        "HLT_IsoMu24": False,
        "PSWeight": [],
        "covariance": [4.0, 5.0, 6.0],
        "generator": "",
    },
    {
        "run": 3,
        "event": 3,
        "Jet": [{"pt": 99.0, "eta": 0.25, "jetId": 255, "puId": True}],
        "MET_pt": 1.0,
        "HLT_IsoMu24": True,
        "PSWeight": [2.0],
        "covariance": [7.0, 8.0, 9.0],
        "generator": "Pythia8 µ",
    },
]
"""What such a file holds, as rows of a DataFrame."""

_JETS = "var * {pt: float32, eta: float32, jetId: uint8, puId: bool}"
_BRANCHES: dict[str, Any] = {
    "run": "uint32",
    "event": "uint64",
    "Jet": ak.types.from_datashape(_JETS, highlevel=False),
    "MET_pt": "float32",
    "HLT_IsoMu24": "bool",
    "PSWeight": ak.types.from_datashape("var * float64", highlevel=False),
    "covariance": np.dtype(("f8", (3,))),
    "generator": "string",
}


def write_nanoaod(path: Path, events: list[dict[str, Any]] = EVENTS, tree: str = TREE) -> Path:
    """Write events, in baskets of two."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with uproot.recreate(path) as file:
        written = file.mktree(tree, _BRANCHES)
        for start in range(0, len(events), 2):
            written.extend(_columns(events[start : start + 2]))
    return path


def _columns(events: list[dict[str, Any]]) -> dict[str, Any]:
    jets = {
        name: ak.values_astype(ak.Array([[jet[name] for jet in event["Jet"]] for event in events]), kind)
        for name, kind in (("pt", "float32"), ("eta", "float32"), ("jetId", "uint8"), ("puId", "bool"))
    }
    flat = {name: [event[name] for event in events] for name in _BRANCHES}
    return {
        "run": np.array(flat["run"], "uint32"),
        "event": np.array(flat["event"], "uint64"),
        "Jet": ak.zip(jets),
        "MET_pt": np.array(flat["MET_pt"], "float32"),
        "HLT_IsoMu24": np.array(flat["HLT_IsoMu24"], bool),
        "PSWeight": ak.values_astype(ak.Array(flat["PSWeight"]), "float64"),
        "covariance": np.array(flat["covariance"], "float64"),
        "generator": ak.Array(flat["generator"]),
    }


def damage_branch(path: Path, tree: str, branch: str, basket: int = 0) -> None:
    """Overwrite the compressed bytes of a basket."""
    with uproot.open(path) as root:
        found = root[tree][branch]
        start, length = int(found.member("fBasketSeek")[basket]), int(found.member("fBasketBytes")[basket])
    content = bytearray(path.read_bytes())
    content[start + length // 2 : start + length] = bytes(length - length // 2)
    path.write_bytes(content)


def write_misfit(path: Path) -> Path:
    """Write a collection of two leaves, ``mu_pt`` of lengths 1 and 0, ``mu_eta`` of 0 and 1."""
    jagged = ak.types.from_datashape("var * float32", highlevel=False)
    with uproot.recreate(path, compression=None) as file:
        tree = file.mktree(TREE, {"mu_pt": jagged, "mu_eta": jagged}, counter_name=lambda _: "mu_n")
        tree.extend({"mu_pt": ak.Array([[1.0], []]), "mu_eta": ak.Array([[1.0], []])})
    with uproot.open(path) as root:
        branch = root[TREE]["mu_eta"]
        start, key = int(branch.member("fBasketSeek")[0]), int(branch.basket(0).member("fKeylen"))
    content = path.read_bytes()
    place = content.index(struct.pack(">ii", key, key + 4), start)  # where the two entries begin
    path.write_bytes(content[:place] + struct.pack(">ii", key, key) + content[place + 8 :])
    return path
