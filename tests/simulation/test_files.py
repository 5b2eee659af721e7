"""One simulated file, in this process."""

import dataclasses
import re
from datetime import datetime

import numpy as np
import pytest
import uproot

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import IngestConfig, SimulationConfig
from toposieve.cross_sections import Production
from toposieve.io.delphes import inspect_file
from toposieve.io.manifests import Unit
from toposieve.io.names import RECORDS
from toposieve.io.store import Key
from toposieve.io.units import find_unit
from toposieve.simulation import files
from toposieve.simulation.files import FileTask, date_of, merge, simulate_file, simulate_item, truth_chunks
from toposieve.simulation.generator import TruthEvents, generate
from toposieve.simulation.pileup import LibraryFiles
from toposieve.spark.ingestion import plan, store_unit


def batch(*weights, tried=0):
    """Events with one particle each, whose px is the event's weight."""
    n = len(weights)
    particles = {"event": np.arange(n), "px": np.array(weights, dtype=float)}
    quarks = {"event": np.repeat(np.arange(n), 2), "eta": np.zeros(2 * n)}
    return TruthEvents(n, particles, quarks, np.array(weights, dtype=float), Production(tried))


def test_batches_merge_and_are_cut():
    merged = merge([batch(1, 2, tried=10), batch(tried=20), batch(3, 4, tried=30)], at_most=3)
    assert merged.count == 3
    assert merged.weights.tolist() == [1.0, 2.0, 3.0]
    assert merged.particles["event"].tolist() == [0, 1, 2]
    assert merged.particles["px"].tolist() == [1.0, 2.0, 3.0]
    assert merged.quarks["event"].tolist() == [0, 0, 1, 1, 2, 2]
    assert merged.so_far.tried == 30


@pytest.mark.parametrize(("n_events", "sizes"), [(5, [5]), (7, [7]), (10, [8, 2]), (17, [8, 8, 1])])
def test_chunks_hold_exactly_the_events_asked_for(monkeypatch, n_events, sizes):
    monkeypatch.setattr(files, "DETECTOR_CHUNK", 8)
    numbers = iter(range(100))
    batches = (batch(next(numbers), next(numbers)) for _ in range(50))
    chunks = list(truth_chunks(batches, n_events))
    assert [chunk.count for chunk in chunks] == sizes
    assert [weight for chunk in chunks for weight in chunk.weights] == list(range(n_events))


@pytest.fixture
def task(tmp_path):
    config = SimulationConfig(pileup=0, events_per_file=12)
    return FileTask("wjets", "2026-01-01", 3, 12, config, None, Key(str(tmp_path)))


def test_a_file_follows_from_its_task(task, tmp_path):
    unit = simulate_item(task).unit
    assert re.fullmatch(r"simulated/wjets-000003-[0-9a-f]{12}\.root", unit.outputs[0].path)
    assert unit.outputs[0].path == task.name
    assert unit.entry_stop == unit.counts["events"] == 12
    assert unit.counts["selected"] <= 12 <= unit.counts["generated"]
    assert str(task.seed) in unit.source
    assert 0 < unit.cross_section.error < unit.cross_section.pb
    assert unit.cross_section.generated == unit.counts["generated"]
    again = simulate_file(task, tmp_path / "again")
    assert (again.counts, again.cross_section) == (unit.counts, unit.cross_section)
    assert (tmp_path / "again").read_bytes() == (tmp_path / task.name).read_bytes()
    with uproot.open(tmp_path / task.name) as file:
        assert file["Delphes"]["Event.Number"].array().to_list() == [[number] for number in range(12)]
        assert file["Delphes"]["Event.PileUp"].array().to_list() == [[0]] * 12
        assert file.created_on == datetime(2026, 1, 1)


def test_what_an_earlier_run_left_is_adopted_unless_all_is_to_be_made_anew(task, monkeypatch):
    calls = []

    def fake_file(task, path):
        calls.append(task)
        path.write_text("events")
        return Unit(source=task.source, source_checksum="", entry_start=0, entry_stop=12, counts={}, outputs=())

    monkeypatch.setattr(files, "simulate_file", fake_file)
    first, second = simulate_item(task), simulate_item(task)
    assert (first.adopted, second.adopted, len(calls)) == (False, True, 1)
    assert second.unit == first.unit
    anew = simulate_item(dataclasses.replace(task, adopt=False))
    assert (anew.adopted, anew.unit, len(calls)) == (False, first.unit, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 4},
        {"partition": "2026-01-02"},
        {"sample": "ttbar"},
        {"config": SimulationConfig(pileup=0, events_per_file=13)},
        {"library": LibraryFiles((Key("/raw", "_pileup/aa/block-00000-0123456789ab.npy"),), (10,))},
    ],
)
def test_other_content_has_another_name_and_uuid(task, change):
    other = dataclasses.replace(task, **change)
    assert other.name.rpartition("-")[2] != task.name.rpartition("-")[2]
    assert other.uuid != task.uuid


def test_other_code_has_another_name(task, monkeypatch):
    before = task.name
    monkeypatch.setitem(CODE_NUMBERS, "simulate", 1000)
    assert task.name != before


def test_a_name_does_not_tell_where_the_file_lies(task):
    assert dataclasses.replace(task, folder=Key("s3://elsewhere")).name == task.name
    elsewhere = [
        LibraryFiles((Key(root, "_pileup/aa/block-00000-0123456789ab.npy"),), (10,)) for root in ("/raw", "s3://bucket")
    ]
    names = {dataclasses.replace(task, library=library).name for library in elsewhere}
    assert len(names) == 1


@pytest.mark.parametrize(
    ("partition", "year"), [("2026-01-02", 2026), ("1994-12-31", 1995), ("2059-01-01", 1995), ("warm-up", 1995)]
)
def test_dates_are_those_of_the_partition_where_root_has_them(partition, year):
    assert date_of(partition).year == year


@pytest.mark.parametrize("change", [{"index": 4}, {"partition": "2026-01-02"}, {"sample": "ttbar"}])
def test_every_file_has_a_seed_of_its_own(task, change):
    assert dataclasses.replace(task, **change).seed != task.seed


def test_the_simulations_seed_changes_every_file(task):
    other = task.config.model_copy(update={"seed": 2})
    assert dataclasses.replace(task, config=other).seed != task.seed


def test_the_seeds_of_a_partition_follow_each_other(task):
    assert [dataclasses.replace(task, index=3 + n).seed - task.seed for n in range(1000)] == list(range(1000))


@pytest.fixture(scope="module")
def truth():
    """What Pythia makes first."""
    return next(generate("wjets", 5))


def test_files_of_one_seed_look_the_same_to_prepare_whatever_their_partitions(task, truth, monkeypatch):
    """It compares what files have become, and names two that became the same."""
    monkeypatch.setattr(FileTask, "seed", 5)
    monkeypatch.setattr(files, "generate", lambda sample, seed: iter([truth]))
    raw, events = [], []
    for partition in ("2026-01-01", "warm-up"):
        here = dataclasses.replace(task, partition=partition, events=2)
        raw.append(simulate_item(here).unit.outputs[0])
        (item,) = plan([inspect_file(task.folder, here.name)], task.folder / "events", IngestConfig())
        events.append(store_unit(item).unit.outputs[0])
    assert raw[0].checksum != raw[1].checksum
    assert (events[0].bytes, events[0].checksum) == (events[1].bytes, events[1].checksum)


def test_attempts_at_one_file_that_overlap_disturb_neither_each_other_nor_the_file(task, truth, monkeypatch):
    """One of Spark's attempts begins and ends while another has its file open."""
    seen = []

    def overtaken(sample, seed):
        if not seen:
            seen.append(None)
            simulate_item(task)
            seen.append((task.folder / task.name).read_bytes())
        yield truth

    monkeypatch.setattr(files, "generate", overtaken)
    task = dataclasses.replace(task, events=2)
    unit = simulate_item(task).unit
    assert (task.folder / task.name).read_bytes() == seen[1]
    assert unit == find_unit(task.folder, task.name)
    assert set(task.folder.list()) == {task.name, f"{RECORDS}/{task.name}.json"}
