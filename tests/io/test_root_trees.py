from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from support.delphes_files import write_events
from support.events import random_events
from support.nanoaod_files import write_nanoaod
from toposieve import schema
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.io.root_trees import Column, open_tree, tree_columns
from toposieve.io.store import Key

JAGGED = ak.types.from_datashape("var * float32", highlevel=False)


def key(path: Path) -> Key:
    return Key(str(path.parent), path.name)


def chosen(path: Path, name: str | None = None) -> str:
    with open_tree(key(path), name) as tree:
        return str(tree.name)


def columns(path: Path) -> dict[str, Column]:
    with open_tree(key(path)) as tree:
        return tree_columns(tree)


def write_trees(path: Path, *names: str, ntuples: tuple[str, ...] = ()) -> Path:
    with uproot.recreate(path) as file:
        for name in names:
            file.mktree(name, {"n": "int32"}).extend({"n": np.arange(3, dtype=np.int32)})
        for name in ntuples:
            file.mkrntuple(name, {"n": np.arange(3)})
    return path


# --- which tree ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trees", "asked", "expected"),
    [
        (["mini"], None, "mini"),
        (["Runs", "Events"], None, "Events"),
        (["Runs", "Delphes"], None, "Delphes"),
        (["Runs", "Delphes"], "Runs", "Runs"),
        (["folder/tree"], None, "tree"),
        (["folder/tree", "other"], "folder/tree", "tree"),
    ],
)
def test_takes_the_tree_that_is_meant(tmp_path: Path, trees: list[str], asked: str | None, expected: str) -> None:
    assert chosen(write_trees(tmp_path / "a.root", *trees), asked) == expected


def test_asks_which_of_several_trees(tmp_path: Path) -> None:
    path = write_trees(tmp_path / "a.root", "left", "right")
    with pytest.raises(InvalidInputError, match=r"a\.root: several trees, left, right: name one by the option tree$"):
        chosen(path)
    with pytest.raises(InvalidInputError, match=r"no tree middle \(the file has left, right\)"):
        chosen(path, "middle")


def test_a_file_without_a_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"a\.root: no tree at all; replace or remove the file"):
        chosen(write_trees(tmp_path / "a.root"))


@pytest.mark.parametrize(
    ("trees", "ntuples", "asked"),
    [((), ("mine",), None), (("other",), ("mine",), "mine"), (("a", "b"), ("Events",), None)],
)
def test_an_rntuple_is_refused_by_name(
    tmp_path: Path, trees: tuple[str, ...], ntuples: tuple[str, ...], asked: str | None
) -> None:
    path = write_trees(tmp_path / "a.root", *trees, ntuples=ntuples)
    with pytest.raises(InvalidInputError, match=rf"a\.root: {ntuples[0]} is an RNTuple.*write it as a TTree"):
        chosen(path, asked)


# --- columns -------------------------------------------------------------------------------------------------------


def test_collections_of_our_files(tmp_path: Path) -> None:
    found = columns(write_events(tmp_path / "a.root", random_events(1, 2, 5), weights=[1, 2]))
    leaves = {**schema.DELPHES_LEAVES, "Event": {"Weight": "float32"}}
    assert {name: set(column.members) for name, column in found.items() if column.repeated} == {
        name: set(members) for name, members in leaves.items()
    }
    assert {name for name, column in found.items() if column.counter} == {f"{name}_size" for name in leaves}
    assert len(found) == 2 * len(leaves)


def test_collections_of_a_true_delphes_file(delphes_file: Path) -> None:
    found = columns(delphes_file)
    assert {name for name in found if not found[name].repeated} == {name for name in found if found[name].counter}
    assert {"Event", "MissingET", "Electron", "Jet"} < {name for name, column in found.items() if column.repeated}
    assert {"PT", "Eta", "Phi", "fUniqueID", "Particle"} < set(found["Electron"].members)
    assert "Edges" in found["Tower"].members  # the branch is Tower.Edges[4]
    assert not [name for name, column in found.items() if "fBits" in column.members]


def test_collections_of_nanoaod(tmp_path: Path) -> None:
    found = columns(write_nanoaod(tmp_path / "a.root"))
    assert set(found["Jet"].members) == {"pt", "eta", "jetId", "puId"}
    assert {name for name, column in found.items() if column.repeated} == {"Jet"}
    assert {name for name, column in found.items() if column.counter} == {"nJet", "nPSWeight"}
    plain = {"run", "event", "MET_pt", "HLT_IsoMu24", "PSWeight", "covariance", "generator", "nJet", "nPSWeight"}
    assert {name for name, column in found.items() if set(column.members) == {""}} == plain


@pytest.mark.parametrize("counter", ["nmu", "mu_n", "mu_size"])
def test_counters_name_their_collection(tmp_path: Path, counter: str) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"mu_pt": JAGGED, "mu_eta": JAGGED, "muse": JAGGED}, counter_name=lambda _: counter)
    found = columns(tmp_path / "a.root")
    assert {name: list(column.members) for name, column in found.items()} == {
        counter: [""],
        "mu": ["pt", "eta"],
        "muse": [""],
    }


def test_members_without_a_common_counter_make_a_struct(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"vertex.x": "float32", "vertex.n": "int32", "beam.tracks": JAGGED, "beam.energy": "float64"})
    found = columns(tmp_path / "a.root")
    assert list(found["vertex"].members) == ["x", "n"]
    assert not found["vertex"].repeated
    assert list(found["beam"].members) == ["tracks", "energy"]
    assert not found["beam"].repeated


def test_a_branch_of_a_collection_s_name_leaves_its_members_apart(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("t", {"mu": "int32", "mu.x": "float32"})
    assert {name: list(column.members) for name, column in columns(tmp_path / "a.root").items()} == {
        "mu": [""],
        "mu.x": [""],
    }


# --- bad files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0, 3, 100, 0.3, 0.7, -100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_nanoaod(tmp_path / "a.root")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(InvalidInputError, match=r"/a\.root: (cut short|cannot be read as ROOT).*onBadFile=skip"):
        chosen(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"/a\.root: no such file"):
        chosen(tmp_path / "a.root")


def _raise(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [UnavailableError("lhc.example is away"), OSError(errno.EIO, "I/O"), MemoryError()])
def test_errors_of_the_machine_are_not_the_file_s(tmp_path: Path, error: Exception) -> None:
    path = write_nanoaod(tmp_path / "a.root")
    with pytest.raises(type(error)), open_tree(key(path)):
        _raise(error)()
