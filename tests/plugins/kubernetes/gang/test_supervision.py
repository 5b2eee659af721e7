import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.kubernetes_gangs import GANG, LABELS, OWNER, condition, job, pod, running, terminated, waiting, warning
from toposieve_airflow.kubernetes.api.cluster import Refused
from toposieve_airflow.kubernetes.gang import diagnosis, supervision
from toposieve_airflow.kubernetes.gang.feed import News
from toposieve_airflow.kubernetes.gang.manifests import Gang
from toposieve_airflow.kubernetes.gang.supervision import GangFailed, GangHeld, Limits, Supervision

UNSCHEDULABLE = condition("PodScheduled", "Unschedulable", "0/2 nodes are available", "False")
POD = "{}-{}-abcde"


class WrittenNews:
    """News that are known beforehand."""

    def __init__(self, news: Iterable[News]) -> None:
        self._news = iter(news)
        self.followed: dict[str, threading.Event] = {}
        self.containers: list[str] = []

    def next(self, seconds: float) -> News | None:
        return next(self._news, None)

    def follow_log(self, pod: str, container: str, is_over: threading.Event) -> None:
        self.followed[pod] = is_over
        self.containers.append(container)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "SETTLE_S", 0.05)
    monkeypatch.setattr(supervision, "LOG_END_S", 0.05)


def objects(kind: str, *each: dict[str, Any]) -> News:
    return kind, {one["metadata"]["name"]: one for one in each}


def line(worker: int, text: str) -> News:
    return "line", (POD.format(GANG, worker), text)


class Watched:
    """What became of a gang with these news."""

    def __init__(
        self,
        *news: News,
        startup_s: float = 60,
        broken_s: float = 60,
        passed: bool = False,
        until: float | None = None,
        workers: int = 2,
        run_limit_s: int | None = None,
    ) -> None:
        self.log: list[str] = []
        self.reports: list[dict[int, str]] = []
        self.feed = WrittenNews([("warnings", {}), ("pods", {}), *news])
        gang = Gang(GANG, "toposieve", LABELS, OWNER, workers, run_limit_s=run_limit_s)
        limits = Limits(startup_s, broken_s, passed, until)
        self._supervision = Supervision(self.feed, gang, limits, self.log.append, self.reports.append)

    def run(self) -> "Watched":
        self._supervision.run()
        return self

    def failure(self) -> GangFailed:
        with pytest.raises(GangFailed) as caught:
            self.run()
        return caught.value

    def held(self) -> GangHeld:
        with pytest.raises(GangHeld) as caught:
            self.run()
        return caught.value


BOTH_RUN = objects("pods", pod(0, running()), pod(1, running()))
END = objects("job", job(condition("Complete")))


def test_lines_carry_their_workers_index_up_to_the_last() -> None:
    ends: list[News] = [("end", POD.format(GANG, worker)) for worker in range(2)]
    watched = Watched(objects("job", job()), BOTH_RUN, line(1, "epoch 1"), END, line(0, "bye"), *ends).run()
    assert watched.log == [
        "worker 0 started on node-0",
        "worker 1 started on node-1",
        "[worker 1] epoch 1",
        "[worker 0] bye",
    ]
    assert watched.reports == [{0: "running", 1: "running"}]


def test_the_log_of_pods_that_are_seen_after_the_end_is_waited_for() -> None:
    over = objects("pods", pod(0, terminated(0)))
    news = [END, over, line(0, "results in /models/one"), ("end", POD.format(GANG, 0))]
    assert Watched(*news, workers=1).run().log == ["results in /models/one"]


def test_a_log_that_goes_on_after_the_end_is_taken_in_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(supervision.time, "monotonic", lambda: next(clock) / 10)
    monkeypatch.setattr(supervision, "LOG_END_S", 0.5)
    lines = [line(0, str(number)) for number in range(20)]
    news = [objects("job", job()), objects("pods", pod(0, terminated(0))), END, *lines, ("end", POD.format(GANG, 0))]
    assert Watched(*news, workers=1).run().log[1:] == [str(number) for number in range(20)]


def test_a_log_whose_end_does_not_come_is_said_to_be_cut() -> None:
    assert "the rest of the workers' logs does not come" in Watched(objects("job", job()), BOTH_RUN, END).run().log[-1]


def test_a_single_workers_lines_are_its_own() -> None:
    news = [objects("job", job()), objects("pods", pod(0, running())), line(0, "epoch 1"), END]
    assert "epoch 1" in Watched(*news, workers=1).run().log


def test_logs_are_followed_from_the_start_and_known_to_be_over() -> None:
    over = objects("pods", pod(0, terminated(0)), pod(1, running()))
    watched = Watched(objects("job", job()), objects("pods", pod(0), pod(1)), BOTH_RUN, over, END).run()
    assert {name: event.is_set() for name, event in watched.feed.followed.items()} == {
        POD.format(GANG, 0): True,
        POD.format(GANG, 1): False,
    }


def test_a_failure_says_worker_code_last_lines_and_event() -> None:
    failed = objects("pods", pod(0, running()), pod(1, terminated(137)))
    event = objects("warnings", warning(POD.format(GANG, 1), "BackOff", "too often"), warning("other", "BackOff", "no"))
    failure = Watched(objects("job", job()), BOTH_RUN, event, failed, line(1, "last words")).failure()
    assert str(failure) == (
        f"worker 1 failed with exit code 137 (ended by signal 9): last words\n"
        f"Kubernetes about pod {POD.format(GANG, 1)}: BackOff: too often"
    )
    assert failure.may_retry


def test_a_failure_waits_for_the_last_line_of_a_long_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(supervision.time, "monotonic", lambda: next(clock) / 10)
    monkeypatch.setattr(supervision, "SETTLE_S", 1)
    lines = [line(1, f"step {number}") for number in range(50)]
    failed = objects("pods", pod(0, running()), pod(1, terminated(1)))
    news = [objects("job", job()), failed, *lines, line(1, "error: disk full"), ("end", POD.format(GANG, 1))]
    assert str(Watched(*news).failure()) == "worker 1 failed with exit code 1: disk full"


def test_an_init_container_that_fails_has_its_log_in_the_error() -> None:
    failed = pod(1, waiting("PodInitializing"), phase="Failed", init={"fetch": terminated(3)})
    watched = Watched(objects("job", job()), objects("pods", pod(0), failed), line(1, "no such bucket"))
    assert str(watched.failure()) == "worker 1 failed with exit code 3 in its container fetch: no such bucket"
    assert watched.feed.containers == ["fetch"]
    assert watched.feed.followed[POD.format(GANG, 1)].is_set()


def test_a_side_car_that_runs_on_does_not_keep_a_gang_from_ending() -> None:
    done = objects("pods", pod(0, terminated(0)), pod(1, terminated(0)))
    ends: list[News] = [("end", POD.format(GANG, worker)) for worker in range(2)]
    Watched(objects("job", job()), BOTH_RUN, done, *ends, ("error", RuntimeError("it waits for the side-car"))).run()


@pytest.mark.parametrize(
    ("now", "pods"), [(job(), [pod(0, terminated(0)), pod(1, terminated(0))]), (job(condition("Complete")), [])]
)
def test_a_gang_that_is_done_has_started_and_has_not_failed(now: dict[str, Any], pods: list[dict[str, Any]]) -> None:
    watched = Supervision(WrittenNews([]), Gang(GANG, "toposieve", LABELS, OWNER, 2), Limits(0), print, print)
    for news in (objects("warnings"), objects("pods", *pods), objects("job", now)):
        watched.take(news)
    assert watched.has_started()
    assert not watched.is_over()


def test_who_says_what_was_wrong_a_moment_later_is_at_fault() -> None:
    first = objects("pods", pod(0, terminated(1)), pod(1, running()))
    then = objects("pods", pod(0, terminated(1)), pod(1, terminated(2)))
    failure = Watched(objects("job", job()), BOTH_RUN, first, then, line(1, "error: no such dataset")).failure()
    assert str(failure) == "worker 1 failed with exit code 2: no such dataset"
    assert not failure.may_retry


def test_who_ended_earlier_but_is_heard_of_later_is_at_fault() -> None:
    first = objects("pods", pod(0, terminated(1)), pod(1, running()))
    then = objects("pods", pod(0, terminated(1)), pod(1, terminated(137)))
    failure = Watched(objects("job", job()), BOTH_RUN, first, then, line(1, "last words")).failure()
    assert str(failure) == "worker 1 failed with exit code 137 (ended by signal 9): last words"


def test_a_deleted_worker_stays_one_when_its_removal_has_a_time_of_its_own() -> None:
    asked = {"deletionTimestamp": "2026-01-01T00:00:12Z", "deletionGracePeriodSeconds": 3}
    removed = {"deletionTimestamp": "2026-01-01T00:00:11Z", "deletionGracePeriodSeconds": 0}
    ends = objects("pods", pod(0, running()), pod(1, running(), **asked))
    has_ended = objects("pods", pod(0, running()), pod(1, terminated(143), **removed))
    failure = Watched(objects("job", job()), BOTH_RUN, ends, has_ended).failure()
    assert str(failure).startswith("worker 1 was deleted")


def test_the_run_limit_comes_before_those_that_it_ended() -> None:
    deleted = objects("pods", pod(0, running(), deletionTimestamp="2026-01-01T00:00:10Z"))
    limit = objects("job", job(condition("FailureTarget", "DeadlineExceeded")))
    failure = Watched(objects("job", job()), BOTH_RUN, deleted, limit).failure()
    assert str(failure) == f"the gang {GANG} failed: it ran longer than its limit"


def test_what_was_seen_first_stays_when_the_pods_are_gone() -> None:
    deleted = pod(1, running(), deletionTimestamp="2026-01-01T00:00:10Z")
    failed = objects("job", job(condition("FailureTarget", "PodFailurePolicy", "Container base failed")))
    gone = objects("pods", pod(0, running(), deletionTimestamp="2026-01-01T00:00:09Z"))
    failure = Watched(objects("job", job()), BOTH_RUN, objects("pods", deleted), failed, gone).failure()
    assert str(failure).startswith("worker 1 was deleted")


def test_lines_alone_are_no_reason_to_look_at_the_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    monkeypatch.setattr(diagnosis, "failure_of", lambda *each: looks.append(each))
    Watched(objects("job", job()), BOTH_RUN, *[line(0, "step")] * 1000, END).run()
    assert len(looks) < 100


def test_what_workers_wait_for_is_said_once() -> None:
    news = objects("pods", pod(0, None, UNSCHEDULABLE), pod(1, None, UNSCHEDULABLE))
    watched = Watched(objects("job", job()), news, news, BOTH_RUN, END).run()
    assert watched.log.count("workers 0, 1: no node can take it: 0/2 nodes are available") == 1


def test_workers_that_do_not_start_in_time() -> None:
    news = objects("pods", pod(0, running()), pod(1, None, UNSCHEDULABLE))
    held = Watched(news, objects("job", job()), startup_s=0).held()
    assert str(held).endswith(
        "1 of 2 workers started within 0 s: worker 1: no node can take it: 0/2 nodes are available"
    )
    assert not held.has_run
    assert not held.is_suspended


def test_a_worker_that_has_started_counts_when_its_pod_is_gone() -> None:
    swept = objects("pods", pod(1, running()))
    Watched(BOTH_RUN, objects("job", job()), swept, END, startup_s=0).run()


@pytest.mark.parametrize("late", [pod(1, None, UNSCHEDULABLE), pod(1, waiting("ImagePullBackOff"))])
@pytest.mark.parametrize("over", [{"passed": True}, {"until": 0.0}])
def test_what_a_trigger_has_waited_for_too_long_is_over_at_once(late: dict[str, Any], over: dict[str, Any]) -> None:
    held = Watched(objects("pods", pod(0, running()), late), objects("job", job()), **over).held()
    assert "only 1 of 2 workers started" in str(held)
    assert held.gives_back


def test_the_time_in_which_another_process_waited_counts() -> None:
    admitted = job()
    admitted["status"]["startTime"] = "2026-01-01T00:00:00Z"
    held = Watched(objects("pods", pod(0, running()), pod(1)), objects("job", admitted)).held()
    assert "only 1 of 2 workers started" in str(held)


def test_a_gang_in_a_queue_waits_elsewhere() -> None:
    watched = Watched(objects("job", job(suspend=True)), startup_s=0)
    held = watched.held()
    assert (held.is_suspended, held.has_run) == (True, False)
    assert watched.log == ["the gang waits for its queue to admit it"]


ENDS = {"deletionTimestamp": "2026-01-01T00:00:12Z", "deletionGracePeriodSeconds": 3}
BOTH_END = objects("pods", pod(0, running(), **ENDS), pod(1, terminated(143), **ENDS))


@pytest.mark.parametrize("news", [[BOTH_END, objects("job", job(suspend=True))], [objects("job", job(suspend=True))]])
def test_a_gang_whose_queue_takes_its_place_back_is_held(news: list[News]) -> None:
    held = Watched(objects("job", job()), BOTH_RUN, *news).held()
    assert (held.is_suspended, held.has_run) == (True, True)


def test_those_that_a_queue_has_ended_are_no_failures_of_the_gang_that_goes_on() -> None:
    again = objects("job", job(condition("Suspended", status="False")))
    fresh = objects("pods", *(pod(index, running(), name=f"{GANG}-{index}-fresh") for index in range(2)))
    Watched(BOTH_END, again, fresh, END).run()


@pytest.mark.parametrize(
    ("ended", "has_run"),
    [
        (pod(1, running(), condition("DisruptionTarget", "EvictionByEvictionAPI")), True),
        (pod(1, None, phase="Failed") | {"status": {"phase": "Failed", "reason": "OutOfcpu"}}, False),
    ],
)
def test_what_the_cluster_does_to_a_worker_is_not_the_gangs_failure(ended: dict[str, Any], has_run: bool) -> None:
    held = Watched(objects("job", job()), objects("pods", pod(0, running()), ended)).held()
    assert str(held).startswith("worker 1 was ")
    assert (held.is_suspended, held.has_run) == (False, has_run)


def test_a_gang_runs_no_longer_than_its_limit_from_its_last_workers_start_on() -> None:
    started = datetime.now(UTC) - timedelta(seconds=100)
    last = {"running": {"startedAt": started.isoformat()}}
    news = [objects("job", job()), objects("pods", pod(0, running()), pod(1, last))]
    assert str(Watched(*news, run_limit_s=90).failure()).endswith("it ran longer than its limit")
    Watched(*news, END, run_limit_s=200).run()
    half = objects("pods", pod(0, running()), pod(1, waiting("ContainerCreating")))
    Watched(objects("job", job()), half, END, run_limit_s=90).run()


@pytest.mark.parametrize(("reason", "broken_s"), [("InvalidImageName", 60), ("ImagePullBackOff", 0)])
def test_an_image_that_cannot_be_had_is_not_retried(reason: str, broken_s: float) -> None:
    news = objects("pods", pod(0, running()), pod(1, waiting(reason, "image:1: not found")))
    failure = Watched(objects("job", job()), news, broken_s=broken_s).failure()
    assert not failure.may_retry
    assert "image:1: not found" in str(failure)


NO_ACCOUNT = objects("warnings", warning(GANG, "FailedCreate", 'pods "x-" is forbidden: no such account', "Job"))


@pytest.mark.parametrize("pods", [[], [pod(0)]])
def test_pods_that_may_not_be_made_end_the_gang_when_that_lasts(pods: list[dict[str, Any]]) -> None:
    failure = Watched(NO_ACCOUNT, objects("pods", *pods), objects("job", job()), broken_s=0).failure()
    assert "Kubernetes refuses its pods: " in str(failure)
    assert not failure.may_retry


def test_pods_that_are_made_after_all_end_nothing() -> None:
    Watched(NO_ACCOUNT, objects("pods", pod(0), pod(1)), objects("job", job()), END, broken_s=0).run()


def test_a_right_that_is_missing_ends_the_watch() -> None:
    with pytest.raises(Refused, match="HTTP 403"):
        Watched(("error", ApiException(status=403, reason="Forbidden"))).run()


def test_notes_reach_the_log() -> None:
    assert "the API server answers again" in Watched(("note", "the API server answers again"), END).run().log
