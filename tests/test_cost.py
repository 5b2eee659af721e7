from __future__ import annotations

import doctest
import json

import pytest

from support.repository import REPOSITORY
from toposieve import cost
from toposieve.cost import DRIVER_SECONDS, SHIPPED, Costs, Work


@pytest.fixture
def calibration(tmp_path, monkeypatch):
    path = tmp_path / "costs.json"
    monkeypatch.setattr(cost, "calibration_path", lambda: path)
    return path


def test_time_grows_with_work_and_shrinks_with_cores():
    costs, work = Costs(fixed=10.0, event=0.5), Work(units=4, events=200)
    assert work.cpu_seconds(costs) == 110.0
    driver = 4 * DRIVER_SECONDS
    assert work.wall_seconds(costs, 2) == 60.0 + driver
    # Four units keep four cores busy, however many there are.
    assert work.wall_seconds(costs, 4) == work.wall_seconds(costs, 400) == 35.0 + driver


def test_no_more_cores_are_busy_than_there_are_tasks():
    costs, work = Costs(fixed=0.0, event=1.0), Work(units=40_000, events=4_320_000)
    driver = 40_000 * DRIVER_SECONDS
    assert work.wall_seconds(costs, 400) == 10_800 + driver
    assert work.balanced().wall_seconds(costs, 400) == pytest.approx(4_320_000 / 87 + driver)
    assert Work(units=20, events=20).balanced().tasks == 1


@pytest.mark.parametrize("term", ["file", "branch", "unit", "event", "byte"])
def test_each_term_counts(term):
    work = Work(files=3, units=5, events=7, bytes=11, branches=13)
    count = {"file": 3, "unit": 5, "event": 7, "byte": 11, "branch": 13}[term]
    assert work.cpu_seconds(Costs(fixed=1.0, **{term: 2.0})) == 1.0 + 2.0 * count


def test_nothing_to_do_takes_nothing():
    assert Work().cpu_seconds(Costs()) == Work().wall_seconds(Costs(), 2) == 0.0
    assert cost.describe({"select": Work()}, 2, SHIPPED, "ours") == "plan: nothing to do\n(costs: ours)"


def test_several_stages_are_added_up():
    works = {"ingest": Work(units=1, events=100), "select": Work(units=1, events=100)}
    text = cost.describe(works, 1, {"ingest": Costs(0.0, event=0.1), "select": Costs(0.0, event=0.2)}, "ours")
    assert "plan: all: CPU time 30 s, on 1 cores about 30 s" in text


def test_says_that_costs_are_those_shipped(calibration):
    assert cost.load_costs() == (SHIPPED, "as shipped; make bench measures those of this machine")


def test_calibration_wins_over_what_is_shipped(calibration):
    cost.save_costs({"select": Costs(event=1.0)})
    cost.save_costs({"prepare": Costs(event=2.0)})
    costs, origin = cost.load_costs()
    assert (costs["select"], costs["prepare"], costs["ingest"]) == (
        Costs(event=1.0),
        Costs(event=2.0),
        SHIPPED["ingest"],
    )
    assert origin == "select, prepare as make bench measured them on this machine"


def test_calibration_of_another_version_is_left_alone(calibration):
    calibration.write_text(json.dumps({"select": {"event": 1.0, "muon": 2.0}, "brew": {"event": 1.0}}))
    assert cost.load_costs()[0] == SHIPPED


def test_readme_has_the_plan_of_the_published_sample():
    works = cost.campaign(files=40_000, branches=1138, events=54_000_000, bytes_=4_500_000_000_000, selected=0.08)
    expected = cost.describe(works, 400, SHIPPED, "as shipped")
    assert expected.removesuffix("(costs: as shipped)") in (REPOSITORY / "README.md").read_text(encoding="utf-8"), (
        expected
    )


def test_examples_are_right():
    assert doctest.testmod(cost).failed == 0
