"""The DAGs in a real Airflow, on small data: samples, a backfill of three days, and training on their union.

The tests build on one another, in order: each fixture is a run of a DAG.
"""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest

from support.browser import DARK, LIGHT, chromium, expect, log_in, new_page
from support.published import newest_manifest, published_files
from support.real_airflow import SMALL_SIMULATION, SMALL_TRAINING, DagRun
from toposieve_airflow.runs import assets
from toposieve_airflow.ui import REPORT_TAB
from toposieve_demo import backfill, demo, runs
from toposieve_demo.api import Api, ApiError

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
SAMPLES = ["qcd", "ttbar", "wjets"]
RANGE = {"partition_start": DAYS[0], "partition_end": DAYS[-1]}
MODELS = ["hlf", "inclusive"]
DEADLINE_S = 300


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def count(folder: Path, name: str, sample: str) -> int:
    units = newest_manifest(folder)["units"]
    return sum(unit["counts"][name] for unit in units if unit["source"].startswith(f"{sample}/"))


def state_of_files(base: Path) -> dict[str, int]:
    """When each file of the per-day stages was last written."""
    folders = [base / stage for stage in ("raw", "events", "selected")]
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*.*") if path.is_file()}


@pytest.fixture(scope="module")
def simulated(airflow) -> Path:
    """Samples of three days, from the DAG simulate_events."""
    assert airflow.run("simulate_events", "samples", {**RANGE, **SMALL_SIMULATION}) == "success"
    return airflow.base


@pytest.fixture(scope="module")
def backfilled(airflow, simulated: Path) -> Path:
    """Three days of build_dataset, by `make backfill`, beside a nightly run that is off."""
    assert make_backfill(airflow, DAYS[0], DAYS[-1]) == 0
    assert airflow.api.is_paused(backfill.DAG_ID)
    runs = airflow.runs(backfill.DAG_ID)
    wanted = [run for run in runs if run["run_type"] == "backfill"]
    assert sorted((run["partition_key"], run["state"]) for run in wanted) == [(day, "success") for day in DAYS]
    nightly = [run for run in runs if run not in wanted]
    assert nightly
    assert all("Not wanted" in run["note"] for run in nightly)
    return airflow.base


def make_backfill(airflow, first: str, last: str) -> int:
    home = ["--home", str(airflow.local.home.folder), "--port", str(airflow.local.home.port)]
    return backfill.main(backfill.arg_parser().parse_args([*home, first, last]))


@pytest.fixture(scope="module")
def report(airflow, backfilled: Path, errors: io.StringIO) -> Path:
    """The whole chain on the union of the days, by the demo's own code, in which the second of two models fails.

    What is complete passes through.
    """
    before = state_of_files(backfilled)
    conf = {**demo.CONF, **RANGE, **SMALL_SIMULATION, **SMALL_TRAINING, "simulate": False, "models": MODELS}
    with ThreadPoolExecutor() as beside, redirect_stderr(errors):
        failing = beside.submit(fail_second_model, airflow)
        assert runs.run_chain(airflow.local, airflow.profile, conf, demo.RUN_PREFIX) is None
    (folder,) = (backfilled / "reports").iterdir()
    runs._show_result(airflow.api, airflow.profile, failing.result(), str(folder))
    assert state_of_files(backfilled) == before
    assert airflow.api.is_paused(runs.DAG_ID)
    return folder


@pytest.fixture(scope="module")
def errors() -> io.StringIO:
    """What the demo says of its failure."""
    return io.StringIO()


def fail_second_model(airflow) -> str:
    """Do to the second model's task what the button in the UI does, once it runs; returns the run's name.

    Before that the scheduler may be writing that it is queued, over what the button has written.
    """
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for run in (DagRun(airflow.local, runs.DAG_ID, run["dag_run_id"]) for run in airflow.runs(runs.DAG_ID)):
            for task in run.tasks("train")[1:]:
                if task["state"] == "running":
                    run.mark_failed(task)
                    return run.run_id
        time.sleep(0.2)
    raise TimeoutError("no second model")


def test_samples_of_every_day(simulated: Path) -> None:
    for day in DAYS:
        for sample in SAMPLES:
            assert published_files(simulated / "raw" / sample / day)


def test_backfill_builds_every_day_and_announces_it(airflow, backfilled: Path) -> None:
    for day in DAYS:
        assert newest_manifest(backfilled / "selected" / day)["units"]
    events = airflow.api.get("/assets/events", limit=100)["asset_events"]
    announced = {(event["name"], event["partition_key"]) for event in events}
    assert announced == {(name, day) for name in ("toposieve_events", "toposieve_selected") for day in DAYS}
    for event in (event for event in events if event["name"] == "toposieve_selected"):
        selected = backfilled / "selected" / event["partition_key"]
        assert event["extra"]["path"] == str(selected)
        for sample, counts in event["extra"]["cutflow"].items():
            assert counts["isolated_lepton"] == count(selected, "isolated_lepton", sample)


def test_a_model_that_fails_leaves_the_report_on_the_others(report: Path, errors: io.StringIO) -> None:
    metrics = read(report / "metrics.json")
    assert (list(metrics["models"]), metrics["missing"]) == (MODELS[:1], MODELS[1:])
    assert "task evaluate failed: " in errors.getvalue()
    assert f"{report}/report.html is without {MODELS[1]}, whose training failed: " in errors.getvalue()


def test_report_counts_equal_the_sum_of_the_manifests(backfilled: Path, report: Path) -> None:
    cutflow = {step["name"]: step["events"] for step in read(report / "metrics.json")["cutflow"]}
    for sample in SAMPLES:
        events = sum(count(backfilled / "events" / day, "events", sample) for day in DAYS)
        assert cutflow["events"][sample] == events
        for cut in ("lepton_pt", "isolated_lepton"):
            selected = sum(count(backfilled / "selected" / day, cut, sample) for day in DAYS)
            assert cutflow[cut][sample] == selected


def test_samples_that_are_there_already_are_not_simulated(airflow, report: Path) -> None:
    (run,) = [run for run in airflow.runs(runs.DAG_ID) if run["dag_run_id"].startswith(demo.RUN_PREFIX)]
    states = [(task["task_id"], task["state"]) for task in airflow.api.tasks(runs.DAG_ID, run["dag_run_id"])]
    assert states.count(("simulate", "skipped")) == 1  # none is started for a day, only to be skipped
    assert states.count(("ingest", "success")) == len(DAYS)


def test_each_worker_logs_under_its_own_name(airflow, report: Path) -> None:
    run = DagRun(airflow.local, runs.DAG_ID, first_run(airflow))
    records = run.log(run.tasks("train")[0])
    loggers = {record["logger"] for record in records if record.get("event", "").startswith("[worker ")}
    assert loggers == {"toposieve.worker.0", "toposieve.worker.1"}


def first_run(airflow) -> str:
    """Name of the run of the whole chain that the demo's code has started."""
    return next(run["dag_run_id"] for run in airflow.runs(runs.DAG_ID) if run["dag_run_id"].startswith(demo.RUN_PREFIX))


def test_report_is_one_page(report: Path) -> None:
    assert (report / "report.html").stat().st_size > 10_000


def test_a_finished_day_starts_the_classifier_with_its_key(airflow, report: Path) -> None:
    before = state_of_files(airflow.base)
    airflow.api.unpause(runs.DAG_ID)
    assert airflow.run(backfill.DAG_ID, "again", {}, partition_key=DAYS[1]) == "success"
    started = started_by(airflow, runs.DAG_ID, DAYS[1])
    airflow.api.end_run(runs.DAG_ID, started.run_id)
    assert state_of_files(airflow.base) == before


def started_by(airflow, dag_id: str, key: str) -> DagRun:
    """The run of a DAG that an asset's event with a partition key starts."""
    deadline = time.monotonic() + DEADLINE_S
    while not (started := [run for run in airflow.runs(dag_id) if run["partition_key"] == key]):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert started[0]["run_type"].startswith("asset")
    return DagRun(airflow.local, dag_id, started[0]["dag_run_id"])


def test_a_backfilled_day_is_done_again_and_starts_no_training(airflow, report: Path) -> None:
    airflow.api.unpause(runs.DAG_ID)
    assert make_backfill(airflow, DAYS[0], DAYS[0]) == 0
    days = [run["partition_key"] for run in airflow.runs(backfill.DAG_ID) if run["run_type"] == "backfill"]
    assert sorted(days) == [DAYS[0], *DAYS]
    started = started_by(airflow, runs.DAG_ID, DAYS[0])
    assert started.wait() == "success"
    assert {task["state"] for task in airflow.api.tasks(runs.DAG_ID, started.run_id)} == {"skipped"}
    assert any("TRAIN=1" in record.get("reason", "") for record in started.log(started.tasks("plan")[0]))


def test_the_plugin_is_listed(airflow) -> None:
    """One wrong destination, and Airflow drops it with no more than a warning in a log."""
    (plugin,) = [each for each in airflow.api.get("/plugins")["plugins"] if each["name"] == "toposieve"]
    assert {(view["name"], view["destination"]) for view in plugin["external_views"]} == {
        ("Toposieve", "nav"),
        ("Report", "dag_run"),
    }
    assert airflow.api.get("/plugins/importErrors")["import_errors"] == []


def test_results_are_shown_in_a_browser_in_both_themes_behind_a_prefix(airflow, report: Path) -> None:
    run = first_run(airflow)
    with chromium() as browser, airflow.server_below("/below/here") as url:
        for theme in ("light", "dark"):
            with new_page(browser, theme) as page:
                page.goto(f"{url}/toposieve/reports")
                log_in(page, airflow.local.home)
                expect(page.get_by_role("link", name=report.name)).to_be_visible()
                page.goto(f"{url}/dags/{runs.DAG_ID}/runs/{run}")
                page.get_by_role("link", name="Report", exact=True).click()
                expect(page).to_have_url(f"{url}/dags/{runs.DAG_ID}/runs/{run}/plugin/{REPORT_TAB}")
                tab = page.frame_locator("iframe")
                expect(tab.frame_locator("iframe").locator("h1")).to_be_visible()
                expect(tab.get_by_text(f"without {MODELS[1]}")).to_be_visible()
                expect(tab.locator("html")).to_have_class(DARK if theme == "dark" else LIGHT)
                tab.get_by_role("link", name="all reports").click()
                pages = page.frame_locator("iframe")
                pages.get_by_role("link", name="Days", exact=True).click()
                for day in DAYS:
                    expect(pages.get_by_role("row", name=f"{day} ").get_by_role("link", name=run)).to_be_visible()
                pages.get_by_role("link", name=DAYS[0], exact=True).click()
                expect(pages.get_by_role("heading", name="select", exact=True)).to_be_visible()


def test_wrong_params_are_refused_before_any_work(airflow) -> None:
    with pytest.raises(ApiError, match="400: Invalid input for param workers"):
        airflow.api.trigger(runs.DAG_ID, "wrong", {"workers": "two"})


def test_a_misspelt_param_ends_the_demo(airflow, capsys: pytest.CaptureFixture[str]) -> None:
    conf = {**RANGE, "worker": 3}
    assert runs.run_chain(airflow.local, airflow.profile, conf, demo.RUN_PREFIX) is None
    shown = capsys.readouterr()
    assert "task plan failed: unknown param worker: did you mean workers?" in shown.err
    assert "simulate" in shown.out
    assert "upstream_failed" in shown.out


@pytest.fixture(scope="module")
def registry(airflow, report: Path) -> Path:
    """The registry, once one run has waited for an answer in vain, one was rejected and one approved."""
    assert announced(airflow, report).wait() == "success"
    passwords = read(airflow.local.home.folder / "passwords.json")
    eve = Api(airflow.api.url, "eve", passwords["eve"])
    conf = {"report": report.name, "score_start": DAYS[0], "score_end": DAYS[1]}
    for run_id, option in (("rejected", "Reject"), ("approved", "Approve")):
        run = airflow.start("publish_model", run_id, conf)
        wait_for_question(airflow, run)
        with pytest.raises(ApiError, match=r"403: User=eve .* is not a respondent"):
            answer(eve, run, "Approve")
        answer(airflow.api, run, option)
        assert run.wait() == "success"
        publish = run.tasks("publish")[0]["state"]
        assert publish == ("success" if option == "Approve" else "skipped")
    return airflow.base / "registry" / "topology"


def announced(airflow, report: Path) -> DagRun:
    """The run that a report starts when it is announced, as evaluation does it: its name is the event's key."""
    airflow.api.unpause("publish_model")
    (asset,) = airflow.api.get("/assets", name_pattern=assets.REPORT.name)["assets"]
    airflow.api.post("/assets/events", {"asset_id": asset["id"], "partition_key": report.name})
    return started_by(airflow, "publish_model", report.name)


def wait_for_question(airflow, run: DagRun) -> None:
    """Wait until the scheduler knows, too: it fails a task that goes on before it has heard that its process ended."""
    log = airflow.local.home.log_file("scheduler")
    heard = f"TaskInstance Finished: dag_id={run.dag_id}, task_id=approve, run_id={run.run_id},"
    deadline = time.monotonic() + DEADLINE_S
    while run.tasks("approve")[0]["state"] != "awaiting_input" or heard not in log.read_text("utf-8"):
        assert time.monotonic() < deadline, run.failures()
        time.sleep(0.2)


def answer(api: Api, run: DagRun, option: str) -> None:
    """Answer as somebody does under Required Actions."""
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/approve/-1/hitlDetails"
    api.patch(path, {"chosen_options": [option], "params_input": {"why": "fewer QCD events"}})


def test_only_an_approval_publishes(airflow, registry: Path) -> None:
    (first,) = (registry / "published").iterdir()
    pointer = read(first)
    assert (pointer["version"], pointer["action"], pointer["why"]) == (1, "publish", "fewer QCD events")
    assert pointer["who"]
    assert [path.name for path in (registry / "versions").iterdir()] == ["000001.json"]  # of all three runs
    assert read(registry / "exports" / "000001.json")["difference"] < 1e-5


def test_what_is_published_decides_on_the_days_that_were_asked_for(airflow, registry: Path) -> None:
    decided = airflow.base / "decisions" / registry.name / "000001"
    assert sorted(path.name for path in decided.iterdir()) == DAYS[:2]
    for day in DAYS[:2]:
        selected = airflow.base / "selected" / day
        for sample in SAMPLES:
            assert count(decided / day, "events", sample) == count(selected, "isolated_lepton", sample)


def test_one_run_goes_back(airflow, registry: Path) -> None:
    version = read(registry / "versions" / "000001.json") | {"label": "other"}
    (registry / "versions" / "000002.json").write_text(json.dumps(version, indent=1) + "\n")
    pointer = read(registry / "published" / "000001.json") | {"version": 2}
    (registry / "published" / "000002.json").write_text(json.dumps(pointer, indent=1) + "\n")
    back = airflow.start("publish_model", "back", {"action": "rollback", "why": "rate too high"})
    assert back.wait() == "success"
    last = read(registry / "published" / "000003.json")
    assert (last["version"], last["action"], last["why"]) == (1, "rollback", "rate too high")
    back.clear("candidate")
    assert back.wait() == "success"
    assert len(list((registry / "published").iterdir())) == 3
