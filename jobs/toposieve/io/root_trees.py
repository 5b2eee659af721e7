"""ROOT trees: which tree of a file, and the columns that its branches make.

What belongs together becomes one column. A collection is a list of structs: ``Electron`` of the branches
``Electron.PT`` and ``Electron.Eta``, split (true Delphes files) or flat (ours), and ``Jet`` of ``nJet`` and ``Jet_pt``
(NanoAOD). Members of a single object, which share no counter, make a struct; any other branch is a column of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uproot

from toposieve.errors import InvalidInputError, RefusedError
from toposieve.io.names import printable
from toposieve.io.root_faults import bad_file, check_length
from toposieve.io.root_files import open_root, parse
from toposieve.io.store import Key

REMEDY = "replace or remove the file, or go on without it by the option onBadFile=skip"

USUAL_TREES = ("Delphes", "Events")
"""Trees that are taken where a file has several and none is named."""

# How a counter names its collection: nJet, jet_n, Jet_size.
_COUNTER = re.compile(r"n(?P<after>.+)|(?P<before>.+)_(n|size)")

# Status bits of ROOT's objects are no data. Where another object refers to theirs, some are longer than the rest.
_BOOKKEEPING = "fBits"


@dataclass(frozen=True)
class Column:
    """Branches of a tree that make one column of a table.

    Attributes:
        members: Name of the struct's field → branch; "" alone where the column is a branch and no struct.
        repeated: Whether the column is a collection: a list of structs, as many as the counter says.
        counter: Whether it only counts another column; left out unless it is named.
    """

    members: Mapping[str, uproot.TBranch]
    repeated: bool
    counter: bool


@contextmanager
def open_tree(key: Key, name: str | None = None) -> Iterator[uproot.TTree]:
    """A tree of a file, open while the block runs.

    Args:
        key: The file.
        name: The tree, with its folder if it has one; None takes the only one, or that of ``USUAL_TREES``.

    Raises:
        InvalidInputError: The file cannot be read, or has no such tree; whatever goes wrong in the block is sorted too.
    """
    file = printable(str(key))
    with bad_file(file, REMEDY), open_root(key) as root:
        stat = key.stat()
        if stat is not None:
            check_length(file, stat.size, root.file.fEND, REMEDY)
        try:
            yield _tree(root, name)
        except RefusedError:
            raise
        except InvalidInputError as error:
            raise InvalidInputError(f"{file}: {error}") from error.__cause__


def _tree(root: Any, name: str | None) -> uproot.TTree:
    classes = dict(root.classnames(cycle=False))
    trees = [key for key, kind in classes.items() if kind.startswith(("TTree", "TNtuple"))]
    ntuples = [key for key, kind in classes.items() if "RNTuple" in kind]
    chosen = name or _usual_tree(trees, ntuples)
    if chosen in trees:
        return parse(root, chosen)
    if chosen in ntuples:
        raise InvalidInputError(f"{chosen} is an RNTuple, which cannot be read yet: write it as a TTree, or {REMEDY}")
    found = ", ".join(trees[:10]) or "no tree at all"
    if chosen:
        raise InvalidInputError(
            f"no tree {chosen} (the file has {found}): name another by the option tree, or {REMEDY}"
        )
    raise InvalidInputError(f"several trees, {found}: name one by the option tree" if trees else f"{found}; {REMEDY}")


def _usual_tree(trees: Sequence[str], ntuples: Sequence[str]) -> str:
    if len(trees) == 1 or (not trees and len(ntuples) == 1):
        return (*trees, *ntuples)[0]
    return next((name for name in USUAL_TREES if name in (*trees, *ntuples)), "")


# --- columns -------------------------------------------------------------------------------------------------------


def tree_columns(tree: uproot.TTree) -> dict[str, Column]:
    """Every column of a tree, in its order, by name."""
    groups: dict[str, dict[str, uproot.TBranch]] = {}
    counters = set()
    for branch in tree.itervalues(recursive=True):
        counters.add(_counter(branch))
        if not branch.branches:
            column, member = _place(branch)
            if member != _BOOKKEEPING:
                groups.setdefault(column, {})[member] = branch
    collections = {name for name, members in groups.items() if "" not in members}
    counters |= {f"{name}_size" for name in collections}  # Delphes writes the length of a split collection twice
    columns = {}
    for name, members in groups.items():
        if name in collections:
            lengths = {_counter(branch) for branch in members.values()}
            columns[name] = Column(members, repeated=len(lengths) == 1 and None not in lengths, counter=False)
        else:  # where a branch has a collection's name, its members keep theirs
            columns.update(
                {branch.name: Column({"": branch}, False, branch.name in counters) for branch in members.values()}
            )
    return columns


def _counter(branch: uproot.TBranch) -> str | None:
    leaf = branch.count_leaf
    return None if leaf is None else str(leaf.member("fName"))


def _place(branch: uproot.TBranch) -> tuple[str, str]:
    """The column that a branch belongs to, and its name there."""
    name = branch.name.partition("[")[0].rstrip(".")  # Delphes: Tower.Edges[4]
    if not branch.top_level:
        column = branch.parent.name.rstrip(".")
        return column, name.removeprefix(f"{column}.")
    if "." in name:
        column, _, member = name.partition(".")
        return column, member
    counted = _COUNTER.fullmatch(_counter(branch) or "")
    collection = counted and (counted["after"] or counted["before"])
    if collection and name.startswith(f"{collection}_"):
        return collection, name.removeprefix(f"{collection}_")
    return name, ""
