"""Real jobs on Spark that lose their driver, a worker or a race: identical bytes, nothing done twice but in flight."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import chain
from support.held_jobs import Hold, RunningJob, python_job
from toposieve.io.store import Key

pytestmark = pytest.mark.usefixtures("spark")
FREE = 3


@pytest.fixture(scope="module")
def undisturbed(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base on which every stage was run."""
    base = tmp_path_factory.mktemp("undisturbed")
    chain.write_raw(base / "raw")
    chain.run_ingest(str(base), str(base / "raw"))
    chain.run_select(str(base), str(base / "raw"))
    chain.run_prepare(str(base))
    return base


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path / "hold", FREE)
    yield hold
    hold.end()


@pytest.fixture
def base(undisturbed: Path, tmp_path: Path) -> Path:
    """A base where only the raw files are there."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "raw").symlink_to(undisturbed / "raw")
    return tmp_path / "base"


@pytest.fixture
def start(base: Path, hold: Hold) -> Iterator[object]:
    """Starts a job, which is gone after the test."""
    jobs: list[RunningJob] = []

    def start(master: str, script: str, *arguments: str) -> RunningJob:
        command = python_job(script, "--base", str(base), "--master", master, *arguments)
        jobs.append(RunningJob(command, base / "job.log", hold.environment))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


def same(stage: str, base: Path, undisturbed: Path) -> None:
    folder = chain.FOLDERS[stage]
    assert chain.published(Key(str(base)) / folder) == chain.published(Key(str(undisturbed)) / folder)


def copy(stage: str, base: Path, undisturbed: Path) -> None:
    shutil.copytree(undisturbed / chain.FOLDERS[stage], base / chain.FOLDERS[stage])


def made_again(base: Path, stage: str, done: list[str]) -> set[str]:
    """Which of the units that were done have new files."""
    times = {name: (base / chain.FOLDERS[stage] / name).stat().st_mtime_ns for name in done}
    {"ingest": lambda: chain.run_ingest(str(base), str(base / "raw")), "prepare": lambda: chain.run_prepare(str(base))}[
        stage
    ]()
    return {name for name in done if (base / chain.FOLDERS[stage] / name).stat().st_mtime_ns != times[name]}


def test_ingest_goes_on_after_its_driver_was_killed(start, hold: Hold, base: Path, undisturbed: Path) -> None:
    job = start("local[2]", "ingest.py", *chain.INGEST)
    hold.wait(held=2, done=FREE)
    done = hold.units("done")
    assert job.end_with(signal.SIGKILL) == -signal.SIGKILL
    assert len(done) < chain.UNITS
    assert not made_again(base, "ingest", done)
    same("ingest", base, undisturbed)


def test_prepare_goes_on_after_it_was_ended_among_its_shards(start, hold: Hold, base: Path, undisturbed: Path) -> None:
    copy("select", base, undisturbed)
    job = start("local[2]", "prepare_features.py", *chain.PREPARE)
    hold.wait(held=2, done=FREE)
    done = hold.units("done")
    assert job.end_with(signal.SIGTERM) == -signal.SIGTERM
    assert len(done) < len(chain.published(Key(str(undisturbed)) / chain.FOLDERS["prepare"])) - 2
    assert not made_again(base, "prepare", done)
    same("prepare", base, undisturbed)


def test_select_bears_the_loss_of_a_worker(start, hold: Hold, base: Path, undisturbed: Path) -> None:
    copy("ingest", base, undisturbed)
    job = start("local[2,4]", "select_events.py", *chain.SELECT)
    hold.wait(held=2, done=FREE)
    os.kill(hold.processes()[0], signal.SIGKILL)
    hold.end()
    job.finish()
    assert len(set(hold.units("done"))) == len(hold.units("done")) == chain.UNITS
    same("select", base, undisturbed)


def test_of_two_runs_at_once_both_end_well(start, hold: Hold, base: Path, undisturbed: Path) -> None:
    job = start("local[2]", "ingest.py", *chain.INGEST)
    hold.wait(held=2, done=FREE)
    assert not made_again(base, "ingest", hold.units("done"))
    same("ingest", base, undisturbed)
    hold.end()
    job.finish()
    same("ingest", base, undisturbed)
    assert len(hold.units("done")) <= FREE + 4  # what was in flight; the rest was adopted
