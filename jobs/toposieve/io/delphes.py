"""Delphes ROOT files: inspect, cut into ranges of entries, and read the needed leaves into physics events.

Reads true Delphes files (split TClonesArrays) and files with flat branches of the same leaf names, as uproot writes.
Whatever is wrong with a file is an InvalidInputError that names the file, the leaf or entry, and the remedy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import adler32
from toposieve.io.root_arrays import entry_bytes, read_arrays
from toposieve.io.root_faults import bad_file, check_length
from toposieve.io.root_files import open_root, parse
from toposieve.io.store import Key
from toposieve.physics.events import EventBatch, Jagged

REMEDY = "replace or remove the file, or pass --on-bad-file quarantine to go on without it"
Leaf: TypeAlias = tuple[NDArray[np.int64], NDArray[Any]]
"""Offsets, (events + 1,), and flat values."""

BATCH_BYTES = 16 << 20
"""Of the needed leaves, uncompressed, this much is read at a time: about 1,000 events, or 70 at a pile-up of 200."""

_CARD_LINES = {
    "EFlowTrack": "HCal/eflowTracks EFlowTrack Track",
    "EFlowPhoton": "ECal/eflowPhotons EFlowPhoton Tower",
    "EFlowNeutralHadron": "HCal/eflowNeutralHadrons EFlowNeutralHadron Tower",
    "Electron": "UniqueObjectFinder/electrons Electron Electron",
    schema.MUON: "UniqueObjectFinder/muons Muon Muon",
    "Jet": "UniqueObjectFinder/jets Jet Jet",
    "MissingET": "MissingET/momentum MissingET MissingET",
}
"""Collection → what writes it, as the cards that come with Delphes name it."""

_WEIGHT_REMEDY = f"write the nominal weight of each event, and no other, as {schema.WEIGHT_BRANCH}; or {REMEDY}"


@dataclass(frozen=True)
class SourceFile:
    """A ROOT file that passed inspection."""

    id: str
    """Path under ``raw/``; its first component is the sample."""
    key: Key
    bytes: int
    version: str
    """As its store had it when it was inspected."""
    checksum: str
    """Adler-32."""
    entries: int
    muon: str
    """The file's muon collection."""
    optional: tuple[str, ...]
    """Which of ``schema.OPTIONAL_BRANCHES`` it has."""

    @property
    def has_weight(self) -> bool:
        """Whether it says what its events weigh."""
        return schema.WEIGHT_BRANCH in self.optional

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the output should know about this file."""
        other_muons = (f"no {schema.MUON}; muons are those of {self.muon}",) * (self.muon != schema.MUON)
        return (*other_muons, *(schema.UNWEIGHTED,) * (self.entries > 0 and not self.has_weight))


def inspect_file(raw: Key, file_id: str) -> SourceFile:
    """Check a file's tree, branches and types without reading its events.

    Args:
        raw: The folder of all raw files.
        file_id: Path of the file under ``raw``.

    Raises:
        InvalidInputError: The file is unreadable, cut short or not ROOT, or a tree, branch or type is not as needed.
    """
    key = raw / file_id
    with bad_file(file_id, REMEDY):
        stat = key.stat()
        if stat is None:
            raise FileNotFoundError(file_id)
        if stat.size == 0:
            raise InvalidInputError(f"{file_id}: the file is empty; {REMEDY}")
        with _open_and_sum(key) as (root, checksum):
            check_length(file_id, stat.size, root.file.fEND, REMEDY)
            tree = _tree(file_id, root)
            branches = _branches(tree)
            muon = _muon_collection(branches)
            optional = tuple(name for name in schema.OPTIONAL_BRANCHES if name in branches)
            _check_weight_lists(file_id, branches)
            _check_branches(file_id, tree, branches, _branch_types(muon, optional))
            entries = int(tree.num_entries)
    return SourceFile(file_id, key, stat.size, stat.version, checksum, entries, muon, optional)


@contextmanager
def _open_and_sum(key: Key) -> Iterator[tuple[Any, str]]:
    """The file and its checksum; it is read as a whole only if its store does not know that."""
    checksum = key.checksum()
    if checksum is not None:
        with open_root(key) as root:
            yield root, checksum
        return
    with key.fetch() as path, open_root(Key(str(path))) as root:
        yield root, adler32(path)


def entry_ranges(entries: int, entries_per_unit: int) -> list[tuple[int, int]]:
    """Cut a file into ranges of entries; a file without entries gets one empty range, so that it is on record.

    >>> entry_ranges(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    starts = range(0, entries, entries_per_unit)
    return [(start, min(start + entries_per_unit, entries)) for start in starts] or [(0, 0)]


def read_events(file: SourceFile, start: int, stop: int, *, batch_bytes: int = BATCH_BYTES) -> Iterator[EventBatch]:
    """Read a range of entries, about ``batch_bytes`` of the needed leaves at a time, and check every value.

    Raises:
        InvalidInputError: The file cannot be read, changed since it was inspected, a needed value is not finite, an
            event has no or several ``MissingET``, or the leaves of a collection differ in length.
    """
    with bad_file(file.id, REMEDY):
        with open_root(file.key) as root:
            tree = _tree(file.id, root)
            branches = _branches(tree)
            needed = {name: branches[name] for name in _branch_types(file.muon, file.optional)}
            step = max(1, int(batch_bytes / entry_bytes(list(needed.values()), tree.num_entries)))
            first = range(start, stop, step)
            batches = read_arrays(tree, list(needed.values()), start, stop, step)
            for entry, arrays in zip(first, batches, strict=True):
                yield _to_batch(file, entry, {name: _buffers(arrays[needed[name].cache_key]) for name in needed})
        _check_unchanged(file)


def _branch_types(muon: str, optional: Collection[str]) -> dict[str, str]:
    """Branch → type of everything read from a file."""
    types = {
        f"{muon if collection == schema.MUON else collection}.{leaf}": dtype
        for collection, leaves in schema.DELPHES_LEAVES.items()
        for leaf, dtype in leaves.items()
    }
    return {**types, **{name: schema.OPTIONAL_BRANCHES[name] for name in optional}}


def _tree(file_id: str, root: Any) -> Any:
    if schema.TREE_NAME not in root:
        found = ", ".join(sorted(root.keys(cycle=False))[:5]) or "nothing"
        raise InvalidInputError(f"{file_id}: no tree {schema.TREE_NAME} (the file holds {found}); {REMEDY}")
    tree = parse(root, schema.TREE_NAME)
    if not isinstance(tree, uproot.TTree):
        raise InvalidInputError(f"{file_id}: {schema.TREE_NAME} is a {tree.classname}, not a TTree; {REMEDY}")
    return tree


def _branches(tree: uproot.TTree) -> dict[str, uproot.TBranch]:
    """Each branch by its name: to ask the tree for one of a thousand takes as long as to list all."""
    return {branch.name: branch for branch in tree.itervalues(recursive=True)}


def _muon_collection(names: Collection[str]) -> str:
    present = {name.partition(".")[0] for name in names if "." in name}
    return next((name for name in schema.MUON_COLLECTIONS if name in present), schema.MUON)


def _check_branches(
    file_id: str, tree: uproot.TTree, branches: Mapping[str, uproot.TBranch], types: Mapping[str, str]
) -> None:
    if missing := [name for name in types if name not in branches]:
        raise InvalidInputError(f"{file_id}: no {_missing(missing, branches)}{REMEDY}")
    for name, dtype in types.items():
        branch = branches[name]
        content = getattr(branch.interpretation, "content", None)  # None unless the branch is jagged
        if getattr(content, "to_dtype", None) != np.dtype(dtype):
            count = "an array of one number" if name in schema.OPTIONAL_BRANCHES else "any number"
            raise InvalidInputError(
                f"{file_id}: branch {name} is {branch.typename}, expected {dtype}, {count} per event; {_remedy(name)}"
            )
        if branch.num_entries != tree.num_entries:
            raise InvalidInputError(
                f"{file_id}: branch {name} has {branch.num_entries} entries, the tree {tree.num_entries}; {REMEDY}"
            )


def _check_weight_lists(file_id: str, names: Collection[str]) -> None:
    lists = [name for name in schema.WEIGHT_LIST_BRANCHES if name in names]
    if lists and schema.WEIGHT_BRANCH not in names:
        raise InvalidInputError(
            f"{file_id}: no {schema.WEIGHT_BRANCH}, but several weights an event in {', '.join(lists)}; "
            f"{_WEIGHT_REMEDY}"
        )


def _remedy(branch: str) -> str:
    return _WEIGHT_REMEDY if branch == schema.WEIGHT_BRANCH else REMEDY


def _missing(branches: Sequence[str], there: Collection[str]) -> str:
    """What a tree lacks: whole collections, with the lines of a card that write them, or single branches."""
    present = {name.partition(".")[0] for name in there if "." in name}
    collections = [name for name in dict.fromkeys(name.partition(".")[0] for name in branches) if name not in present]
    others = [name for name in branches if name.partition(".")[0] in present]
    what = [f"collection {', '.join(collections)}"] * bool(collections) + [f"branch {', '.join(others)}"] * bool(others)
    lines = ", ".join(f'"add Branch {_CARD_LINES[name]}"' for name in collections)
    card = f"make it again with these lines under TreeWriter in the Delphes card: {lines}; or " if lines else ""
    return f"{' and no '.join(what)} in tree {schema.TREE_NAME}; {card}"


def _check_unchanged(file: SourceFile) -> None:
    stat = file.key.stat()
    if stat is None or (stat.size, stat.version) != (file.bytes, file.version):
        raise InvalidInputError(f"{file.id}: the file changed while it was read; let its writer finish, then run again")


def _buffers(array: ak.Array) -> Leaf:
    layout = array.layout
    offsets = np.asarray(layout.offsets.data)
    return offsets.astype(np.int64, copy=False), np.asarray(layout.content.data)


def _to_batch(file: SourceFile, entry: int, buffers: Mapping[str, Leaf]) -> EventBatch:
    for name, (offsets, values) in buffers.items():
        _check_finite(file.id, entry, name, offsets, values)
    events = {
        collection: _collection(file, entry, collection, list(leaves), buffers)
        for collection, leaves in schema.DELPHES_LEAVES.items()
    }
    _check_single(file.id, entry, "MissingET", events["MissingET"].offsets)
    weight = _optional(file, entry, schema.WEIGHT_BRANCH, 1, buffers)
    pileup = _optional(file, entry, schema.PILEUP_BRANCH, schema.NO_PILEUP, buffers)
    if schema.PILEUP_BRANCH in file.optional and pileup.min(initial=0) < 0:
        event = int(pileup.argmin())
        raise InvalidInputError(
            f"{file.id}: {schema.PILEUP_BRANCH} is {pileup[event]} in entry {entry + event}; it must not be negative; "
            f"{REMEDY}"
        )
    return EventBatch(entry, events, weight, pileup)


def _optional(file: SourceFile, entry: int, name: str, default: int, buffers: Mapping[str, Leaf]) -> NDArray[Any]:
    """Values of an optional branch, one an event, (events,)."""
    if name not in file.optional:
        return np.full(len(buffers["MissingET.MET"][0]) - 1, default, schema.OPTIONAL_BRANCHES[name])
    offsets, values = buffers[name]
    _check_single(file.id, entry, name, offsets)
    return values[offsets[0] : offsets[-1]]


def _collection(
    file: SourceFile,
    entry: int,
    collection: str,
    leaves: Sequence[str],
    buffers: Mapping[str, Leaf],
) -> Jagged:
    stored = file.muon if collection == schema.MUON else collection
    offsets = buffers[f"{stored}.{leaves[0]}"][0]
    for leaf in leaves[1:]:
        other = buffers[f"{stored}.{leaf}"][0]
        if not np.array_equal(offsets, other):
            event = int(np.flatnonzero(np.diff(offsets) != np.diff(other))[0])
            raise InvalidInputError(
                f"{file.id}: {stored}.{leaf} and {stored}.{leaves[0]} have different lengths in entry {entry + event}; "
                f"{REMEDY}"
            )
    return Jagged(offsets, {leaf: buffers[f"{stored}.{leaf}"][1] for leaf in leaves})


def _check_finite(file_id: str, entry: int, name: str, offsets: NDArray[np.int64], values: NDArray[Any]) -> None:
    if values.dtype.kind != "f":
        return
    if np.isfinite(values.sum()):  # four times as fast as asking each; an overflow is looked at below
        return
    finite = np.isfinite(values)
    if not finite.all():
        position = int(np.flatnonzero(~finite)[0])
        event = int(np.searchsorted(offsets, position, side="right")) - 1
        raise InvalidInputError(
            f"{file_id}: {name} is {values[position]} in entry {entry + event}; every value must be finite; {REMEDY}"
        )


def _check_single(file_id: str, entry: int, name: str, offsets: NDArray[np.int64]) -> None:
    counts = np.diff(offsets)
    wrong = np.flatnonzero(counts != 1)
    if len(wrong):
        event = int(wrong[0])
        raise InvalidInputError(
            f"{file_id}: {name} has length {counts[event]} in entry {entry + event}, expected 1; {_remedy(name)}"
        )
