import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import ProtocolError

from support.answers import Answer, Script
from toposieve_airflow.kubernetes.api import logs, reading
from toposieve_airflow.kubernetes.api.logs import SeenLines, follow_log
from toposieve_airflow.kubernetes.api.reading import Reading
from toposieve_airflow.kubernetes.api.watching import Outages

A, B, C = (f"2026-01-01T00:00:0{second}.000000000Z" for second in range(3))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PAUSE_S", 0.0)
    monkeypatch.setattr(reading, "FIRST_PAUSE_S", 0.0)


def follow(*answers: Answer | Exception, over_after: int = 0) -> tuple[list[str], Script]:
    """Lines of a log that comes in these answers; the container is known to be over after so many of them."""
    over, lines = threading.Event(), list[str]()
    if over_after == 0:
        over.set()
    script = Script(answers, lambda count: over.set() if count >= over_after else None)
    follow_log(script, Reading(), over, lines.append, Outages())
    return lines, script


def test_lines_come_without_their_times() -> None:
    assert follow(Answer(f"{A} one", f"{B} two  words"))[0] == ["one", "two  words"]


def test_an_answer_begun_before_the_end_is_asked_for_once_more() -> None:
    lines, script = follow(Answer(f"{A} one"), Answer(f"{A} one", f"{B} two"), over_after=1)
    assert lines == ["one", "two"]
    assert script.calls == 2


@pytest.mark.parametrize("error", [ProtocolError("cut"), ApiException(status=503), ConnectionRefusedError()])
def test_nothing_is_lost_or_repeated_when_the_connection_breaks(error: Exception) -> None:
    broken = Answer(f"{A} one", f"{B} two", f"{B} three", error=error)
    lines, script = follow(broken, error, Answer(f"{B} two", f"{B} three", f"{B} four", f"{C} five"), over_after=2)
    assert lines == ["one", "two", "three", "four", "five"]
    assert script.options[0].get("since_seconds") is None
    assert script.options[1]["since_seconds"] >= 5


def test_lines_whose_times_go_back_are_neither_lost_nor_repeated() -> None:
    broken = Answer(f"{B} one", f"{A} two", f"{C} three", f"{B} four", error=ProtocolError("cut"))
    again = Answer(f"{B} one", f"{A} two", f"{C} three", f"{B} four", f"{A} five", f"{B} one")
    assert follow(broken, again, over_after=1)[0] == ["one", "two", "three", "four", "five", "one"]


def test_a_reader_that_is_behind_asks_from_where_it_was() -> None:
    written = datetime.now(UTC) - timedelta(hours=3)
    behind = Answer(f"{written.isoformat()} step 1", error=ProtocolError("cut"))
    _, script = follow(behind, Answer(), over_after=1)
    assert script.options[1]["since_seconds"] >= 3 * 3600 + 5


def test_a_node_whose_clock_is_ahead_loses_no_line() -> None:
    ahead = datetime.now(timezone(timedelta(hours=2))) + timedelta(hours=1)
    _, script = follow(Answer(f"{ahead.isoformat()} step 1", error=ProtocolError("cut")), Answer(), over_after=1)
    assert script.options[1]["since_seconds"] >= 5


def test_an_api_server_that_does_not_know_all_rights_yet_when_it_comes_back() -> None:
    broken = Answer(f"{A} one", error=ProtocolError("cut"))
    assert follow(broken, ApiException(status=403), Answer(f"{B} two"), over_after=2)[0] == ["one", "two"]


def test_the_log_of_a_pod_that_is_gone_is_over() -> None:
    assert follow(Answer(f"{A} one"), ApiException(status=404), ApiException(status=404), over_after=2)[0] == ["one"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_while_the_worker_runs_is_waited_out(status: int) -> None:
    refused = [ApiException(status=status)] * 3
    lines, _ = follow(Answer(f"{A} one"), *refused, Answer(f"{A} one", f"{B} two"), Answer(), over_after=5)
    assert lines == ["one", "two"]


def test_a_pod_that_is_not_found_at_first_is_asked_for_again() -> None:
    assert follow(ApiException(status=404), Answer(f"{A} one"), Answer(), over_after=2)[0] == ["one"]


def test_a_container_that_is_not_ready_yet_is_asked_again() -> None:
    assert follow(ApiException(status=400), Answer(f"{A} one"))[0] == ["one"]


def test_a_refusal_is_raised() -> None:
    with pytest.raises(ApiException):
        follow(ApiException(status=403))


def test_bytes_that_are_no_text_do_not_end_the_log() -> None:
    assert follow(Answer(f"{A} one".encode() + b"\xff"))[0] == ["one\ufffd"]


def test_a_stopped_reading_ends_without_asking() -> None:
    reading = Reading()
    reading.stop()
    follow_log(Script([]), reading, threading.Event(), lambda _: pytest.fail("a line"), Outages())


def test_messages_of_kubernetes_itself_are_left_out() -> None:
    assert SeenLines().text_if_new("unable to retrieve container logs") is None
