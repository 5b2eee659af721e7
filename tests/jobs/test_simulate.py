"""The simulation job on tiny samples."""

import errno
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import uproot

from support import sink_handlers
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import inspect_file, read_events
from toposieve.io.manifests import read_manifest
from toposieve.physics.selection import select_events
from toposieve.spark.session import JOBS_FOLDER

PARTITION = "2026-01-01"
TINY = [
    "--set=selected_events=20",
    "--set=pileup=2",
    "--set=pileup_library_events=40",
    "--set=events_per_file=15",
    "--set=qcd_fast=true",
]


def load_job():
    spec = importlib.util.spec_from_file_location("simulate", JOBS_FOLDER / "simulate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def simulate(base: Path, *arguments: str, partition: str = PARTITION) -> None:
    job = load_job()
    job.main(job.arg_parser().parse_args(["--base", str(base), "--partition", partition, *TINY, *arguments]))


def arrays_of(base: Path, partition: str = PARTITION) -> dict[str, list]:
    """Every leaf of every file, as lists; ROOT files differ in time stamps, their arrays may not."""
    found = {}
    for path in sorted(base.glob(f"raw/*/{partition}/*.root")):
        with uproot.open(path) as file:
            for branch in file[schema.TREE_NAME].branches:
                found[f"{path.name}:{branch.name}"] = branch.array().to_list()
    return found


@pytest.fixture(scope="module")
def simulated(spark, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("simulated")
    simulate(base)
    return base


@pytest.fixture(scope="module")
def arrays(simulated):
    return arrays_of(simulated)


@pytest.mark.parametrize("sample", schema.SAMPLES)
def test_manifest_counts_what_the_files_hold(simulated, sample):
    directory = simulated / "raw" / sample / PARTITION
    manifest = read_manifest(directory)
    assert {path.name for path in directory.glob("*.root")} == {file.path for file in manifest.outputs()}
    selected = 0
    for unit in manifest.units:
        file = inspect_file(simulated / "raw", f"{sample}/{PARTITION}/{unit.outputs[0].path}")
        for batch in read_events(file, 0, unit.entry_stop, 1000):
            assert len(batch.events["MissingET"]) == unit.counts["events"]
            found = len(select_events(batch.events, SelectionConfig(), btag_mask=1).rows)
            assert found == unit.counts["selected"]
            selected += found
    assert selected >= 20
    assert selected - manifest.units[-1].counts["selected"] < 20


def test_only_qcd_is_weighted(simulated):
    weights = {
        sample: np.concatenate(
            [
                uproot.open(path)[schema.TREE_NAME]["Event.Weight"].array()[:, 0].to_numpy()
                for path in (simulated / "raw" / sample / PARTITION).glob("*.root")
            ]
        )
        for sample in schema.SAMPLES
    }
    assert (weights["ttbar"] == 1).all()
    assert (weights["wjets"] == 1).all()
    assert (weights["qcd"] >= 1).all()
    assert weights["qcd"].max() > 1


def test_a_second_run_does_nothing(simulated, caplog):
    before = {path: path.stat().st_mtime_ns for path in simulated.rglob("*.*")}
    with caplog.at_level("INFO"):
        simulate(simulated)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in simulated.rglob("*.*")} == before


def test_a_lost_file_comes_back_the_same(simulated, arrays):
    lost = next((simulated / "raw" / "wjets" / PARTITION).glob("*-000000.root"))
    lost.unlink()
    simulate(simulated)
    assert arrays_of(simulated) == arrays


def test_the_number_of_tasks_changes_no_array(simulated, arrays, tmp_path):
    """One core makes one file at a time; the session of the other tests has two."""
    command = [sys.executable, JOBS_FOLDER / "simulate.py", "--base", tmp_path, "--partition", PARTITION, *TINY]
    subprocess.run([*command, "--master=local[1]"], check=True)
    assert arrays_of(tmp_path) == arrays


def test_every_partition_has_events_of_its_own_and_the_same_pileup_library(simulated, tmp_path, caplog):
    shutil.copytree(simulated / "raw" / "_pileup", tmp_path / "raw" / "_pileup")
    with caplog.at_level("INFO"):
        simulate(tmp_path, '--set=samples=["wjets"]', partition="2026-01-02")
    assert "is there" in caplog.text
    ours = uproot.open(tmp_path / "raw/wjets/2026-01-02/wjets-000000.root")[schema.TREE_NAME]["MissingET.MET"]
    theirs = uproot.open(simulated / f"raw/wjets/{PARTITION}/wjets-000000.root")[schema.TREE_NAME]["MissingET.MET"]
    assert ours.array().to_list() != theirs.array().to_list()


def test_a_full_disk_is_said_and_nothing_published(spark, tmp_path, monkeypatch):
    monkeypatch.setattr("toposieve.simulation.campaign.simulate_file", sink_handlers.write_to_full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:  # cli.run turns it into exit code 2
        simulate(tmp_path, "--set=pileup=0", '--set=samples=["wjets"]')
    assert caught.value.errno == errno.ENOSPC
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_configuration_is_refused_and_loses_nothing(simulated, arrays):
    with pytest.raises(InvalidInputError, match="made with another configuration"):
        simulate(simulated, "--set=seed=2")
    assert arrays_of(simulated) == arrays
