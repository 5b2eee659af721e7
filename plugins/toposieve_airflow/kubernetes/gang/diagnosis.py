"""What the state of a gang means, in plain words. Pure functions on Kubernetes' objects as mappings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE
from toposieve_airflow.kubernetes.api import pod_state
from toposieve_airflow.kubernetes.api.ownership import is_same_work
from toposieve_airflow.kubernetes.api.pod_state import DELETED, KILLED, Failure, Manifest, Remedy, condition_of, text_of

_FAILED = ("FailureTarget", "Failed")

_FORBIDDEN = re.compile("is forbidden|is invalid|denied the request")
"""What the API server says of a pod that breaks a rule of the namespace, the API or a webhook."""

_DISRUPTED = "has condition DisruptionTarget"
"""What Kubernetes says of a Job that it has ended because of a pod with that condition."""

RAN_TOO_LONG = Failure("it ran longer than its limit", is_cause=True)


@dataclass
class State:
    """What is known of a gang: its Job, its pods and the warnings about them, each by name.

    ``job`` is None before the first look, and an empty mapping when there is no such Job (any more);
    ``final_exit_code`` is that by which a worker says that another try would fail in the same way, if there is one.
    """

    job: Manifest | None = None
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    warnings: Mapping[str, Manifest] = field(default_factory=dict)
    final_exit_code: int | None = INVALID_INPUT_EXIT_CODE
    _all_pods: Mapping[str, Manifest] = field(default_factory=dict)

    def see_job(self, job: Manifest) -> None:
        """Take in the Job as it is now."""
        self.job = job
        self._sort_out()

    def see_pods(self, pods: Mapping[str, Manifest]) -> None:
        """Take in the pods as they are now.

        Of one that is being deleted the first time stamp stays: that of its last removal, without a grace period, no
        longer says when it was asked for.
        """
        self._all_pods = {
            name: {**pod, "metadata": {**pod["metadata"], **self._deletion(name)}} for name, pod in pods.items()
        }
        self._sort_out()

    def _deletion(self, name: str) -> Manifest:
        known = self._all_pods.get(name, {}).get("metadata", {})
        return {key: known[key] for key in ("deletionTimestamp", "deletionGracePeriodSeconds") if key in known}

    def _sort_out(self) -> None:
        """Leave out the pods that a queue has taken the place from: whatever becomes of them is no failure."""
        until = _sent_back_until(self.job or {})
        self.pods = {
            name: pod
            for name, pod in self._all_pods.items()
            if "deletionTimestamp" not in pod["metadata"] or pod_state.deleted_at(pod["metadata"]) > until
        }


def is_complete(job: Manifest) -> bool:
    """Whether every worker of a Job has ended well."""
    return condition_of(job, ("SuccessCriteriaMet", "Complete")) is not None


def is_suspended(job: Manifest) -> bool:
    """Whether a Job waits to be admitted, for the first time or again."""
    return bool(job.get("spec", {}).get("suspend")) or condition_of(job, ("Suspended",)) is not None


def last_start(state: State, container: str) -> datetime | None:
    """When the last worker has started, if one has: from then on the gang runs."""
    states = (pod_state.container_state(pod, container)[1] for pod in state.pods.values())
    return max((datetime.fromisoformat(text) for each in states if (text := text_of(each, "startedAt"))), default=None)


def has_failed(job: Manifest) -> bool:
    """Whether a Job has failed, or is about to."""
    return condition_of(job, _FAILED) is not None


def may_be_adopted(job: Manifest, digest: str) -> bool:
    """Whether a Job left by a process that is gone does the same work and has not failed."""
    return is_same_work(job, digest) and not has_failed(job) and "deletionTimestamp" not in job["metadata"]


def failure_of(state: State, container: str, suspect: str | None = None) -> Failure | None:
    """Why the gang has failed, if it has. A worker that names its own fault comes before those it has taken along.

    Args:
        state: The gang.
        container: Name of the container that trains.
        suspect: The pod that was at fault when the gang was looked at before, if it was.
    """
    if state.job is None or is_complete(state.job):
        return None
    condition = condition_of(state.job, _FAILED)
    if condition and text_of(condition, "reason") == "DeadlineExceeded":
        return RAN_TOO_LONG
    if condition is None and is_suspended(state.job):
        return None
    looked_at = (pod_state.failure_of(pod, container, state.final_exit_code) for pod in state.pods.values())
    failures = [failure for failure in looked_at if failure]
    if failures:
        return min(failures, key=lambda each: _precedence(each, suspect))
    if not state.job or "deletionTimestamp" in state.job["metadata"]:
        return Failure("its Job was deleted")
    return _job_failure(condition) if condition else None


def broken_pods(state: State, container: str) -> dict[str, tuple[str, Failure]]:
    """Pods whose container cannot start, each with the kind of fault and what to say when it lasts."""
    return {name: found for name, pod in state.pods.items() if (found := pod_state.broken(pod, container))}


def refusal_of(state: State) -> tuple[str, Failure] | None:
    """Why Kubernetes does not make the pods, if a rule forbids them: the kind of fault, and what to say when it lasts.

    A quota that is used up is no such rule: others free it.
    """
    last = text_of(max(_job_warnings(state), key=pod_state.time_of, default={}), "message")
    if "exceeded quota" in last or not _FORBIDDEN.search(last):
        return None
    kind = "PodSecurity" if "violates PodSecurity" in last else "FailedCreate"
    return kind, Failure(f"Kubernetes refuses its pods: {_of_any_pod(last)}", remedy=Remedy.NONE)


def pending_reasons(state: State, container: str) -> dict[str, list[int]]:
    """What workers wait for, in words, each with the workers that it holds up (none: the whole gang)."""
    if not state.job:
        return {}
    if is_suspended(state.job):
        return {"the gang waits for its queue to admit it": []}
    reasons: dict[str, list[int]] = {_creation(text_of(each, "message")): [] for each in _job_warnings(state)}
    for _, pod in sorted(state.pods.items()):
        if text := pod_state.pending(pod, container, state.warnings):
            reasons.setdefault(text, []).append(pod_state.worker_of(pod))
    return reasons


def _precedence(failure: Failure, suspect: str | None) -> tuple[Any, ...]:
    """What failures are ordered by: the first comes first.

    In the same second: one that the cluster has ended, or that was killed, for its peers end by themselves at once; the
    suspect; those deleted come last, for Kubernetes deletes all others after a failure.
    """
    waits, killed = failure.remedy is Remedy.WAIT, failure.exit_code == KILLED
    return not failure.is_cause, failure.when, not waits, not killed, failure.pod != suspect, failure.why == DELETED


def _job_failure(condition: Manifest) -> Failure:
    message = text_of(condition, "message")
    worker = re.search(r"[Pp]od \S+-(\d+)-\w+ ", message)
    remedy = Remedy.WAIT if _DISRUPTED in message else Remedy.RETRY
    return Failure(pod_state.words_of(condition), int(worker[1]) if worker else None, remedy=remedy)


def _creation(message: str) -> str:
    text = _of_any_pod(message)
    if "exceeded quota" in text:
        return f"the namespace's quota leaves no room: {text}"
    return f"pods cannot be made: {text}"


def _of_any_pod(message: str) -> str:
    """Why a pod could not be made, without its name, which changes with every attempt."""
    return re.sub(r'^(\(combined .*?\): )?Error creating: (pods "[^"]*" is forbidden: )?', "", message)


def _job_warnings(state: State) -> list[Manifest]:
    """What the Job controller says about pods that it could not make."""
    return [
        warning
        for warning in state.warnings.values()
        if warning["involvedObject"].get("kind") == "Job" and text_of(warning, "reason") == "FailedCreate"
    ]


def _sent_back_until(job: Manifest) -> str:
    """When a queue has last admitted a Job; if it is suspended, later than all that has been."""
    if is_suspended(job):
        return "9999"
    resumed = condition_of(job, ("Suspended",), status="False")
    return text_of(resumed, "lastTransitionTime") if resumed else ""
