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

from support import simulation_tasks
from toposieve import schema
from toposieve.config import SelectionConfig
from toposieve.environment import JOBS_FOLDER
from toposieve.errors import InvalidInputError
from toposieve.io.delphes import inspect_file, read_events
from toposieve.io.manifests import read_manifest
from toposieve.io.store import Key
from toposieve.physics.selection import select_events
from toposieve.simulation.prompt_leptons import HADRONIC_SHARE

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


def folder_of(base: Path, sample: str) -> Key:
    """A sample's output."""
    return Key(str(base)) / "raw" / sample / PARTITION


def root_files(base: Path, sample: str, partition: str = PARTITION) -> list[Path]:
    """A sample's files, in order."""
    return sorted((base / "raw" / sample / partition / "simulated").glob("*.root"))


def contents_of(base: Path, *patterns: str) -> dict[str, bytes]:
    """Manifests and simulated files, to the byte."""
    wanted = patterns or ("raw/*/*/manifest*.json", "raw/*/*/simulated/*")
    return {str(path.relative_to(base)): path.read_bytes() for pattern in wanted for path in base.glob(pattern)}


@pytest.fixture(scope="module")
def simulated(spark, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("simulated")
    simulate(base)
    return base


@pytest.fixture(scope="module")
def contents(simulated):
    return contents_of(simulated)


@pytest.mark.parametrize("sample", schema.SAMPLES)
def test_manifest_counts_what_the_files_hold(simulated, sample):
    manifest = read_manifest(folder_of(simulated, sample))
    listed = {file.path for file in manifest.outputs()}
    assert listed <= {f"simulated/{path.name}" for path in root_files(simulated, sample)}
    selected, pileup = 0, []
    for unit in manifest.units:
        file = inspect_file(Key(str(simulated / "raw")), f"{sample}/{PARTITION}/{unit.outputs[0].path}")
        for batch in read_events(file, 0, unit.entry_stop):
            assert len(batch.events["MissingET"]) == unit.counts["events"]
            found = len(select_events(batch.events, SelectionConfig(), btag_mask=1).rows)
            assert found == unit.counts["selected"]
            selected += found
            pileup += batch.pileup.tolist()
    assert np.mean(pileup) == pytest.approx(2, abs=0.7)
    assert selected >= 20
    assert selected - manifest.units[-1].counts["selected"] < 20


def test_weights_are_successes_in_qcd_and_nearly_all_1_elsewhere(simulated):
    weights = {
        sample: np.concatenate(
            [
                uproot.open(path)[schema.TREE_NAME]["Event.Weight"].array()[:, 0].to_numpy()
                for path in root_files(simulated, sample)
            ]
        )
        for sample in schema.SAMPLES
    }
    assert set(weights["ttbar"].ravel().tolist()) <= {1.0, 1 / HADRONIC_SHARE}
    assert (weights["ttbar"] == 1).mean() > 0.5
    assert (weights["wjets"] == 1).all()
    assert (weights["qcd"] >= 1).all()
    assert weights["qcd"].max() > 1


def test_a_second_run_does_nothing(simulated, caplog):
    before = {path: path.stat().st_mtime_ns for path in simulated.rglob("*.*")}
    with caplog.at_level("INFO"):
        simulate(simulated)
    assert "nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in simulated.rglob("*.*")} == before


def test_the_number_of_tasks_changes_no_byte(simulated, tmp_path):
    """One core makes one file at a time; the session of the other tests has two, and so may make some in vain."""
    command = [sys.executable, JOBS_FOLDER / "simulate.py", "--base", tmp_path, "--partition", PARTITION, *TINY]
    subprocess.run([*command, "--master=local[1]"], check=True)
    published = ["raw/*/*/manifest*.json", *(f"raw/*/*/{name}" for name in listed_by(tmp_path))]
    assert contents_of(tmp_path, *published) == contents_of(simulated, *published)


def listed_by(base: Path) -> list[str]:
    """Files that the manifests list."""
    return [file.path for sample in schema.SAMPLES for file in read_manifest(folder_of(base, sample)).outputs()]


def test_a_lost_file_comes_back_the_same(simulated, contents):
    lost = next(path for path in root_files(simulated, "wjets") if "wjets-000000-" in path.name)
    lost.unlink()
    simulate(simulated)
    assert contents_of(simulated) == contents


def test_history_is_all_that_is_done_where_asked_for(simulated, tmp_path, capsys):
    simulate(simulated, "--history")
    assert f"{folder_of(simulated, 'wjets')}:\n     1  20" in capsys.readouterr().out
    simulate(tmp_path, "--history")
    assert not list(tmp_path.iterdir())


def test_every_partition_has_events_of_its_own_and_the_same_pileup_library(simulated, tmp_path, caplog):
    raw = tmp_path / "elsewhere"
    shutil.copytree(simulated / "raw" / "_pileup", raw / "_pileup")
    with caplog.at_level("INFO"):
        simulate(tmp_path / "base", f"--raw={raw}", '--set=samples=["wjets"]', partition="2026-01-02")
    assert "is there" in caplog.text
    assert not (tmp_path / "base").exists()
    ours = sorted(raw.glob("wjets/2026-01-02/simulated/*.root"))[0]
    theirs = root_files(simulated, "wjets")[0]
    arrays = [uproot.open(path)[schema.TREE_NAME]["MissingET.MET"].array().to_list() for path in (ours, theirs)]
    assert arrays[0] != arrays[1]
    assert ours.name != theirs.name


def test_a_full_disk_is_said_and_nothing_published(spark, tmp_path, monkeypatch):
    monkeypatch.setattr("toposieve.simulation.campaign.simulate_item", simulation_tasks.write_to_full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:  # cli.run turns it into exit code 2
        simulate(tmp_path, "--set=pileup=0", '--set=samples=["wjets"]')
    assert caught.value.errno == errno.ENOSPC
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_configuration_is_refused_and_loses_nothing(simulated):
    before = contents_of(simulated)
    with pytest.raises(InvalidInputError, match="made with another configuration"):
        simulate(simulated, "--set=seed=2")
    assert contents_of(simulated) == before


def test_raw_files_are_not_written_where_they_can_only_be_read(tmp_path):
    # In a process of its own: XRootD's library and TensorFlow, which other tests have loaded here, do not go together.
    command = [sys.executable, JOBS_FOLDER / "simulate.py", "--base", tmp_path, "--partition", PARTITION]
    done = subprocess.run([*command, "--raw=root://127.0.0.1:1//data"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "root:// is read only" in done.stderr
    assert "Spark" not in done.stdout
