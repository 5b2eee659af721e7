"""What the state of a gang means, in plain words. Pure functions on Kubernetes' objects as mappings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE
from toposieve_airflow.contract.tf_config import INDEX_LABEL

Manifest = Mapping[str, Any]

_FAILED = ("FailureTarget", "Failed")


class Remedy(Enum):
    """What helps against a failure."""

    NONE = "none"
    """Nothing: another try would fail in the same way."""
    RETRY = "retry"
    """Another try may do better."""
    WAIT = "wait"
    """Time: the cluster is at fault and not the training, which costs no try."""


_REASONS = {
    # The condition DisruptionTarget of a pod. Reasons that are not here are Kubernetes' own doing too.
    "PreemptionByScheduler": ("was preempted by a pod of higher priority", Remedy.WAIT),
    "EvictionByEvictionAPI": ("was evicted", Remedy.WAIT),
    "DeletionByTaintManager": ("was lost with its node, or its node was emptied", Remedy.WAIT),
    "DeletionByPodGC": ("was lost with its node, which is gone", Remedy.WAIT),
    "TerminationByKubelet": ("was ended by its node", Remedy.WAIT),
    # The status of a pod that a node has not taken, or no longer wanted, without that condition.
    "Evicted": ("was evicted for what it used itself", Remedy.RETRY),
    "NodeAffinity": ("was not taken by its node, whose labels have changed", Remedy.WAIT),
    "NodeLost": ("was lost with its node", Remedy.WAIT),
    "NodeShutdown": ("was not taken by its node, which shuts down", Remedy.WAIT),
    "OutOf": ("was not taken by its node, which has no room left", Remedy.WAIT),  # cpu, memory, pods, a kind of GPU
    "Preempting": ("had to make room for a pod of its node's own", Remedy.WAIT),
    "Terminated": ("was ended by its node, which shuts down", Remedy.WAIT),
    "UnexpectedAdmissionError": ("was not taken by its node", Remedy.WAIT),
    # The state of a container that waits, and that waiting alone seldom mends; what is said of it may be final all the
    # same.
    "InvalidImageName": ("the name of its image is not valid", Remedy.NONE),
    "ErrImageNeverPull": ("its image is not on the node and may not be pulled", Remedy.NONE),
    "ErrImagePull": ("its image cannot be pulled", Remedy.WAIT),
    "ImagePullBackOff": ("its image cannot be pulled", Remedy.WAIT),
    "RegistryUnavailable": ("its image cannot be pulled", Remedy.WAIT),
    "CreateContainerConfigError": ("its container cannot be configured", Remedy.NONE),
    "CreateContainerError": ("its container cannot be created", Remedy.RETRY),
}
"""Kubernetes' reason → what it means for a worker, and what helps. Exit codes of containers are the training's own."""

_FINAL_WORDS = re.compile(
    "not found|no such file|manifest unknown|denied|unauthorized|no command specified", re.IGNORECASE
)
"""What registries and runtimes say when the image, its name or the command is wrong; they may also be down or busy."""

_FORBIDDEN = re.compile("is forbidden|is invalid|denied the request")
"""What the API server says of a pod that breaks a rule of the namespace, the API or a webhook."""

_DISRUPTED = "has condition DisruptionTarget"
"""What Kubernetes says of a Job that it has ended because of a pod with that condition."""

_DELETED = "was deleted"
_NO_WORKER = -1
_KILLED = 128 + 9


@dataclass(frozen=True)
class Failure:
    """Why a gang failed.

    Args:
        why: The reason, in words.
        worker: Index of the worker at fault, if there is one.
        pod: Its pod.
        remedy: What helps.
        is_cause: Whether this is surely the cause, and no consequence of another worker's end.
        exit_code: Of the worker, 0 while it runs.
    """

    why: str
    worker: int | None = None
    pod: str | None = None
    remedy: Remedy = Remedy.RETRY
    is_cause: bool = False
    exit_code: int = 0

    @property
    def may_retry(self) -> bool:
        """Whether another try may do better."""
        return self.remedy is not Remedy.NONE


RAN_TOO_LONG = Failure("it ran longer than its limit", is_cause=True)


@dataclass
class State:
    """What is known of a gang: its Job, its pods and the warnings about them, each by name.

    ``job`` is None before the first look, and an empty mapping when there is no such Job (any more).
    """

    job: Manifest | None = None
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    warnings: Mapping[str, Manifest] = field(default_factory=dict)
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
            if "deletionTimestamp" not in pod["metadata"] or _deleted_at(pod["metadata"]) > until
        }


def worker_of(pod: Manifest) -> int:
    """Index of a pod's worker."""
    return int(pod["metadata"]["labels"].get(INDEX_LABEL, _NO_WORKER))


def is_complete(job: Manifest) -> bool:
    """Whether every worker of a Job has ended well."""
    return _condition(job, ("SuccessCriteriaMet", "Complete")) is not None


def is_suspended(job: Manifest) -> bool:
    """Whether a Job waits to be admitted, for the first time or again."""
    return bool(job.get("spec", {}).get("suspend")) or _condition(job, ("Suspended",)) is not None


def last_start(state: State, container: str) -> datetime | None:
    """When the last worker has started, if one has: from then on the gang runs."""
    states = (container_state(pod, container)[1] for pod in state.pods.values())
    return max((datetime.fromisoformat(text) for each in states if (text := _text(each, "startedAt"))), default=None)


def has_failed(job: Manifest) -> bool:
    """Whether a Job has failed, or is about to."""
    return _condition(job, _FAILED) is not None


def may_be_adopted(job: Manifest, digest_label: str, digest: str) -> bool:
    """Whether a Job left by a process that is gone does the same work and has not failed."""
    same_work = job["metadata"]["labels"].get(digest_label) == digest
    return same_work and not has_failed(job) and "deletionTimestamp" not in job["metadata"]


def container_state(pod: Manifest, container: str) -> tuple[str, Manifest]:
    """State of a container (``waiting``, ``running`` or ``terminated``) and what Kubernetes says about it."""
    return next(((kind, details) for name, kind, details in _states(pod) if name == container), ("waiting", {}))


def has_started(pod: Manifest, container: str) -> bool:
    """Whether a container runs or has run."""
    return container_state(pod, container)[0] != "waiting"


def ended_well(pod: Manifest, container: str) -> bool:
    """Whether a container has done its work."""
    kind, details = container_state(pod, container)
    return kind == "terminated" and not details.get("exitCode")


def container_at_fault(pod: Manifest, container: str) -> str:
    """The container that a pod has failed with: this one, or another that ended badly while this one did not."""
    if not _has_failed(pod) or _exit_code(pod, container):
        return container
    return next((name for name, _, details in _states(pod) if details.get("exitCode")), container)


def failure_of(state: State, container: str, suspect: str | None = None) -> Failure | None:
    """Why the gang has failed, if it has. A worker that names its own fault comes before those it has taken along.

    Args:
        state: The gang.
        container: Name of the container that trains.
        suspect: The pod that was at fault when the gang was looked at before, if it was.
    """
    if state.job is None or is_complete(state.job):
        return None
    condition = _condition(state.job, _FAILED)
    if condition and _text(condition, "reason") == "DeadlineExceeded":
        return RAN_TOO_LONG
    if condition is None and is_suspended(state.job):
        return None
    failures = [failure for pod in state.pods.values() if (failure := _pod_failure(pod, container))]
    if failures:
        return min(failures, key=lambda each: _precedence(each[0], each[1], suspect))[1]
    if not state.job or "deletionTimestamp" in state.job["metadata"]:
        return Failure("its Job was deleted")
    return _job_failure(condition) if condition else None


def broken_pods(state: State, container: str) -> dict[str, tuple[str, Failure]]:
    """Pods whose container cannot start, each with the kind of fault and what to say when it lasts."""
    found = {}
    for name, pod in state.pods.items():
        if details := _broken(pod, container):
            failure = Failure(_waiting(details), worker_of(pod), name, _remedy_of(details))
            found[name] = details["reason"], failure
    return found


def refusal_of(state: State) -> tuple[str, Failure] | None:
    """Why Kubernetes does not make the pods, if a rule forbids them: the kind of fault, and what to say when it lasts.

    A quota that is used up is no such rule: others free it.
    """
    last = _text(max(_job_warnings(state), key=_time_of, default={}), "message")
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
    reasons: dict[str, list[int]] = {_creation(_text(each, "message")): [] for each in _job_warnings(state)}
    for name, pod in sorted(state.pods.items()):
        if not has_started(pod, container) and (text := _pending(pod, container, _last_warning(state, name))):
            reasons.setdefault(text, []).append(worker_of(pod))
    return reasons


def last_words(state: State, pod: str) -> str | None:
    """The last warning about a pod, if there is one."""
    warning = _last_warning(state, pod)
    return _in_words(warning) if warning else None


def _precedence(when: str, failure: Failure, suspect: str | None) -> tuple[Any, ...]:
    """What failures are ordered by: the first comes first.

    In the same second: one that the cluster has ended, or that was killed, for its peers end by themselves at once; the
    suspect; those deleted come last, for Kubernetes deletes all others after a failure.
    """
    waits, killed = failure.remedy is Remedy.WAIT, failure.exit_code == _KILLED
    return not failure.is_cause, when, not waits, not killed, failure.pod != suspect, failure.why == _DELETED


def _pod_failure(pod: Manifest, container: str) -> tuple[str, Failure] | None:
    """A pod's failure and its time."""
    if pod.get("status", {}).get("phase") == "Succeeded":
        return None  # it has done its work, whatever becomes of it now
    at_fault = container_at_fault(pod, container)
    details, code = container_state(pod, at_fault)[1], _exit_code(pod, at_fault)
    not_started, remedy = details.get("reason") == "StartError", Remedy.RETRY
    disruption = _condition(pod, ("DisruptionTarget",))
    if disruption:
        why, remedy = _meaning(disruption, "was disrupted", Remedy.WAIT)
        when = _text(disruption, "lastTransitionTime")
    elif "deletionTimestamp" in pod["metadata"] and not _ended_before(_deleted_at(pod["metadata"]), code, details):
        why, when = _DELETED, _deleted_at(pod["metadata"])
    elif code:
        why, when = _exit(code, details, pod, at_fault), _text(details, "finishedAt")
        why += "" if at_fault == container else f" in its container {at_fault}"
    elif _has_failed(pod):
        (why, remedy), when = _meaning(pod["status"], "failed", Remedy.RETRY), ""
    else:
        return None
    if code == INVALID_INPUT_EXIT_CODE or (not_started and _FINAL_WORDS.search(_text(details, "message"))):
        remedy = Remedy.NONE
    is_cause = not_started or remedy is Remedy.NONE
    return when, Failure(why, worker_of(pod), pod["metadata"]["name"], remedy, is_cause, exit_code=code)


def _meaning(thing: Manifest, otherwise: str, remedy: Remedy) -> tuple[str, Remedy]:
    """What the reason of a condition or a status means, and what helps; of a reason that is not known, as given."""
    reason = _text(thing, "reason")
    key = "OutOf" if reason.startswith("OutOf") else reason
    words, remedy = _REASONS.get(key, (f"{otherwise} ({reason})", remedy))
    return ": ".join(filter(None, (words, _text(thing, "message")))), remedy


def _ended_before(deleted_at: str, code: int, details: Manifest) -> bool:
    """Whether a container had failed by itself when its pod was deleted. In the same second only KILL tells it."""
    ended_at = _text(details, "finishedAt")
    return bool(code) and (ended_at < deleted_at or (ended_at == deleted_at and code == _KILLED))


def _remedy_of(details: Manifest) -> Remedy:
    """What helps against what keeps a container from starting."""
    return Remedy.NONE if _FINAL_WORDS.search(_text(details, "message")) else _REASONS[details["reason"]][1]


def _deleted_at(metadata: Manifest) -> str:
    """When a pod was deleted: its time stamp says when its grace period ends."""
    end = datetime.fromisoformat(metadata["deletionTimestamp"])
    return (end - timedelta(seconds=metadata.get("deletionGracePeriodSeconds", 0))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exit(code: int, details: Manifest, pod: Manifest, container: str) -> str:
    reason = details.get("reason")
    if reason == "OOMKilled":
        return f"was killed because it used more memory than its limit of {_memory_limit(pod, container)}"
    if reason == "StartError":
        return f"could not be started: {_text(details, 'message')}"
    how = f" (ended by signal {code - 128})" if code > 128 else ""
    return f"failed with exit code {code}{how}"


def _memory_limit(pod: Manifest, container: str) -> str:
    for each in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])):
        if each["name"] == container:
            return str(each.get("resources", {}).get("limits", {}).get("memory", "its node"))
    return "its node"


def _job_failure(condition: Manifest) -> Failure:
    message = _text(condition, "message")
    worker = re.search(r"[Pp]od \S+-(\d+)-\w+ ", message)
    remedy = Remedy.WAIT if _DISRUPTED in message else Remedy.RETRY
    return Failure(_in_words(condition), int(worker[1]) if worker else None, remedy=remedy)


def _pending(pod: Manifest, container: str, warning: Manifest | None) -> str | None:
    scheduled = _condition(pod, ("PodScheduled",), status="False")
    if scheduled:
        return f"no node can take it: {scheduled.get('message', scheduled.get('reason'))}"
    if details := _broken(pod, container):
        return _waiting(details)
    return _in_words(warning) if warning else None


def _broken(pod: Manifest, container: str) -> Manifest | None:
    """What keeps a container from starting: something about it, or about one that has to start or end before it."""
    if has_started(pod, container):
        return None
    return next((details for _, _, details in _states(pod) if details.get("reason") in _REASONS), None)


def _states(pod: Manifest) -> Iterator[tuple[str, str, Manifest]]:
    """Name and state of each container, and what Kubernetes says about it."""
    status = pod.get("status", {})
    for each in (*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])):
        for kind, details in each.get("state", {}).items():
            yield each["name"], kind, details


def _exit_code(pod: Manifest, container: str) -> int:
    return int(container_state(pod, container)[1].get("exitCode", 0))


def _has_failed(pod: Manifest) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Failed")


def _waiting(details: Manifest) -> str:
    return f"{_REASONS[details['reason']][0]}: {details.get('message', details['reason'])}"


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
        if warning["involvedObject"].get("kind") == "Job" and _text(warning, "reason") == "FailedCreate"
    ]


def _last_warning(state: State, pod: str) -> Manifest | None:
    about = [each for each in state.warnings.values() if each["involvedObject"].get("name") == pod]
    return max(about, key=_time_of, default=None)


def _time_of(event: Manifest) -> str:
    return _text(event, "lastTimestamp") or _text(event, "eventTime")


def _sent_back_until(job: Manifest) -> str:
    """When a queue has last admitted a Job; if it is suspended, later than all that has been."""
    if is_suspended(job):
        return "9999"
    resumed = _condition(job, ("Suspended",), status="False")
    return _text(resumed, "lastTransitionTime") if resumed else ""


def _in_words(thing: Manifest) -> str:
    """What Kubernetes says in an event or a condition."""
    return ": ".join(filter(None, (_text(thing, "reason"), _text(thing, "message"))))


def _text(thing: Manifest, key: str) -> str:
    """A field that Kubernetes leaves out, or sends as null, when it is empty."""
    return str(thing.get(key) or "")


def _condition(thing: Manifest, types: Iterable[str], status: str = "True") -> Manifest | None:
    for condition in thing.get("status", {}).get("conditions", []):
        if condition["type"] in types and condition["status"] == status:
            return dict(condition)
    return None
