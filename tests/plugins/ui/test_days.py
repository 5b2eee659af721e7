from pathlib import Path

import pytest

from support.ui_results import CLASSES, unit, write_day, write_manifest
from toposieve_airflow.ui.days import Day, State, every_day
from toposieve_airflow.ui.results import Results

CODE_NUMBERS = {"ingest": 3, "select": 3}


def days(results: Results) -> dict[str, Day]:
    return {day.name: day for day in every_day(results, CLASSES, CODE_NUMBERS)}


def test_a_complete_day_has_the_manifests_numbers(base: Path, results: Results) -> None:
    write_day(base, "2026-01-01", files=2)
    (day,) = days(results).values()
    assert (day.state, day.remarks) == (State.COMPLETE, "")
    assert (day.events(), day.selected_events(), day.selected_events("qcd")) == (60, 24, 8)
    assert day.bytes == 6000


def test_days_between_that_are_missing_are_listed(base: Path, results: Results) -> None:
    for name in ("2026-02-27", "2026-03-02", "other"):
        write_day(base, name)
    states = {name: day.state.value for name, day in days(results).items()}
    assert states == {
        "other": "complete",
        "2026-03-02": "complete",
        "2026-03-01": "missing",
        "2026-02-28": "missing",
        "2026-02-27": "complete",
    }


@pytest.mark.parametrize("name", ["0001-01-01", "2026-99-99"])
def test_a_name_that_is_no_day_of_ours_makes_no_holes(name: str, base: Path, results: Results) -> None:
    write_day(base, "2026-03-02")
    write_day(base, name)
    assert list(days(results)) == sorted(["2026-03-02", name], reverse=True)


def test_a_sample_that_is_missing(base: Path, results: Results) -> None:
    write_day(base, "d", samples=["qcd", "wjets"])
    assert (days(results)["d"].state, days(results)["d"].remarks) == (State.MISSING, "no ttbar")
    assert days(results)["d"].selected_events("ttbar") is None


@pytest.mark.parametrize(("kept", "missing"), [("events", "selection"), ("selected", "record of its files")])
def test_a_stage_that_is_missing(kept: str, missing: str, base: Path, results: Results) -> None:
    write_day(base, "d")
    other = {"events": "selected", "selected": "events"}[kept]
    (base / other / "d" / "manifest-000001.json").unlink()
    assert days(results)["d"].remarks == f"no {missing}"


def test_files_that_changed_since_make_their_sample_stale(base: Path, results: Results) -> None:
    write_day(base, "d")
    changed = [unit("ttbar/d/0.root", {"events": 10}, checksum="ffffffff")]
    others = [unit(f"{sample}/d/0.root", {"events": 10}) for sample in ("qcd", "wjets")]
    write_manifest(base / "events" / "d", "ingest", others + changed, number=2)
    assert (days(results)["d"].state, days(results)["d"].remarks) == (State.STALE, "changed since: ttbar")


def test_a_file_more_makes_its_sample_stale(base: Path, results: Results) -> None:
    write_day(base, "d")
    more = [unit(f"{sample}/d/0.root", {"events": 10}) for sample in CLASSES] + [unit("qcd/d/1.root", {"events": 10})]
    write_manifest(base / "events" / "d", "ingest", more, number=2)
    assert days(results)["d"].stale == ("qcd",)


def test_a_file_that_was_found_bad_is_not_stale(base: Path, results: Results) -> None:
    write_day(base, "d", quarantined=[{"source": "qcd/d/1.root", "reason": "truncated"}])
    more = [unit(f"{sample}/d/0.root", {"events": 10}) for sample in CLASSES] + [unit("qcd/d/1.root", {"events": 10})]
    write_manifest(base / "events" / "d", "ingest", more, number=2)
    assert days(results)["d"].state == State.COMPLETE
    assert [file.reason for file in days(results)["d"].bad_files] == ["truncated"]


def test_other_code_is_named(base: Path, results: Results) -> None:
    write_day(base, "d", code=2)
    assert (days(results)["d"].state, days(results)["d"].remarks) == (State.OTHER_CODE, "other code: select 2, now 3")
