"""Follow a gang to its end: pass on its logs, say what it waits for, find out why it fails."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from toposieve_airflow.contract.exits import TAIL_LINES, error_line
from toposieve_airflow.kubernetes.api import pod_state
from toposieve_airflow.kubernetes.api.cluster import final
from toposieve_airflow.kubernetes.api.pod_state import Failure, Manifest, Remedy
from toposieve_airflow.kubernetes.api.watching import Objects
from toposieve_airflow.kubernetes.gang import diagnosis
from toposieve_airflow.kubernetes.gang.diagnosis import State
from toposieve_airflow.kubernetes.gang.feed import Feed, News
from toposieve_airflow.kubernetes.gang.manifests import Gang
from toposieve_airflow.runs.naming import short_hash

TICK_S = 0.5
SETTLE_S = 2.0
"""Seconds in which the others may say what was wrong, and the last lines arrive, once a worker has failed."""

LOG_END_S = 30.0
"""Seconds without a line after which the rest of the logs is given up after a good end."""

LONGEST_PATIENCE = 1.25
"""Factor on the start-up limit of the gang that waits for its workers for longest."""

_NEVER = ("InvalidImageName", "PodSecurity")
"""Faults that waiting does not mend."""

Log = Callable[[str], None]


class GangFailed(Exception):
    """A gang failed.

    Args:
        message: The reason.
        may_retry: Whether another try may do better.
    """

    def __init__(self, message: str, may_retry: bool) -> None:
        """Keep both."""
        super().__init__(message)
        self.may_retry = may_retry


class GangHeld(Exception):
    """The cluster has no place for a gang, or has taken it back: that is no fault of the training's, which may wait.

    Args:
        message: The reason.
        is_suspended: Whether the gang keeps its place in a queue; otherwise it is to be made anew.
        has_run: Whether it had started: it begins to wait only now.
        gives_back: Whether some of its workers had a place, which others may want.
    """

    def __init__(self, message: str, *, is_suspended: bool, has_run: bool, gives_back: bool = False) -> None:
        """Keep all."""
        super().__init__(message)
        self.is_suspended = is_suspended
        self.has_run = has_run
        self.gives_back = gives_back


@dataclass(frozen=True)
class Limits:
    """What things may take.

    Args:
        startup_s: Seconds after the gang was admitted in which all workers have to run.
        broken_s: Seconds in which a pod that may not be made, or whose image is not to be had, or whose container
            cannot be made, may recover; then the gang fails, and is tried again if that may help.
        passed: Whether a trigger has waited for so long already.
        until: When a gang that has not started has waited long enough, in seconds since 1970; None: never.
    """

    startup_s: float
    broken_s: float = 60.0
    passed: bool = False
    until: float | None = None


@dataclass
class _Worker:
    """What is known of a worker's log."""

    container: str
    over: threading.Event = field(default_factory=threading.Event)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    ended: bool = False


class Supervision:
    """Follows one gang.

    Args:
        feed: News of it.
        gang: The gang.
        limits: How long it may take to start.
        log: Takes the lines of the task's log.
        report: Told the state of each worker whenever one changes.
    """

    def __init__(
        self, feed: Feed, gang: Gang, limits: Limits, log: Log, report: Callable[[dict[int, str]], None]
    ) -> None:
        """Follow nothing yet."""
        self._feed = feed
        self._gang = gang
        self._limits = limits
        self._log = log
        self._report = report
        self._state = State(final_exit_code=gang.final_exit_code)
        self._workers: dict[str, _Worker] = {}
        self._started: set[int] = set()
        self._heard_at = 0.0
        self._seen: set[str] = set()
        self._said: set[str] = set()
        self._reported: dict[int, str] = {}
        self._admitted_at: float | None = None
        self._broken_since: dict[str, float] = {}
        self._has_run = False

    def run(self) -> None:
        """Return when every worker has ended well.

        Raises:
            GangFailed: One has not.
            GangHeld: The cluster is to blame, or the gang is in a queue.
            Refused: The API server does not let us look.
            RefusedForNow: It may again: nothing is known of the gang, which may run well.
        """
        while True:
            self._wait_for_change()
            if not self._is_informed():
                continue
            if self._is_done():
                self._take_rest_of_logs()
                return
            failure = self._failure()
            if failure is not None and not self._is_suspended():
                failure = self._settled(failure)
            if self._is_suspended():
                why = "its queue has suspended it again" if self._has_run else "it waits for its queue"
                raise GangHeld(why, is_suspended=True, has_run=self._has_run)
            if failure is not None and failure.remedy is Remedy.WAIT:
                why = failure.why if failure.pod is None else self._in_words(failure)
                gives_back = bool(self._started) and not self._has_run
                raise GangHeld(why, is_suspended=False, has_run=self._has_run, gives_back=gives_back)
            if failure is not None:
                raise GangFailed(self._in_words(failure), failure.may_retry)

    def has_started(self) -> bool:
        """Whether every worker runs or has run."""
        return self._is_done() or len(self._started) >= self._gang.workers

    def is_over(self) -> bool:
        """Whether the gang has failed, or would be ended by :meth:`run`."""
        return self._is_informed() and not self._is_done() and self._failure() is not None

    def _is_done(self) -> bool:
        """Whether every worker has ended well. Kubernetes would wait for a side-car that runs on."""
        ended_well = sum(pod_state.ended_well(pod, self._gang.container) for pod in self._state.pods.values())
        return diagnosis.is_complete(self._state.job or {}) or ended_well >= self._gang.workers

    def _is_suspended(self) -> bool:
        """Whether the gang is in a queue, for the first time or again."""
        job = self._state.job or {}
        return diagnosis.is_suspended(job) and not diagnosis.has_failed(job)

    def _is_informed(self) -> bool:
        """Whether everything has been looked at once."""
        return self._seen >= {"job", "pods", "warnings"}

    def _failure(self) -> Failure | None:
        return (
            diagnosis.failure_of(self._state, self._gang.container)
            or self._stays_broken()
            or self._starts_too_late()
            or self._runs_too_long()
        )

    def _settled(self, failure: Failure) -> Failure:
        """The failure after a moment in which more is heard of the pod at fault, or of the cause."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline or self._is_behind(failure.pod):
            self._wait(TICK_S)
        later = diagnosis.failure_of(self._state, self._gang.container, suspect=failure.pod)
        is_gone = failure.pod is not None and failure.pod not in self._state.pods
        if later is None or (not later.is_cause and (later.pod is None or is_gone)):
            return failure
        return later

    def _is_behind(self, pod: str | None) -> bool:
        """Whether the last lines of a worker that has ended still come: they say why."""
        worker = self._workers.get(pod or "")
        is_open = worker is not None and worker.over.is_set() and not worker.ended
        return is_open and time.monotonic() - self._heard_at < SETTLE_S

    # --- news --------------------------------------------------------------------------------------------------------

    def _wait_for_change(self) -> None:
        """Take news until it may be time to look at the gang: lines change nothing, and there may be thousands."""
        deadline = time.monotonic() + TICK_S
        while (left := deadline - time.monotonic()) > 0 and self._wait(left) == "line":
            pass

    def _wait(self, seconds: float) -> str | None:
        """Take the next news, if some come in time, and say what they are about."""
        if not (news := self._feed.next(seconds)):
            return None
        self.take(news)
        return news[0]

    def take(self, news: News) -> None:
        """Take in some news.

        Raises:
            Refused: The API server does not let us look.
            RefusedForNow: It may again.
        """
        kind, content = news
        if kind == "error":
            raise final(content)
        if kind == "note":
            self._log(content)
        elif kind == "line":
            self._pass_on(*content)
        elif kind == "end":
            self._workers[content].ended = True
        else:
            self._update(kind, content)

    def _update(self, kind: str, objects: Objects) -> None:
        self._seen.add(kind)
        if kind == "job":
            self._state.see_job(objects.get(self._gang.name, {}))
        elif kind == "pods":
            self._state.see_pods(objects)
            self._follow_logs()
        else:
            self._state.warnings = {name: event for name, event in objects.items() if self._is_ours(event)}
        self._note_progress()

    def _is_ours(self, event: Manifest) -> bool:
        about = str(event["involvedObject"].get("name", ""))
        return about == self._gang.name or about.startswith(f"{self._gang.name}-")

    # --- logs --------------------------------------------------------------------------------------------------------

    def _follow_logs(self) -> None:
        for name, pod in self._state.pods.items():
            container = pod_state.container_at_fault(pod, self._gang.container)
            if name not in self._workers and pod_state.has_started(pod, container):
                self._workers[name] = _Worker(container)
                self._feed.follow_log(name, container, self._workers[name].over)
        for name, worker in self._workers.items():
            now = self._state.pods.get(name)
            if now is None or pod_state.container_state(now, worker.container)[0] == "terminated":
                worker.over.set()

    def _take_rest_of_logs(self) -> None:
        """Take lines until every worker's log is over, or nothing more comes of those that are left."""
        self._heard_at = time.monotonic()
        while sum(worker.ended for worker in self._workers.values()) < self._gang.workers:
            if time.monotonic() - self._heard_at > LOG_END_S:
                self._log(f"the rest of the workers' logs does not come: given up after {LOG_END_S:.0f} s")
                return
            self._wait(TICK_S)

    def _pass_on(self, pod: str, line: str) -> None:
        self._heard_at = time.monotonic()
        self._workers[pod].tail.append(line)
        index = pod.removeprefix(f"{self._gang.name}-").partition("-")[0]
        self._log(f"[worker {index}] {line}" if self._gang.workers > 1 else line)

    # --- progress ----------------------------------------------------------------------------------------------------

    def _note_progress(self) -> None:
        """Say what is new: who waits for what, who runs where."""
        job = self._state.job
        if not job or diagnosis.is_complete(job):
            return
        if diagnosis.is_suspended(job):
            self._admitted_at = None
            self._started.clear()
        elif self._admitted_at is None:
            self._admitted_at = time.monotonic() - _age_s(job)
        for line in self._pending():
            self._say(line)
        states = {}
        for pod in self._state.pods.values():
            index, (kind, _) = pod_state.worker_of(pod), pod_state.container_state(pod, self._gang.container)
            states[index] = kind
            if kind != "waiting" and not diagnosis.is_suspended(job):
                self._started.add(index)
                self._say(f"worker {index} started on {pod['spec'].get('nodeName')}")
        self._has_run = self._has_run or self.has_started()
        if states != self._reported:
            self._reported = states
            self._report(states)

    def _pending(self) -> list[str]:
        reasons = diagnosis.pending_reasons(self._state, self._gang.container)
        return [f"{_names(workers)}: {text}" if workers else text for text, workers in reasons.items()]

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._log(text)

    # --- limits ------------------------------------------------------------------------------------------------------

    def _stays_broken(self) -> Failure | None:
        broken = {
            name: (reason, failure)
            for name, (reason, failure) in diagnosis.broken_pods(self._state, self._gang.container).items()
            if failure.remedy is not Remedy.WAIT  # it may recover as long as a gang may take to start
        }
        if not self.has_started() and len(self._state.pods) < self._gang.workers:
            refusal = diagnosis.refusal_of(self._state)
            broken |= {self._gang.name: refusal} if refusal else {}
        now = time.monotonic()
        self._broken_since = {name: self._broken_since.get(name, now) for name in broken}
        for name, (reason, failure) in broken.items():
            lasts = self._limits.passed or now - self._broken_since[name] > self._limits.broken_s
            if lasts or reason in _NEVER:
                return failure
        return None

    def _starts_too_late(self) -> Failure | None:
        if self.has_started():
            return None
        patience = self._limits.startup_s * _patience(self._gang.name)
        is_late = self._admitted_at is not None and (
            self._limits.passed or time.monotonic() - self._admitted_at >= patience
        )
        if not is_late and (self._limits.until is None or time.time() < self._limits.until):
            return None
        within = f" within {patience:.0f} s" if is_late else ""
        why = "; ".join(self._pending()) or "Kubernetes gives no reason"
        started = f"only {len(self._started)} of {self._gang.workers} workers started{within}"
        return Failure(f"{started}: {why}", remedy=Remedy.WAIT)

    def _runs_too_long(self) -> Failure | None:
        """Whether the gang has run for longer than it may; what it has waited for its place does not count."""
        limit_s = self._gang.run_limit_s
        start = diagnosis.last_start(self._state, self._gang.container)
        if limit_s is None or start is None or not self.has_started() or time.time() <= start.timestamp() + limit_s:
            return None
        return diagnosis.RAN_TOO_LONG

    # --- the end -----------------------------------------------------------------------------------------------------

    def _in_words(self, failure: Failure) -> str:
        if failure.pod is None:
            return f"the gang {self._gang.name} failed: {failure.why}"
        message = f"worker {failure.worker} {failure.why}"
        if failure.pod in self._workers:
            message += f": {error_line(list(self._workers[failure.pod].tail))}"
        if words := pod_state.last_words(self._state.warnings, failure.pod):
            message += f"\nKubernetes about pod {failure.pod}: {words}"
        return message


def _names(workers: list[int]) -> str:
    return f"worker {workers[0]}" if len(workers) == 1 else f"workers {', '.join(map(str, workers))}"


def _age_s(job: Manifest) -> float:
    """Seconds since a Job was admitted, whoever has waited for its workers until now."""
    start = job.get("status", {}).get("startTime")
    return max(0.0, time.time() - datetime.fromisoformat(start).timestamp()) if start else 0.0


def _patience(name: str) -> float:
    """Factor on the start-up limit, another one for every gang.

    Two gangs that hold each other's nodes so give up at different times, and the second gets what the first frees.
    """
    return 1 + int(short_hash(name)[:4], 16) / 0xFFFF * (LONGEST_PATIENCE - 1)
