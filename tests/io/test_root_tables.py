from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import uproot

from support.delphes_files import read_naively, realistic_collections, write_collections, write_events
from support.events import edge_cases, random_events
from support.nanoaod_files import EVENTS, TREE, damage_branch, write_misfit, write_nanoaod
from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.root_files import StoreSource
from toposieve.io.root_tables import read_table, schema_branches, table_schema
from toposieve.io.root_trees import open_tree
from toposieve.io.store import Key


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    with open_tree(Key(str(path.parent), path.name)) as tree:
        yield tree


def read(path: Path, *names: str, asked: pa.Schema | None = None, **options: Any) -> pa.Table:
    with opened(path) as tree:
        wanted = asked or table_schema(tree, names)[0]
        start, stop = options.pop("entries", (0, tree.num_entries))
        return pa.Table.from_batches(read_table(tree, wanted, start, stop, **options), schema=wanted)


def types(path: Path, *names: str) -> dict[str, str]:
    with opened(path) as tree:
        return {field.name: str(field.type) for field in table_schema(tree, names)[0]}


def rows(events: list[Any]) -> list[dict[str, list[dict[str, Any]]]]:
    """Events as rows of a table: a list of structs for each collection."""
    return [
        {
            collection: [dict(zip(leaves, values, strict=True)) for values in zip(*leaves.values(), strict=True)]
            for collection, leaves in event.items()
        }
        for event in events
    ]


# --- types ---------------------------------------------------------------------------------------------------------


def test_types_of_nanoaod(tmp_path: Path) -> None:
    assert types(write_nanoaod(tmp_path / "a.root")) == {
        "run": "int64",
        "event": "int64",
        "Jet": "list<item: struct<pt: float, eta: float, jetId: int16, puId: bool>>",
        "MET_pt": "float",
        "HLT_IsoMu24": "bool",
        "PSWeight": "list<item: double>",
        "covariance": "list<item: double>",
        "generator": "string",
    }


def test_types_of_our_files(tmp_path: Path) -> None:
    found = types(write_events(tmp_path / "a.root", random_events(1, 2, 5)))
    assert list(found) == list(schema.DELPHES_LEAVES)
    assert found["Electron"] == "list<item: struct<PT: float, Eta: float, Phi: float, Charge: int32>>"
    assert found["Jet"] == "list<item: struct<PT: float, Eta: float, Phi: float, BTag: int64>>"
    assert found["MissingET"] == "list<item: struct<MET: float, Phi: float>>"


def test_types_of_a_true_delphes_file(delphes_file: Path) -> None:
    assert types(delphes_file, "Tower.Edges", "Electron.Particle", "Jet.Area", "Jet.Constituents", "Track_size") == {
        "Tower": "list<item: struct<Edges: list<item: float>>>",
        "Electron": "list<item: struct<Particle: struct<ref: int64>>>",
        "Jet": "list<item: struct<Area: struct<fP: struct<fX: double, fY: double, fZ: double>, fE: double>, "
        "Constituents: struct<fName: string, fSize: int32, refs: list<item: int32>>>>",
        "Track_size": "int32",
    }


def test_columns_come_in_the_order_asked(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", random_events(1, 2, 5))
    assert types(path, "MissingET", "Electron.Phi", "Jet_size", "Electron.PT", "Electron.Phi") == {
        "MissingET": "list<item: struct<MET: float, Phi: float>>",
        "Electron": "list<item: struct<Phi: float, PT: float>>",
        "Jet_size": "int32",
    }


@pytest.mark.parametrize(("name", "there"), [("Elektron", "Electron, "), ("Electron.Pt", "Charge, Eta, PT, Phi$")])
def test_an_unknown_column_is_named(tmp_path: Path, name: str, there: str) -> None:
    path = write_events(tmp_path / "a.root", random_events(1, 2, 5))
    with pytest.raises(InvalidInputError, match=rf"a\.root: no column {name}: there are .*{there}"):
        types(path, "Jet", name)


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *_: Any, **__: Any) -> Any:
        raise uproot.interpretation.objects.CannotBeAwkward("unknown")

    path = write_nanoaod(tmp_path / "a.root")
    monkeypatch.setattr(uproot.interpretation.strings.AsStrings, "awkward_form", refuse)
    with opened(path) as tree:
        found, unreadable = table_schema(tree)
        assert unreadable == ["generator (char*)"]
        assert found.names == [name for name in EVENTS[0] if name != "generator"]
        with pytest.raises(InvalidInputError, match=r"nothing in tree Events can be read: generator \(char\*\)"):
            table_schema(tree, ["generator"])


# --- values --------------------------------------------------------------------------------------------------------


def test_values_of_nanoaod(tmp_path: Path) -> None:
    assert read(write_nanoaod(tmp_path / "a.root")).to_pylist() == EVENTS


def test_values_of_our_files(tmp_path: Path) -> None:
    events = list(edge_cases().values())
    path = write_events(tmp_path / "a.root", events)
    assert read(path).to_pylist() == rows(events)


def test_values_of_a_wide_file(wide_file: Path) -> None:
    names = [
        f"{'Muon' if collection == schema.MUON else collection}.{leaf}"
        for collection, leaves in schema.DELPHES_LEAVES.items()
        for leaf in leaves
    ]
    table = read(wide_file, *names).rename_columns(list(schema.DELPHES_LEAVES))
    assert table.to_pylist() == rows(read_naively(wide_file, muon="Muon"))


def test_everything_in_a_true_delphes_file_can_be_read(delphes_file: Path) -> None:
    table = read(delphes_file)
    assert len(table) == 25
    with uproot.open(delphes_file) as root:
        vectors = root["Delphes"]["Jet.Area"].array()
        edges = root["Delphes"]["Tower.Edges[4]"].array()
        lengths = root["Delphes"]["Jet_size"].array()
    assert [[jet["Area"]["fE"] for jet in event] for event in table["Jet"].to_pylist()] == vectors.fE.to_list()
    assert [[tower["Edges"] for tower in event] for event in table["Tower"].to_pylist()] == edges.to_list()
    assert [len(event) for event in table["Jet"].to_pylist()] == lengths.to_list()


def test_ranges_of_entries_join(tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root", EVENTS * 5)
    parts = [read(path, entries=entries).to_pylist() for entries in ((0, 1), (1, 1), (1, 9), (9, 15))]
    assert [len(part) for part in parts] == [1, 0, 8, 6]
    assert [row for part in parts for row in part] == EVENTS * 5


@pytest.mark.parametrize("batch_bytes", [1, 5_000, 40_000])
def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int) -> None:
    monkeypatch.setattr("toposieve.io.root_tables.READ_BYTES", 100_000)
    path = write_collections(tmp_path / "a.root", realistic_collections(1, 40))
    with opened(path) as tree:
        wanted = table_schema(tree, ["EFlowTrack"])[0]
        batches = list(read_table(tree, wanted, 0, 40, batch_bytes=batch_bytes))
    assert max(batch.nbytes for batch in batches) < max(15_000, 1.5 * batch_bytes)  # one event has some 8 kB
    assert pa.Table.from_batches(batches).to_pylist() == read(path, "EFlowTrack").to_pylist()


def test_all_branches_come_in_one_request_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_nanoaod(tmp_path / "a.root", EVENTS * 4)
    requests: list[int] = []
    with opened(path) as tree:
        wanted = table_schema(tree, ["Jet.pt", "Jet.puId", "run"])[0]
        chunks = tree.file.source.chunks

        def counted(ranges: Any, **options: Any) -> Any:
            requests.append(len(ranges))
            return chunks(ranges, **options)

        monkeypatch.setattr(tree.file.source, "chunks", counted)
        assert sum(len(batch) for batch in read_table(tree, wanted, 0, 12)) == 12
    assert requests == [3 * 6]  # branches × baskets of two events


def test_a_remote_file_costs_two_requests(delphes_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Electron", "Jet.PT", "Tower.Edges", "MissingET", "Track.PT"]
    expected = read(delphes_file, *names)

    def remote(key: Key) -> Any:
        return uproot.open({str(key): None}, handler=StoreSource, key=key)

    monkeypatch.setattr("toposieve.io.root_trees.open_root", remote)
    with opened(delphes_file) as tree:
        wanted = table_schema(tree, names)[0]
        batches = list(read_table(tree, wanted, 0, 25))
        assert tree.file.source.num_requests == 2
    assert pa.Table.from_batches(batches).equals(expected)


def test_a_basket_is_read_once_though_it_serves_several_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toposieve.io.root_tables.READ_BYTES", 1)
    path = write_nanoaod(tmp_path / "a.root", EVENTS * 2)
    places: list[tuple[int, int]] = []
    with opened(path) as tree:
        chunks = tree.file.source.chunks
        monkeypatch.setattr(
            tree.file.source, "chunks", lambda ranges, **o: places.extend(ranges) or chunks(ranges, **o)
        )
        batches = list(read_table(tree, table_schema(tree, ["Jet"])[0], 0, 6, batch_bytes=1))
    assert [len(batch) for batch in batches] == [1] * 6
    assert len(places) == len(set(places)) == 4 * 3


# --- a schema given ------------------------------------------------------------------------------------------------


def test_a_schema_may_name_less_and_other_types(tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root")
    jet = pa.struct([("jetId", pa.int64()), ("pt", pa.float64())])
    asked = pa.schema(
        [("event", pa.decimal128(20, 0)), ("Jet", pa.list_(pa.field("element", jet))), ("nJet", pa.int64())]
    )
    table = read(path, asked=asked)
    assert table.schema.equals(asked)
    assert table["Jet"].to_pylist() == [
        [{"jetId": jet["jetId"], "pt": jet["pt"]} for jet in event["Jet"]] for event in EVENTS
    ]
    assert [int(event) for event in table["event"].to_pylist()] == [event["event"] for event in EVENTS]
    assert table["nJet"].to_pylist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (("jet", pa.int32()), "no jet in tree Events"),
        (("Jet", pa.list_(pa.struct([("mass", pa.float32())]))), r"no Jet\.mass in tree Events"),
        (
            ("Jet", pa.struct([("pt", pa.float32())])),
            r"Jet is a list of structs, not struct<pt: float>: mend the schema",
        ),
        (("Jet", pa.list_(pa.float32())), r"Jet is a list of structs, not list<"),
        (("run", pa.list_(pa.int32())), r"run is uint32 and does not fit list<.*not a list"),
        (("run", pa.struct([("x", pa.int32())])), r"run is uint32 and does not fit struct<.*not a struct"),
        (("MET_pt", pa.int32()), r"MET_pt is float and does not fit int32 .*20\.25"),
        (("run", pa.int32()), r"run is uint32 and does not fit int32 .*4294967295"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(tmp_path: Path, field: tuple[str, Any], message: str) -> None:
    path = write_nanoaod(tmp_path / "a.root")
    with pytest.raises(InvalidInputError, match=rf"a\.root: {message}"):
        read(path, asked=pa.schema([field]))


def test_too_big_for_a_signed_integer_is_refused(tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root", [{**EVENTS[0], "event": 2**63}])
    with pytest.raises(InvalidInputError, match=r"a\.root: event is uint64 and does not fit int64"):
        read(path)


def test_branches_of_a_schema(tmp_path: Path) -> None:
    with opened(write_nanoaod(tmp_path / "a.root")) as tree:
        found = schema_branches(tree, table_schema(tree, ["run", "Jet.eta"])[0])
        assert {
            name: {member: branch.name for member, branch in members.items()} for name, members in found.items()
        } == {
            "run": {"": "run"},
            "Jet": {"eta": "Jet_eta"},
        }


# --- bad files -----------------------------------------------------------------------------------------------------


def test_a_damaged_branch_is_named_and_harms_no_other(tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root", EVENTS * 5)
    good = read(path, "Jet.pt", "run").to_pylist()
    damage_branch(path, TREE, "Jet_eta", basket=2)
    assert read(path, "Jet.pt", "run").to_pylist() == good
    with pytest.raises(InvalidInputError, match=r"a\.root: branch Jet_eta cannot be read \(.*onBadFile=skip"):
        read(path, "Jet", "run")


def test_leaves_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = write_misfit(tmp_path / "a.root")
    assert read(path, "mu.eta").to_pylist() == [{"mu": []}, {"mu": [{"eta": 1.0}]}]
    with pytest.raises(InvalidInputError, match=r"a\.root: mu_eta and mu_pt have different lengths"):
        read(path)


def test_a_file_without_entries_is_fine(tmp_path: Path) -> None:
    path = write_events(tmp_path / "a.root", [])
    assert len(read(path)) == 0
    assert list(types(path)) == list(schema.DELPHES_LEAVES)
