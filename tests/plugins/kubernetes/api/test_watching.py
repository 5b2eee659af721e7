import json
from itertools import islice

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ReadTimeoutError

from support.answers import Answer, Script, listed, watched
from toposieve_airflow.kubernetes.api import reading, watching
from toposieve_airflow.kubernetes.api.reading import Reading
from toposieve_airflow.kubernetes.api.watching import Outages, changes, gone_within

CHANGED = watched(("MODIFIED", "a", "5"))
EXPIRED = Answer(json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old"}}))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "FIRST_PAUSE_S", 0.0)


def follow(script: Script, count: int) -> tuple[list[list[str]], list[str]]:
    """Names in the first so many states, and what was told meanwhile."""
    told: list[str] = []
    return [sorted(objects) for objects in islice(changes(script, Reading(), told.append, Outages()), count)], told


def test_every_change_gives_all_objects() -> None:
    events = watched(("ADDED", "b", "2"), ("MODIFIED", "a", "3"), ("DELETED", "a", "4"))
    assert follow(Script([listed("a"), events]), 4)[0] == [["a"], ["a", "b"], ["a", "b"], ["b"]]


def test_a_watch_that_ends_goes_on_where_it_was() -> None:
    script = Script([listed(version="7"), watched(("BOOKMARK", "", "9")), watched(("ADDED", "a", "10"))])
    assert follow(script, 3)[0] == [[], [], ["a"]]
    assert [options.get("resource_version") for options in script.options] == [None, "7", "9"]


@pytest.mark.parametrize("expired", [EXPIRED, ApiException(status=410)])
def test_a_watch_that_expired_begins_anew_without_alarm(expired: Answer | ApiException) -> None:
    states, told = follow(Script([listed("a"), expired, listed("b")]), 2)
    assert states == [["a"], ["b"]]
    assert told == []


def test_an_api_server_that_goes_away_is_told_once_and_what_was_missed_is_seen() -> None:
    away = [ConnectionRefusedError("nobody there"), ApiException(status=503, reason="starting")]
    states, told = follow(
        Script([listed("a", "b"), watched(error=ReadTimeoutError(None, "", "")), *away, listed("a"), CHANGED]), 3
    )
    assert states == [["a", "b"], ["a"], ["a"]]
    assert [line.partition(",")[0] for line in told] == [
        "the API server does not answer",
        "the API server answers again",
    ]


def test_credentials_that_stay_unknown_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
    script = Script([ApiException(status=401)] * 9)
    with pytest.raises(ApiException):
        follow(script, 1)
    assert 1 < script.calls < 9


def test_credentials_that_are_renewed_in_time_are_no_refusal() -> None:
    unknown = ApiException(status=401, reason="Unauthorized")
    assert follow(Script([unknown, unknown, listed("a")]), 1)[0] == [["a"]]


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("answers", [[], [listed("a")]])
def test_a_refusal_at_the_start_is_raised(answers: list[Answer], status: int) -> None:
    script = Script([*answers, ApiException(status=status)])
    with pytest.raises(ApiException):
        follow(script, 2)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_later_on_is_waited_out(status: int) -> None:
    refused = [ApiException(status=status, reason="no")] * 3
    script = Script([listed("a"), CHANGED, *refused, listed("b"), watched(("MODIFIED", "b", "6"))])
    states, told = follow(script, 4)
    assert states == [["a"], ["a"], ["b"], ["b"]]
    assert told == [f"the API server does not answer, trying again: HTTP {status} no", "the API server answers again"]


def test_a_watch_that_stays_refused_is_believed_though_lists_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 10_000, 100))
    monkeypatch.setattr(watching.time, "monotonic", lambda: next(clock))
    script = Script([listed("a"), CHANGED, *[ApiException(status=403), listed("a")] * 9])
    with pytest.raises(ApiException):
        follow(script, 99)
    assert 4 < script.calls < 12


def test_an_api_server_that_does_not_know_all_rights_yet_when_it_comes_back() -> None:
    back = [ConnectionRefusedError(), ApiException(status=403), ApiException(status=403), listed("a")]
    assert follow(Script(back), 1)[0] == [["a"]]


def test_a_right_that_does_not_come_back_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "REFUSED_S", 0.0)
    with pytest.raises(ApiException):
        follow(Script([ConnectionRefusedError(), *[ApiException(status=403)] * 2]), 1)


def test_waiting_until_all_are_gone() -> None:
    script = Script([listed("a", "b"), watched(("DELETED", "a", "2"), ("DELETED", "b", "3"))])
    assert gone_within(script, 60) == {}


def test_waiting_goes_on_after_a_watch_that_expired() -> None:
    assert gone_within(Script([listed("a"), EXPIRED, listed("a"), watched(("DELETED", "a", "2"))]), 60) == {}


def test_what_is_left_when_the_time_is_over() -> None:
    assert list(gone_within(Script([listed("a")]), 0)) == ["a"]
