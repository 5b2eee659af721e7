import re

from toposieve_airflow.runs.naming import dataset_name, report_name, short_hash


def test_same_content_same_name_whatever_the_order_of_keys() -> None:
    assert short_hash({"a": 1, "b": [2.0]}) == short_hash({"b": [2.0], "a": 1})
    assert re.fullmatch("[0-9a-f]{8}", short_hash({}))


def test_names_stay_the_same_from_release_to_release() -> None:
    assert dataset_name(["2026-01-01"], {"seed": 1}) == "2026-01-01-ba1b8b16"


def test_dataset_name_shows_the_range_and_changes_with_days_and_configuration() -> None:
    days = ["2026-01-01", "2026-01-02", "2026-01-03"]
    name = dataset_name(days, {"seed": 1})
    assert name.startswith("2026-01-01_2026-01-03-")
    assert name != dataset_name(days, {"seed": 2})
    assert name != dataset_name([days[0], days[2]], {"seed": 1})


def test_report_name_changes_with_dataset_and_configuration() -> None:
    name = report_name("data", {"epochs": 1})
    assert name.startswith("data-")
    assert len({name, report_name("other", {"epochs": 1}), report_name("data", {})}) == 3
