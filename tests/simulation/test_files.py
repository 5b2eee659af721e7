"""One simulated file, in this process."""

import dataclasses

import numpy as np
import pytest
import uproot

from toposieve.config import SimulationConfig
from toposieve.simulation import files
from toposieve.simulation.files import FileTask, merge, simulate_file, truth_chunks
from toposieve.simulation.generator import TruthEvents


def batch(*weights, tried=10):
    """Events with one particle each, whose px is the event's weight."""
    n = len(weights)
    particles = {"event": np.arange(n), "px": np.array(weights, dtype=float)}
    quarks = {"event": np.repeat(np.arange(n), 2), "eta": np.zeros(2 * n)}
    return TruthEvents(n, particles, quarks, np.array(weights, dtype=float), tried)


def test_batches_merge_and_are_cut():
    merged = merge([batch(1, 2), batch(), batch(3, 4)], at_most=3)
    assert merged.count == 3
    assert merged.weights.tolist() == [1.0, 2.0, 3.0]
    assert merged.particles["event"].tolist() == [0, 1, 2]
    assert merged.particles["px"].tolist() == [1.0, 2.0, 3.0]
    assert merged.quarks["event"].tolist() == [0, 0, 1, 1, 2, 2]
    assert merged.tried == 30


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
    return FileTask("wjets", "2026-01-01", 3, 12, config, None, tmp_path)


def arrays(path):
    with uproot.open(path) as file:
        return {branch.name: branch.array().to_list() for branch in file["Delphes"].branches}


def test_a_file_follows_from_its_task(task, tmp_path):
    unit = simulate_file(task)
    assert unit.outputs[0].path == "wjets-000003.root"
    assert unit.entry_stop == unit.counts["events"] == 12
    assert unit.counts["selected"] <= 12 <= unit.counts["generated"]
    assert str(task.seed) in unit.source
    again = tmp_path / "again"
    again.mkdir()
    assert simulate_file(dataclasses.replace(task, folder=again)).counts == unit.counts
    assert arrays(again / task.name) == arrays(tmp_path / task.name)
    assert arrays(again / task.name)["Event.Number"] == [[number] for number in range(12)]


@pytest.mark.parametrize("change", [{"index": 4}, {"partition": "2026-01-02"}, {"sample": "ttbar"}])
def test_every_file_has_a_seed_of_its_own(task, change):
    assert dataclasses.replace(task, **change).seed != task.seed


def test_the_simulations_seed_changes_every_file(task):
    other = task.config.model_copy(update={"seed": 2})
    assert dataclasses.replace(task, config=other).seed != task.seed
