import pytest

from toposieve_airflow.runs.partitions import (
    MAX_PARTITIONS,
    PartitionError,
    asked_days,
    check_key,
    choose_partitions,
    days,
)


def test_range_includes_both_ends_and_leap_days() -> None:
    assert days("2028-02-28", "2028-03-01") == ["2028-02-28", "2028-02-29", "2028-03-01"]
    assert days("2026-01-01", "2026-01-01") == ["2026-01-01"]


def test_range_wins_over_the_partition_key() -> None:
    assert choose_partitions("2026-01-01", "2026-01-02", "2026-05-05") == ["2026-01-01", "2026-01-02"]
    assert choose_partitions("2026-01-01", None, None) == ["2026-01-01"]
    assert choose_partitions(None, None, "2026-05-05") == ["2026-05-05"]


@pytest.mark.parametrize(
    ("start", "end", "key", "message"),
    [
        (None, None, None, "which days"),
        (None, "2026-01-02", None, "partition_start is empty"),
        ("2026-01-02", "2026-01-01", None, "is before"),
        ("2026-02-30", None, None, "not a day"),
        ("2026-01-01", "2126-01-01", None, f"at most {MAX_PARTITIONS}"),
        (None, None, "../escape", "partition key"),
    ],
)
def test_wrong_choices_say_what_to_do(start: str | None, end: str | None, key: str | None, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        choose_partitions(start, end, key)


def test_a_range_that_is_not_asked_for_has_no_day() -> None:
    assert asked_days(None, None) == []
    with pytest.raises(PartitionError, match=r"score_end is 2026-01-02 but score_start is empty"):
        asked_days(None, "2026-01-02", ("score_start", "score_end"))


@pytest.mark.parametrize("key", ["", ".", "..", "_pileup", "a/b", "a b", "-x", "x" * 201])
def test_keys_that_cannot_be_folders_are_refused(key: str) -> None:
    with pytest.raises(PartitionError):
        check_key(key)


@pytest.mark.parametrize("key", ["2026-01-01", "run3.v2", "A_1", "x" * 200])
def test_any_other_key_is_fine(key: str) -> None:
    assert check_key(key) == key
