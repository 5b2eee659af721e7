"""``--plan`` of the Spark jobs: what there is to do, looked up without Spark, and without writing anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ingest
import prepare_features
import select_events
import simulate
from support.chain import DAY, EVENTS, INGEST, PREPARE, SELECT, UNITS, run_ingest, run_prepare, run_select, write_raw
from toposieve import cli, schema
from toposieve.cost import SHIPPED, Work, describe
from toposieve.spark import session

JOBS = {
    "ingest": (ingest, INGEST),
    "select": (select_events, SELECT),
    "prepare": (prepare_features, PREPARE),
    "simulate": (simulate, ("--partition", DAY, "--set", "selected_events=100")),
}
FILES = len(schema.SAMPLES)


@pytest.fixture(scope="module")
def done(spark, tmp_path_factory) -> Path:
    """All stages, done."""
    base = tmp_path_factory.mktemp("done")
    write_raw(base / "raw")
    run_ingest(str(base), str(base / "raw"))
    run_select(str(base), str(base / "raw"))
    run_prepare(str(base))
    return base


@pytest.fixture
def works(monkeypatch) -> dict[str, Work]:
    """What the last plan was about."""
    found: dict[str, Work] = {}

    def note(works, *arguments):
        found.clear()
        found.update(works)
        return describe(works, *arguments)

    monkeypatch.setattr(cli.cost, "describe", note)
    monkeypatch.setattr(cli.cost, "load_costs", lambda: (SHIPPED, "as shipped"))
    return found


def plan(stage: str, base: Path, *more: str) -> None:
    """Show a stage's plan; a session, or anything written, is an error."""
    job, arguments = JOBS[stage]
    before = contents(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "spark_session", None)
        job.main(job.arg_parser().parse_args(["--base", str(base), *arguments, "--plan", *more]))
    assert contents(base) == before


def contents(base: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in base.rglob("*")}


@pytest.mark.parametrize("stage", ["ingest", "select", "prepare"])
def test_nothing_is_planned_where_all_is_done(done, works, capsys, stage):
    plan(stage, done)
    assert not any(work.units for work in works.values())
    assert "plan: nothing to do\n" in capsys.readouterr().out


def test_ingest_plans_for_files_that_nobody_has_looked_into(tmp_path, works):
    write_raw(tmp_path / "raw")
    plan("ingest", tmp_path)
    files = [*(tmp_path / "raw").rglob("*.root")]
    work = works["ingest"]
    assert (work.files, work.bytes) == (FILES, sum(file.stat().st_size for file in files))
    # Of a file of the schema's leaves, a collection has a counter.
    leaves = sum(len(names) + 1 for names in schema.DELPHES_LEAVES.values())
    assert work.branches == FILES * leaves


def test_ingest_plans_for_the_file_that_is_new(done, works):
    file = done / "raw" / "qcd" / DAY / "new.root"
    file.write_bytes(b"not even ROOT")
    plan("ingest", done)
    file.unlink()
    assert (works["ingest"].files, works["ingest"].bytes, works["ingest"].branches) == (1, 13, 0)


def test_select_plans_for_units_that_are_not_selected(done, tmp_path, works):
    base = shutil.copytree(done, tmp_path / "base")
    shutil.rmtree(base / "selected")
    plan("select", base)
    assert (works["select"].files, works["select"].units, works["select"].events) == (FILES, UNITS, FILES * EVENTS)


def test_select_plans_for_what_is_lost_alone(done, tmp_path, works):
    base = shutil.copytree(done, tmp_path / "base")
    next((base / "selected").rglob("*.parquet")).unlink()
    plan("select", base)
    assert (works["select"].files, works["select"].units, works["select"].events) == (1, 1, 15)


def test_prepare_plans_for_the_events_that_it_takes(done, tmp_path, works):
    base = shutil.copytree(done, tmp_path / "base")
    shutil.rmtree(base / "datasets")
    plan("prepare", base, "--set", "max_events_per_class=7")
    assert (works["prepare"].units, works["prepare"].events) == (UNITS, FILES * 7)


def test_simulate_plans_for_each_sample_and_its_pileup(tmp_path, works, capsys):
    plan("simulate", tmp_path, "400")
    events = {stage: work.events for stage, work in works.items()}
    assert events == {"pile-up library": 5000, **{f"simulate {sample}": 100 for sample in ("qcd", "ttbar", "wjets")}}
    # Four stages of one job: Spark starts once, in 8 s.
    seconds = [work.marginal_seconds(SHIPPED[stage]) for stage, work in works.items()]
    assert f"plan: all: CPU time {sum(seconds) + 8:,.0f} s, on 400 cores about" in capsys.readouterr().out


@pytest.mark.parametrize("cores", ["0", "-1", "many"])
def test_number_of_cores_is_checked(cores, capsys):
    with pytest.raises(SystemExit) as error:
        ingest.arg_parser().parse_args(["--base", "x", *INGEST, f"--plan={cores}"])
    assert error.value.code == 2
    assert f"{cores} is no number of cores: give one from 1 on, for example 400" in capsys.readouterr().err
