"""What the state of a gang means, in plain words. Pure functions on Kubernetes' objects as mappings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from toposieve_airflow.gang import INDEX_LABEL
from toposieve_airflow.processes import INVALID_INPUT_EXIT_CODE

Manifest = Mapping[str, Any]

_FAILED = ("FailureTarget", "Failed")
_DISRUPTIONS = {
    "PreemptionByScheduler": "was preempted by a pod of higher priority",
    "EvictionByEvictionAPI": "was evicted",
    "DeletionByTaintManager": "was lost with its node, or its node was emptied",
    "DeletionByPodGC": "was lost with its node, which is gone",
    "TerminationByKubelet": "was ended by its node",
}
_BROKEN = {
    "InvalidImageName": "the name of its image is not valid",
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node and may not be pulled",
    "CreateContainerConfigError": "its container cannot be configured",
    "CreateContainerError": "its container cannot be created",
}
"""Reasons of a waiting container that waiting alone seldom mends."""

_FINAL = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_FINAL_WORDS = re.compile(
    "not found|no such file|manifest unknown|denied|unauthorized|no command specified", re.IGNORECASE
)
"""What registries and runtimes say when the image, its name or the command is wrong; they may also be down or busy."""

_FORBIDDEN = re.compile("is forbidden|is invalid|denied the request")
"""What the API server says of a pod that breaks a rule of the namespace, the API or a webhook."""

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
        may_retry: Whether another try may do better.
        is_cause: Whether this is surely the cause, and no consequence of another worker's end.
        exit_code: Of the worker, 0 while it runs.
    """

    why: str
    worker: int | None = None
    pod: str | None = None
    may_retry: bool = True
    is_cause: bool = False
    exit_code: int = 0


@dataclass
class State:
    """What is known of a gang: its Job, its pods and the warnings about them, each by name.

    ``job`` is None before the first look, and an empty mapping when there is no such Job (any more).
    """

    job: Manifest | None = None
    pods: Mapping[str, Manifest] = field(default_factory=dict)
    warnings: Mapping[str, Manifest] = field(default_factory=dict)

    def see_pods(self, pods: Mapping[str, Manifest]) -> None:
        """Take in the pods as they are now.

        Of one that is being deleted the first time stamp stays: that of its last removal, without a grace period, no
        longer says when it was asked for.
        """
        self.pods = {
            name: {**pod, "metadata": {**pod["metadata"], **self._deletion(name)}} for name, pod in pods.items()
        }

    def _deletion(self, name: str) -> Manifest:
        known = self.pods.get(name, {}).get("metadata", {})
        return {key: known[key] for key in ("deletionTimestamp", "deletionGracePeriodSeconds") if key in known}


def worker_of(pod: Manifest) -> int:
    """Index of a pod's worker."""
    return int(pod["metadata"]["labels"].get(INDEX_LABEL, _NO_WORKER))


def is_complete(job: Manifest) -> bool:
    """Whether every worker of a Job has ended well."""
    return _condition(job, ("SuccessCriteriaMet", "Complete")) is not None


def is_suspended(job: Manifest) -> bool:
    """Whether a Job waits to be admitted."""
    return bool(job.get("spec", {}).get("suspend"))


def may_be_adopted(job: Manifest, digest_label: str, digest: str) -> bool:
    """Whether a Job left by a process that is gone does the same work and has not failed."""
    same_work = job["metadata"]["labels"].get(digest_label) == digest
    return same_work and _condition(job, _FAILED) is None and "deletionTimestamp" not in job["metadata"]


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
        return Failure("it ran longer than its limit", is_cause=True)
    if is_suspended(state.job) and any("deletionTimestamp" in pod["metadata"] for pod in state.pods.values()):
        return Failure("its queue has suspended it again", is_cause=True)
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
            failure = Failure(_waiting(details), worker_of(pod), name, may_retry=not _is_final(details))
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
    return kind, Failure(f"Kubernetes refuses its pods: {_of_any_pod(last)}", may_retry=False)


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

    In the same second: one that was killed, for its peers end by themselves at once; the suspect; those deleted come
    last, for Kubernetes deletes all others after a failure.
    """
    killed = failure.exit_code == _KILLED
    return not failure.is_cause, when, not killed, failure.pod != suspect, failure.why == _DELETED


def _pod_failure(pod: Manifest, container: str) -> tuple[str, Failure] | None:
    """A pod's failure and its time."""
    if pod.get("status", {}).get("phase") == "Succeeded":
        return None  # it has done its work, whatever becomes of it now
    at_fault = container_at_fault(pod, container)
    details, code = container_state(pod, at_fault)[1], _exit_code(pod, at_fault)
    disruption = _condition(pod, ("DisruptionTarget",))
    if disruption:
        reason, message = _text(disruption, "reason"), _text(disruption, "message")
        why = ": ".join(filter(None, (_DISRUPTIONS.get(reason, f"was disrupted ({reason})"), message)))
        when = _text(disruption, "lastTransitionTime")
    elif "deletionTimestamp" in pod["metadata"] and not _ended_before(_deleted_at(pod["metadata"]), code, details):
        why, when = _DELETED, _deleted_at(pod["metadata"])
    elif code:
        why, when = _exit(code, details, pod, at_fault), _text(details, "finishedAt")
        why += "" if at_fault == container else f" in its container {at_fault}"
    elif _has_failed(pod):
        status = pod["status"]
        why, when = f"failed: {_text(status, 'reason')} {_text(status, 'message')}".rstrip(), ""
    else:
        return None
    not_started = details.get("reason") == "StartError"
    may_retry = not (code == INVALID_INPUT_EXIT_CODE or (not_started and _is_final(details)))
    is_cause = not_started or not may_retry
    return when, Failure(why, worker_of(pod), pod["metadata"]["name"], may_retry, is_cause, exit_code=code)


def _ended_before(deleted_at: str, code: int, details: Manifest) -> bool:
    """Whether a container had failed by itself when its pod was deleted. In the same second only KILL tells it."""
    ended_at = _text(details, "finishedAt")
    return bool(code) and (ended_at < deleted_at or (ended_at == deleted_at and code == _KILLED))


def _is_final(details: Manifest) -> bool:
    """Whether a container could not be started because of what was asked for, and no other try can do it."""
    return details.get("reason") in _FINAL or _FINAL_WORDS.search(_text(details, "message")) is not None


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
    worker = re.search(r"[Pp]od \S+-(\d+)-\w+ ", _text(condition, "message"))
    return Failure(_in_words(condition), int(worker[1]) if worker else None)


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
    return next((details for _, _, details in _states(pod) if details.get("reason") in _BROKEN), None)


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
    return f"{_BROKEN[details['reason']]}: {details.get('message', details['reason'])}"


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
