import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.answers import Answer, Script, listed
from support.kubernetes_gangs import GANG, LABELS, OWNER
from toposieve_airflow.kubernetes.api.watching import Outages
from toposieve_airflow.kubernetes.gang.feed import ClusterFeed, News
from toposieve_airflow.kubernetes.gang.manifests import Gang

REFUSED = ApiException(status=403)


class Cluster:
    """A cluster that lists one object of each kind and then refuses to be watched."""

    def outages(self, has_answered: threading.Event | None = None) -> Outages:
        return Outages(has_answered)

    def jobs(self, selector: str) -> Script:
        return Script([listed("job"), REFUSED])

    def pods(self, selector: str) -> Script:
        return Script([listed("pod"), REFUSED])

    def warnings(self, name: str) -> Script:
        return Script([listed("event"), REFUSED])

    def log(self, pod: str, container: str) -> Any:
        hello = Answer("2026-01-01T00:00:00Z hello")
        return Script([REFUSED, hello] if pod == "refused at first" else [hello])


@pytest.fixture
def feed() -> ClusterFeed:
    return ClusterFeed(Cluster(), Gang(GANG, "toposieve", LABELS, OWNER, 2))  # type: ignore[arg-type]


def take(feed: ClusterFeed, count: int) -> list[News]:
    news = [feed.next(10) for _ in range(count)]
    assert None not in news
    return [each for each in news if each is not None]


def test_everything_that_is_watched_comes_and_errors_do_too(feed: ClusterFeed) -> None:
    with feed:
        news = take(feed, 6)
    assert {(kind, *content) for kind, content in news if kind != "error"} == {
        ("job", "job"),
        ("pods", "pod"),
        ("warnings", "event"),
    }
    assert [content for kind, content in news if kind == "error"] == [REFUSED] * 3


def test_a_log_comes_line_by_line_and_says_when_it_is_over(feed: ClusterFeed) -> None:
    over = threading.Event()
    over.set()
    feed.follow_log("pod", "base", over)
    assert take(feed, 2) == [("line", ("pod", "hello")), ("end", "pod")]


def test_a_right_that_lapses_before_the_second_log_is_opened_is_waited_for(feed: ClusterFeed) -> None:
    over = threading.Event()
    over.set()
    feed.follow_log("refused at first", "base", over)
    assert take(feed, 1) == [("error", REFUSED)]  # a right that never was there
    feed.follow_log("pod", "base", over)
    take(feed, 2)
    feed.follow_log("refused at first", "base", over)
    assert take(feed, 2) == [("line", ("refused at first", "hello")), ("end", "refused at first")]


def test_nothing_comes_for_a_while(feed: ClusterFeed) -> None:
    assert feed.next(0.01) is None


def test_cancelling_comes_before_all_that_waits(feed: ClusterFeed) -> None:
    error, over = RuntimeError("ended from outside"), threading.Event()
    over.set()
    feed.follow_log("pod", "base", over)
    take(feed, 1)
    feed.cancel(error)
    assert take(feed, 1) == [("error", error)]


def test_a_log_that_nobody_takes_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch, feed: ClusterFeed) -> None:
    flooded, over = threading.Event(), threading.Event()

    def flood() -> Iterator[bytes]:
        yield from [b"2026-01-01T00:00:00Z hello\n"] * 10_000
        flooded.set()

    monkeypatch.setattr(Answer, "__iter__", lambda answer: flood())
    over.set()
    with feed:
        feed.follow_log("pod", "base", over)
        assert not flooded.wait(0.3)
