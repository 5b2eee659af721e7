from __future__ import annotations

import pickle
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import uproot

from support.delphes_files import realistic_collections, write_collections, write_events
from support.events import edge_cases, random_events, to_events
from support.nanoaod_files import EVENTS, damage_branch, write_nanoaod
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.root_tables import read_table
from toposieve.physics.selection import select_events
from toposieve.spark import root_source
from toposieve.spark.root_source import RootPartition, RootSource, parse_options, register

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# The lepton cut of CERN's SparkDLTrigger, with our cut's name of the muons.
PUBLISHED = """
    SELECT * FROM events
    WHERE size(FILTER(Electron, e -> e.PT > 23)) > 0 OR cardinality(FILTER(MuonTight, m -> m.PT > 23)) > 0
"""
ROOT_EVENTS = [*edge_cases().values(), *random_events(seed=8, n=60, particles=20)]

Load = Callable[..., "DataFrame"]


@pytest.fixture
def load(spark: SparkSession) -> Load:
    """``load(path, option=value)``: a DataFrame of ROOT files."""
    register(spark)

    def load(path: Path | list[str], **options: Any) -> DataFrame:
        reader = spark.read.format("root").options(**options)
        return reader.load(path if isinstance(path, list) else str(path))

    return load


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own files, a third of the events in each sample."""
    folder = tmp_path_factory.mktemp("raw")
    for number, sample in enumerate(schema.SAMPLES):
        write_events(folder / sample / "2026-01-01" / "a.root", ROOT_EVENTS[number::3])
        (folder / sample / "2026-01-01" / "._a.root").write_bytes(b"left by another system")
    return folder


def lists(frame: DataFrame) -> list[dict[str, Any]]:
    return frame.toArrow().to_pylist()


# --- what a query sees ---------------------------------------------------------------------------------------------


def test_the_published_sql_finds_what_our_cut_leaves(load: Load, raw: Path, spark: SparkSession) -> None:
    load(f"{raw}/*/2026-01-01/*.root").createOrReplaceTempView("events")
    ours = select_events(to_events(ROOT_EVENTS), SelectionConfig(), btag_mask=1).passing["lepton_pt"].sum()
    assert 10 < ours < len(ROOT_EVENTS) - 10
    assert spark.sql(PUBLISHED).count() == ours


def test_collections_are_arrays_of_structs(load: Load, raw: Path) -> None:
    frame = load(raw, columns="Electron.PT, MissingET, Jet.BTag")
    assert frame.schema.simpleString() == (
        "struct<Electron:array<struct<PT:float>>,MissingET:array<struct<MET:float,Phi:float>>,"
        "Jet:array<struct<BTag:bigint>>>"
    )
    met = frame.selectExpr("MissingET[0].MET AS met").toArrow()["met"].to_pylist()
    expected = [event["MissingET"]["MET"][0] for number in range(3) for event in ROOT_EVENTS[number::3]]
    assert met == expected


def test_a_true_delphes_file(load: Load, delphes_file: Path) -> None:
    frame = load(delphes_file, columns="Electron.PT,Muon,Jet.PT,Event.Weight,Jet.Area")
    with uproot.open(delphes_file) as root:
        leaves = {name: root["Delphes"][name].array().to_list() for name in ("Electron.PT", "Muon.PT", "Jet.PT")}
        energies = root["Delphes"]["Jet.Area"].array().fE.to_list()
    found = lists(frame.selectExpr("Electron.PT AS e", "Muon.PT AS m", "Jet.PT AS j", "Jet.Area.fE AS a"))
    assert [list(row.values()) for row in found] == [list(row) for row in zip(*leaves.values(), energies, strict=True)]
    hard = sum(any(pt > 30 for pt in event) for event in leaves["Jet.PT"])
    assert frame.where("size(filter(Jet, j -> j.PT > 30)) > 0").count() == hard > 0


def test_a_nanoaod_file(load: Load, tmp_path: Path) -> None:
    frame = load(write_nanoaod(tmp_path / "a.root"))
    assert lists(frame) == EVENTS
    assert frame.where("HLT_IsoMu24 AND size(filter(Jet, j -> j.pt > 45 AND j.puId)) > 0").count() == 2


def test_the_example_runs(spark: SparkSession, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = (root_source.__doc__ or "").partition("::\n")[2].partition("\nOptions")[0]
    assert "work/raw" in example
    exec(textwrap.dedent(example).replace("work/raw", str(raw)), {})
    electrons = sum(any(pt > 23 for pt in event["Electron"]["PT"]) for event in ROOT_EVENTS)
    assert f"|{electrons:>8}|" in capsys.readouterr().out


# --- files and partitions ------------------------------------------------------------------------------------------


def test_many_partitions_give_the_rows_of_one(load: Load, raw: Path) -> None:
    one = load(raw)
    many = load(raw, partitionBytes=5_000)
    assert one.rdd.getNumPartitions() == 1
    assert many.rdd.getNumPartitions() > 6
    assert lists(many) == lists(one)


def test_a_list_of_paths(load: Load, raw: Path) -> None:
    frame = load([f"{raw}/qcd", f"{raw}/w*/*/a.root"], columns="MissingET")
    assert frame.count() == len(ROOT_EVENTS[0::3]) + len(ROOT_EVENTS[2::3])


def test_only_wanted_branches_are_read(load: Load, tmp_path: Path) -> None:
    path = write_collections(tmp_path / "a.root", realistic_collections(1, 50))
    damage_branch(path, schema.TREE_NAME, "EFlowTrack.PT")
    assert load(path, columns="Electron,EFlowTrack.Eta").count() == 50


def test_a_tree_is_named(load: Load, tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root", tree="ntuples/mine")
    assert load(path, tree="ntuples/mine", columns="run").count() == 3
    with pytest.raises(Exception, match=r"no tree yours \(the file has ntuples/mine\)"):
        load(path, tree="yours")


def test_a_schema_is_given(load: Load, spark: SparkSession, tmp_path: Path) -> None:
    path = write_nanoaod(tmp_path / "a.root")
    given = "event decimal(20,0), Jet array<struct<eta: double>>, nJet int NOT NULL"
    frame = spark.read.format("root").schema(given).load(str(path))
    assert [(int(row.event), [jet.eta for jet in row.Jet], row.nJet) for row in frame.collect()] == [
        (event["event"], [jet["eta"] for jet in event["Jet"]], len(event["Jet"])) for event in EVENTS
    ]
    with pytest.raises(Exception, match=r"InvalidInputError: \S*a\.root: no Jet\.mass in tree Events"):
        spark.read.format("root").schema("Jet array<struct<mass: float>>").load(str(path)).count()


# --- bad files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def one_bad(tmp_path: Path) -> Path:
    """Three files of 30 events, the middle one damaged in its second half."""
    content = write_nanoaod(tmp_path / "a.root", EVENTS * 10).read_bytes()
    for name in ("b", "c"):
        (tmp_path / f"{name}.root").write_bytes(content)
    damage_branch(tmp_path / "b.root", "Events", "Jet_pt", basket=12)
    return tmp_path


def test_a_bad_file_fails_the_query(load: Load, one_bad: Path) -> None:
    with pytest.raises(Exception, match=r"b\.root: branch Jet_pt cannot be read .*replace or remove the file") as error:
        load(one_bad).count()
    trace = str(error.value).partition("b.root")[0]
    assert trace.count("File ") == 1  # no stack to read through


def test_a_bad_file_is_left_out_as_a_whole(load: Load, one_bad: Path) -> None:
    frame = load(one_bad, onBadFile="skip", partitionBytes=1_000)
    assert frame.count() == 2 * 30
    assert frame.rdd.getNumPartitions() == 3  # files are not cut


def test_the_first_file_may_be_the_bad_one(load: Load, one_bad: Path) -> None:
    (one_bad / "a.root").write_bytes(b"no ROOT file")
    assert load(one_bad, onBadFile="skip", columns="Jet").count() == 30
    with pytest.raises(Exception, match=r"InvalidInputError: \S*a\.root: cannot be read as ROOT") as error:
        load(one_bad)
    assert str(error.value).count("File ") <= 3


def test_all_files_bad(load: Load, tmp_path: Path) -> None:
    (tmp_path / "a.root").write_bytes(b"no ROOT file")
    with pytest.raises(Exception, match=r"every file is bad:\n\S*a\.root: cannot be read as ROOT"):
        load(tmp_path, onBadFile="skip")


def test_nothing_of_a_bad_file_is_given_and_the_log_says_so(
    one_bad: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toposieve.io.root_tables.READ_BYTES", 1)  # entry by entry
    monkeypatch.setattr("toposieve.spark.root_source.read_table", partial(read_table, batch_bytes=1))
    source = RootSource({"path": str(one_bad), "onBadFile": "skip", "columns": "run,Jet.pt"})
    reader = source.reader(source.schema())
    (partition,) = reader.partitions()
    assert isinstance(partition, RootPartition)
    assert [piece.file.key.name for piece in partition.pieces] == ["a.root", "b.root", "c.root"]
    batches: list[pa.RecordBatch] = list(reader.read(partition))  # type: ignore[arg-type]
    assert [len(batch) for batch in batches] == [1] * 60
    assert [message for message in caplog.messages if "left out: " in message and "b.root: branch Jet_pt" in message]
    assert len(caplog.messages) == 1


def test_types_that_no_column_holds_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise TypeError("unknown")

    monkeypatch.setattr(uproot.interpretation.strings.AsStrings, "awkward_form", refuse)
    found = RootSource({"path": str(write_nanoaod(tmp_path / "a.root"))}).schema()
    assert "generator" not in found.fieldNames()
    assert caplog.messages == ["left out, since no column can hold its type: generator (char*)"]


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"path": "a", "colums": "b"},
            "no option colums: there are path, paths, tree, columns, partitionBytes, onBadFile",
        ),
        ({}, "no path"),
        ({"path": "a", "onbadfile": "ignore"}, "onBadFile is ignore: it must be fail or skip"),
        ({"path": "a", "partitionbytes": "64MB"}, "partitionBytes is 64MB: it must be a number of bytes"),
        ({"path": "a", "partitionbytes": "0"}, "partitionBytes is 0"),
    ],
)
def test_wrong_options_are_refused(options: Mapping[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        parse_options(options)


def test_options_are_parsed() -> None:
    options = parse_options({"paths": '["a", "b"]', "COLUMNS": " Jet, ,MissingET.MET", "onbadfile": "skip"})
    assert (options.paths, options.columns, options.skip) == (("a", "b"), ("Jet", "MissingET.MET"), True)
    assert parse_options({"path": "a"}).partition_bytes == 64 << 20


def test_a_partition_is_small(raw: Path) -> None:
    source = RootSource({"path": str(raw), "columns": "Electron"})
    partitions = source.reader(source.schema()).partitions()
    assert max(len(pickle.dumps(partition)) for partition in partitions) < 1000
