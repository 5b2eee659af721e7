from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import uproot

from support.delphes_files import (
    TRUE_BRANCHES,
    collections,
    read_naively,
    with_leaf,
    write_collections,
    write_events,
)
from support.events import edge_cases, from_events, random_events
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import REMEDY, SourceFile, entry_ranges, inspect_file, read_events
from toposieve.io.manifests import adler32
from toposieve.io.root_files import StoreSource
from toposieve.io.store import Key
from toposieve.physics.events import Jagged

EVENTS = random_events(seed=1, n=7, particles=10)
Content = dict[str, Jagged]


@pytest.fixture(autouse=True)
def _one_byte_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposieve.io.delphes.entry_bytes", lambda *_: 1.0)


def inspected(folder: Path, name: str = "a.root") -> SourceFile:
    return inspect_file(Key(str(folder)), name)


def read_all(folder: Path, name: str = "a.root", batch: int = 3) -> list:
    file = inspected(folder, name)
    return list(read_events(file, 0, file.entries, batch_bytes=batch))


def as_lists(batches: list) -> list:
    return [from_events(batch.events, row) for batch in batches for row in range(len(batch.weight))]


def test_reads_what_was_written(tmp_path: Path) -> None:
    events = list(edge_cases().values())
    write_events(tmp_path / "a.root", events, weights=np.arange(len(events)))
    batches = read_all(tmp_path, batch=4)
    assert as_lists(batches) == events
    assert np.concatenate([batch.weight for batch in batches]).tolist() == list(range(len(events)))
    assert [batch.entry_start for batch in batches] == list(range(0, len(events), 4))


def test_leaves_keep_their_types_and_share_the_collection_s_offsets(tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", EVENTS)
    (batch,) = read_all(tmp_path, batch=100)
    for collection, leaves in schema.DELPHES_LEAVES.items():
        assert {leaf: str(values.dtype) for leaf, values in batch.events[collection].leaves.items()} == leaves
        assert batch.events[collection].offsets.dtype == np.int64
    assert batch.weight.dtype == np.float32


def test_reads_a_range_of_entries(tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", EVENTS, weights=range(7))
    file = inspected(tmp_path)
    batches = list(read_events(file, 2, 6, batch_bytes=3))
    assert [(batch.entry_start, len(batch.weight)) for batch in batches] == [(2, 3), (5, 1)]
    assert as_lists(batches) == EVENTS[2:6]


def test_weight_is_one_where_the_file_has_none(tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", EVENTS)
    assert [weight for batch in read_all(tmp_path) for weight in batch.weight] == [1] * 7


@pytest.mark.parametrize("muon", schema.MUON_COLLECTIONS)
def test_takes_the_muon_collection_that_the_file_has(tmp_path: Path, muon: str) -> None:
    content = collections(EVENTS)
    content[muon] = content.pop(schema.MUON)
    write_collections(tmp_path / "a.root", content)
    file = inspected(tmp_path)
    assert file.muon == muon
    muons = () if muon == schema.MUON else (f"no MuonTight; muons are those of {muon}",)
    assert file.notes == (*muons, "no Event.Weight; each event counts 1")
    assert as_lists(read_all(tmp_path)) == EVENTS


def test_prefers_tight_muons(tmp_path: Path) -> None:
    content = collections(EVENTS)
    content["Muon"] = content["Electron"]
    write_collections(tmp_path / "a.root", content)
    assert as_lists(read_all(tmp_path)) == EVENTS


def test_reads_a_wide_file(wide_file: Path) -> None:
    batches = read_all(wide_file.parent, wide_file.name, batch=10)
    assert as_lists(batches) == read_naively(wide_file, muon="Muon")
    assert sum(len(batch.weight) for batch in batches) == 25
    assert {value for batch in batches for value in batch.pileup.tolist()} == {schema.NO_PILEUP}
    with uproot.open(wide_file) as root:
        assert len(root["Delphes"].keys(full_paths=False)) == TRUE_BRANCHES
        weights = root["Delphes/Event.Weight"].array().to_list()
    assert [[weight] for batch in batches for weight in batch.weight] == weights


def test_inspection_knows_a_file_by_size_and_checksum_and_the_store_s_version(tmp_path: Path) -> None:
    path = write_events(tmp_path / "qcd" / "a.root", EVENTS)
    file = inspected(tmp_path, "qcd/a.root")
    assert (file.id, file.bytes, file.checksum) == ("qcd/a.root", path.stat().st_size, adler32(path))
    assert file.version == str(path.stat().st_mtime_ns)


def test_a_store_that_knows_checksums_is_not_read_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_events(tmp_path / "a.root", EVENTS)
    monkeypatch.setattr(Key, "checksum", lambda _: "0badcafe")
    monkeypatch.delattr("toposieve.io.delphes.adler32")
    assert inspected(tmp_path).checksum == "0badcafe"


def test_a_file_without_entries_is_fine(tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", [])
    assert inspected(tmp_path).entries == 0
    assert sum(len(batch.weight) for batch in read_all(tmp_path)) == 0


@pytest.mark.parametrize(
    ("entries", "expected"), [(0, [(0, 0)]), (2, [(0, 2)]), (4, [(0, 2), (2, 4)]), (5, [(0, 2), (2, 4), (4, 5)])]
)
def test_entry_ranges(entries: int, expected: list[tuple[int, int]]) -> None:
    assert entry_ranges(entries, 2) == expected


# --- bad files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 3, 100, 0.3, 0.7, -100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    content = write_events(tmp_path / "a.root", EVENTS).read_bytes()
    length = int(kept * len(content)) if 0 < kept < 1 else int(kept)
    (tmp_path / "a.root").write_bytes(content[:length])
    with pytest.raises(InvalidInputError, match=r"^a\.root: (cut short|cannot be read as ROOT).*quarantine"):
        read_all(tmp_path)


@pytest.mark.parametrize("compression", [uproot.ZLIB(1), uproot.LZ4(1), uproot.ZSTD(1)], ids=repr)
def test_damage_anywhere_is_a_bad_file_or_does_no_harm(
    tmp_path: Path, compression: uproot.compression.Compression
) -> None:
    """The list of what uproot raises on damaged files is whole."""
    content = write_events(tmp_path / "a.root", EVENTS, compression=compression).read_bytes()
    random = np.random.default_rng(1)
    bad = 0
    for place in random.integers(0, len(content) - 60, 15):
        damage = random.bytes(int(random.choice([1, 8, 60])))
        (tmp_path / "a.root").write_bytes(content[:place] + damage + content[place + len(damage) :])
        try:
            read_all(tmp_path)
        except InvalidInputError:
            bad += 1
    assert 2 < bad < 15


def test_damaged_bytes_in_the_middle_are_refused(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", EVENTS)
    with uproot.open(path) as root:
        branch = root["Delphes/EFlowTrack.PT"]
        start = int(branch.member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[start + 80 : start + 200] = bytes(120)
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"^a\.root: cannot be read as ROOT"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "a.root: the file is empty"), (b"PAR1" * 200, "a.root: cannot be read as ROOT .*not a ROOT file")],
)
def test_empty_and_non_root_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.root").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        inspected(tmp_path)


@pytest.mark.parametrize("kind", ["nothing", "a folder", "a link that leads nowhere"])
def test_what_is_not_there_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "a folder":
        (tmp_path / "a.root").mkdir()
    elif kind != "nothing":
        (tmp_path / "a.root").symlink_to(tmp_path / "gone.root")
    with pytest.raises(InvalidInputError, match=r"^a.root: no such file, or a link that leads nowhere; .*quarantine"):
        inspected(tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
        OSError(errno.EKEYEXPIRED, "Key has expired"),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionResetError("Connection reset by peer"),
        MemoryError(),
        ModuleNotFoundError("No module named 'xxhash'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "place", ["toposieve.io.delphes.adler32", "toposieve.io.delphes.read_arrays", "uproot.compression.decompress"]
)
def test_what_is_not_the_format_s_fault_stays_what_it_is(
    tmp_path: Path, place: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    write_events(tmp_path / "a.root", EVENTS)
    monkeypatch.setattr(place, fail)
    with pytest.raises(type(error)) as caught:
        read_all(tmp_path)
    assert caught.value is error


def crash(*_: object, **__: object) -> None:
    raise KeyError("a bug")


@pytest.mark.parametrize("place", ["delphes.adler32", "delphes._to_batch", "root_files.StoreSource.chunk"])
def test_a_bug_of_ours_makes_no_file_bad(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uproot calls some of our code; an error that is raised there is ours all the same."""
    write_events(tmp_path / "a.root", EVENTS)
    key = Key(str(tmp_path)) / "a.root"
    if "StoreSource" in place:
        monkeypatch.setattr("uproot.open", partial(uproot.open, handler=StoreSource, key=key))
    monkeypatch.setattr(f"toposieve.io.{place}", ours(crash))
    with pytest.raises(KeyError, match="a bug"):
        read_all(tmp_path)


def ours(function: Callable[..., None]) -> Callable[..., None]:
    """The function as if it were defined in one of our modules."""
    return FunctionType(function.__code__, {**globals(), "__name__": "toposieve.somewhere"})


def test_what_a_bad_file_says_of_its_classes_concerns_no_other(tmp_path: Path) -> None:
    """Uproot keeps what a file says of a class that it fails to read otherwise."""
    good = write_events(tmp_path / "a.root", EVENTS)
    with uproot.open(good) as root:
        start, size = root.file.fSeekInfo, root.file.fNbytesInfo
    content = good.read_bytes()
    other = content[start : start + size].replace(b"Basket", b"Casket")
    (tmp_path / "b.root").write_bytes(content[:start] + other + content[start + size :])
    assert as_lists(read_all(tmp_path, "b.root")) == EVENTS
    versions = uproot.classes["TBranch"].known_versions
    versions[13] = type("Model_TBranch_v13", (versions[13],), {"read_members": crash})
    with pytest.raises(InvalidInputError, match="KeyError: 'a bug'"):
        read_all(tmp_path, "b.root")
    assert as_lists(read_all(tmp_path)) == EVENTS


@pytest.mark.parametrize("longer", [1, 100_000])
def test_a_file_that_was_not_closed_is_refused(tmp_path: Path, longer: int) -> None:
    path = write_events(tmp_path / "a.root", EVENTS)
    size = path.stat().st_size
    with path.open("ab") as stream:
        stream.write(bytes(longer))
    message = rf"^a\.root: not closed properly, {size + longer:,} bytes where its header says {size:,}; let its writer"
    with pytest.raises(InvalidInputError, match=rf"{message} finish, or save .*hadd.*quarantine"):
        inspected(tmp_path)


def test_a_missing_tree_is_refused_and_what_there_is_named(tmp_path: Path) -> None:
    write_collections(tmp_path / "a.root", collections(EVENTS), tree="Events")
    with pytest.raises(InvalidInputError, match=r"a.root: no tree Delphes \(the file holds Events\)"):
        inspected(tmp_path)


def test_something_else_called_delphes_is_refused(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file["Delphes"] = np.histogram([1.0, 2.0])
    with pytest.raises(InvalidInputError, match=r"a.root: Delphes is a TH1D, not a TTree"):
        inspected(tmp_path)


def test_missing_branches_are_named(tmp_path: Path) -> None:
    content = with_leaf(with_leaf(collections(EVENTS), "Jet", "BTag", None), "EFlowTrack", "X", None)
    write_collections(tmp_path / "a.root", content)
    with pytest.raises(InvalidInputError, match=r"a.root: no branch EFlowTrack.X, Jet.BTag in tree Delphes"):
        inspected(tmp_path)


def test_missing_collections_are_named_with_the_lines_of_a_card_that_write_them(tmp_path: Path) -> None:
    content = {name: jagged for name, jagged in collections(EVENTS).items() if not name.startswith("EFlow")}
    write_collections(tmp_path / "a.root", with_leaf(content, "Jet", "BTag", None))
    with pytest.raises(InvalidInputError) as caught:
        inspected(tmp_path)
    assert str(caught.value) == (
        "a.root: no collection EFlowTrack, EFlowPhoton, EFlowNeutralHadron and no branch Jet.BTag in tree Delphes; "
        "make it again with these lines under TreeWriter in the Delphes card: "
        '"add Branch HCal/eflowTracks EFlowTrack Track", "add Branch ECal/eflowPhotons EFlowPhoton Tower", '
        f'"add Branch HCal/eflowNeutralHadrons EFlowNeutralHadron Tower"; or {REMEDY}'
    )


def test_every_collection_has_its_line_in_a_card(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree("Delphes", {"x": "float32"})
    with pytest.raises(InvalidInputError) as caught:
        inspected(tmp_path)
    assert str(caught.value).count("add Branch ") == len(schema.DELPHES_LEAVES)
    assert 'add Branch UniqueObjectFinder/muons Muon Muon"' in str(caught.value)


@pytest.mark.parametrize(
    ("collection", "leaf", "dtype", "name"),
    [
        ("EFlowTrack", "PT", "float64", "double"),
        ("Electron", "Charge", "int16", "int16_t"),
        ("Jet", "BTag", "int32", "int32_t"),
    ],
)
def test_wrong_types_are_refused(tmp_path: Path, collection: str, leaf: str, dtype: str, name: str) -> None:
    content = collections(EVENTS)
    content = with_leaf(content, collection, leaf, content[collection].leaves[leaf].astype(dtype))
    write_collections(tmp_path / "a.root", content)
    with pytest.raises(InvalidInputError, match=rf"a.root: branch {collection}.{leaf} is {name}\[\], expected"):
        inspected(tmp_path)


def test_a_leaf_that_is_not_jagged_is_refused(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        flat = {
            f"{name}.{leaf}": dtype for name, leaves in schema.DELPHES_LEAVES.items() for leaf, dtype in leaves.items()
        }
        file.mktree("Delphes", flat)
    with pytest.raises(InvalidInputError, match=r"a.root: branch EFlowTrack.PT is float, expected float32, any number"):
        inspected(tmp_path)


def _nan_in(collection: str, leaf: str, event: int, value: float) -> Callable[[Content], Content]:
    def spoil(content: Mapping[str, Jagged]) -> Content:
        values = content[collection].leaves[leaf].copy()
        values[content[collection].offsets[event]] = value
        return with_leaf(content, collection, leaf, values)

    return spoil


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("collection", "leaf"), [("EFlowTrack", "Z"), ("MissingET", "Phi"), ("Event", "Weight")])
def test_values_that_are_not_finite_are_refused_with_their_entry(
    tmp_path: Path, collection: str, leaf: str, value: float
) -> None:
    content = _nan_in(collection, leaf, 5, value)(collections(EVENTS, weights=range(7)))
    write_collections(tmp_path / "a.root", content)
    with pytest.raises(InvalidInputError, match=rf"a.root: {collection}.{leaf} is {value} in entry 5; .*finite"):
        read_all(tmp_path)


@pytest.mark.parametrize(("collection", "weights"), [("MissingET", None), ("Event", range(7))])
def test_a_collection_of_one_must_have_length_one(tmp_path: Path, collection: str, weights: range | None) -> None:
    content = collections(EVENTS, weights)
    jagged = content[collection]
    # The value of entry 4 moves to entry 5.
    offsets = np.array([0, 1, 2, 3, 4, 4, 6, 7])
    write_collections(tmp_path / "a.root", {**content, collection: Jagged(offsets, jagged.leaves)})
    with pytest.raises(InvalidInputError, match=rf"a.root: {collection}.* has length 0 in entry 4, expected 1"):
        read_all(tmp_path)


NOMINAL = "write the nominal weight of each event, and no other, as Event.Weight; or replace or remove the file"


def test_several_weights_an_event_are_refused_with_the_remedy(tmp_path: Path) -> None:
    several = Jagged(np.arange(8) * 3, {"Weight": np.arange(21, dtype=np.float32)})
    write_collections(tmp_path / "a.root", {**collections(EVENTS), "Event": several})
    with pytest.raises(InvalidInputError, match=f"a.root: Event.Weight has length 3 in entry 0, expected 1; {NOMINAL}"):
        read_all(tmp_path)


@pytest.mark.parametrize("name", ["Weight", "WeightLHEF"])
def test_lists_of_weights_need_the_nominal_one_beside_them(tmp_path: Path, name: str) -> None:
    """As true files have it: the nominal weight is ``Event.Weight``, and a list of others does no harm."""
    content = {**collections(EVENTS, range(7)), name: Jagged(np.arange(8) * 2, {"Weight": np.ones(14, np.float32)})}
    write_collections(tmp_path / "a.root", content)
    assert inspected(tmp_path).notes == ()
    del content["Event"]
    write_collections(tmp_path / "a.root", content)
    with pytest.raises(InvalidInputError, match=f"a.root: no Event.Weight, but several .* {name}.Weight; {NOMINAL}"):
        inspected(tmp_path)


def test_weights_of_another_shape_are_refused_with_the_remedy(tmp_path: Path) -> None:
    weights = Jagged(np.arange(8), {"Weight": np.ones(7, np.float64)})
    write_collections(tmp_path / "a.root", {**collections(EVENTS), "Event": weights})
    with pytest.raises(InvalidInputError, match=f"branch Event.Weight is .*double.*; {NOMINAL}"):
        inspected(tmp_path)


def test_a_flat_weight_is_asked_for_as_one_number_an_event(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "a.root") as file:
        branches = {
            f"{name}.{leaf}": f"var * {dtype}"
            for name, leaves in schema.DELPHES_LEAVES.items()
            for leaf, dtype in leaves.items()
        }
        file.mktree("Delphes", {**branches, schema.WEIGHT_BRANCH: "float64"})
    expected = f"Event.Weight is double, expected float32, an array of one number per event; {NOMINAL}"
    with pytest.raises(InvalidInputError, match=expected):
        inspected(tmp_path)


def with_pileup(path: Path, values: Sequence[float], dtype: type = np.int32) -> None:
    pileup = Jagged(np.arange(8), {"PileUp": np.array(values, dtype)})
    write_collections(path, {**collections(EVENTS), "Event": pileup})


def test_pileup_is_read_where_a_file_has_it(tmp_path: Path) -> None:
    with_pileup(tmp_path / "a.root", range(7))
    write_events(tmp_path / "b.root", EVENTS)
    for name, expected in {"a.root": list(range(7)), "b.root": [schema.NO_PILEUP] * 7}.items():
        assert np.concatenate([batch.pileup for batch in read_all(tmp_path, name)]).tolist() == expected


def test_pileup_that_is_no_number_of_interactions_is_refused(tmp_path: Path) -> None:
    with_pileup(tmp_path / "a.root", [3, 0, -1, 2, 2, 2, 2])
    with pytest.raises(InvalidInputError, match=r"Event.PileUp is -1 in entry 2; it must not be negative; replace"):
        read_all(tmp_path)
    with_pileup(tmp_path / "a.root", range(7), np.float32)
    with pytest.raises(InvalidInputError, match=r"Event.PileUp is .*, expected int32, an array of one number"):
        inspected(tmp_path)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    write_events(tmp_path / "a.root", EVENTS)
    file = inspected(tmp_path)
    write_events(tmp_path / "a.root", EVENTS)
    with pytest.raises(InvalidInputError, match=r"a.root: the file changed while it was read"):
        list(read_events(file, 0, file.entries))
