"""What the state of a pod means, in plain words. Pure functions on Kubernetes' objects as mappings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from toposieve_airflow.contract.exits import INVALID_INPUT_EXIT_CODE
from toposieve_airflow.contract.tf_config import INDEX_LABEL

Manifest = Mapping[str, Any]


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

DELETED = "was deleted"
_NO_WORKER = -1
KILLED = 128 + 9


@dataclass(frozen=True)
class Failure:
    """Why a gang or a driver failed.

    Args:
        why: The reason, in words.
        worker: Index of the worker at fault, if it is one.
        pod: Its pod.
        remedy: What helps.
        is_cause: Whether this is surely the cause, and no consequence of another worker's end.
        exit_code: Of its container, 0 while it runs.
        when: Its time, as Kubernetes writes it.
    """

    why: str
    worker: int | None = None
    pod: str | None = None
    remedy: Remedy = Remedy.RETRY
    is_cause: bool = False
    exit_code: int = 0
    when: str = ""

    @property
    def may_retry(self) -> bool:
        """Whether another try may do better."""
        return self.remedy is not Remedy.NONE


def worker_of(pod: Manifest) -> int:
    """Index of a pod's worker."""
    return int(pod["metadata"]["labels"].get(INDEX_LABEL, _NO_WORKER))


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


def failure_of(pod: Manifest, container: str, final_exit_code: int | None = INVALID_INPUT_EXIT_CODE) -> Failure | None:
    """Why a pod has failed, if it has; by the final exit code, it says that another try would fail in the same way."""
    if pod.get("status", {}).get("phase") == "Succeeded":
        return None  # it has done its work, whatever becomes of it now
    at_fault = container_at_fault(pod, container)
    details, code = container_state(pod, at_fault)[1], _exit_code(pod, at_fault)
    not_started, remedy = details.get("reason") == "StartError", Remedy.RETRY
    disruption = condition_of(pod, ("DisruptionTarget",))
    if disruption:
        why, remedy = _meaning(disruption, "was disrupted", Remedy.WAIT)
        when = text_of(disruption, "lastTransitionTime")
    elif "deletionTimestamp" in pod["metadata"] and not _ended_before(deleted_at(pod["metadata"]), code, details):
        why, when = DELETED, deleted_at(pod["metadata"])
    elif code:
        why, when = _exit(code, details, pod, at_fault), text_of(details, "finishedAt")
        why += "" if at_fault == container else f" in its container {at_fault}"
    elif _has_failed(pod):
        (why, remedy), when = _meaning(pod["status"], "failed", Remedy.RETRY), ""
    else:
        return None
    if code == final_exit_code or (not_started and _FINAL_WORDS.search(text_of(details, "message"))):
        remedy = Remedy.NONE
    is_cause = not_started or remedy is Remedy.NONE
    return Failure(why, worker_of(pod), pod["metadata"]["name"], remedy, is_cause, code, when)


def _meaning(thing: Manifest, otherwise: str, remedy: Remedy) -> tuple[str, Remedy]:
    """What the reason of a condition or a status means, and what helps; of a reason that is not known, as given."""
    reason = text_of(thing, "reason")
    key = "OutOf" if reason.startswith("OutOf") else reason
    words, remedy = _REASONS.get(key, (f"{otherwise} ({reason})", remedy))
    return ": ".join(filter(None, (words, text_of(thing, "message")))), remedy


def _ended_before(deletion: str, code: int, details: Manifest) -> bool:
    """Whether a container had failed by itself when its pod was deleted. In the same second only KILL tells it."""
    ended_at = text_of(details, "finishedAt")
    return bool(code) and (ended_at < deletion or (ended_at == deletion and code == KILLED))


def deleted_at(metadata: Manifest) -> str:
    """When a pod was deleted: its time stamp says when its grace period ends."""
    end = datetime.fromisoformat(metadata["deletionTimestamp"])
    return (end - timedelta(seconds=metadata.get("deletionGracePeriodSeconds", 0))).strftime("%Y-%m-%dT%H:%M:%SZ")


def _exit(code: int, details: Manifest, pod: Manifest, container: str) -> str:
    reason = details.get("reason")
    if reason == "OOMKilled":
        return f"was killed because it used more memory than its limit of {_memory_limit(pod, container)}"
    if reason == "StartError":
        return f"could not be started: {text_of(details, 'message')}"
    how = f" (ended by signal {code - 128})" if code > 128 else ""
    return f"failed with exit code {code}{how}"


def _memory_limit(pod: Manifest, container: str) -> str:
    for each in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])):
        if each["name"] == container:
            return str(each.get("resources", {}).get("limits", {}).get("memory", "its node"))
    return "its node"


def is_gated(pod: Manifest) -> bool:
    """Whether a queue such as Kueue's keeps a pod back from the scheduler."""
    return bool(pod["spec"].get("schedulingGates"))


def pending(pod: Manifest, container: str, warnings: Mapping[str, Manifest]) -> str | None:
    """What a pod waits for, in words, if it does; ``warnings`` are those of its namespace."""
    if has_started(pod, container):
        return None
    if is_gated(pod):
        return "its queue has not admitted it"
    scheduled = condition_of(pod, ("PodScheduled",), status="False")
    if scheduled:
        return f"no node can take it: {scheduled.get('message', scheduled.get('reason'))}"
    if found := broken(pod, container):
        return found[1].why
    return last_words(warnings, pod["metadata"]["name"])


def broken(pod: Manifest, container: str) -> tuple[str, Failure] | None:
    """What keeps a container, or one before it, from starting: the kind of fault, and what to say when it lasts."""
    if has_started(pod, container):
        return None
    for _, _, details in _states(pod):
        if (reason := details.get("reason")) in _REASONS:
            words, remedy = _REASONS[reason]
            why = f"{words}: {details.get('message', reason)}"
            is_final = _FINAL_WORDS.search(text_of(details, "message"))
            return reason, Failure(why, worker_of(pod), pod["metadata"]["name"], Remedy.NONE if is_final else remedy)
    return None


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


def last_words(warnings: Mapping[str, Manifest], pod: str) -> str | None:
    """The last of the warnings about a pod, if there is one."""
    about = [each for each in warnings.values() if each["involvedObject"].get("name") == pod]
    return words_of(max(about, key=time_of)) if about else None


def time_of(event: Manifest) -> str:
    """When an event was last seen."""
    return text_of(event, "lastTimestamp") or text_of(event, "eventTime")


def words_of(thing: Manifest) -> str:
    """What Kubernetes says in an event or a condition."""
    return ": ".join(filter(None, (text_of(thing, "reason"), text_of(thing, "message"))))


def text_of(thing: Manifest, key: str) -> str:
    """A field that Kubernetes leaves out, or sends as null, when it is empty."""
    return str(thing.get(key) or "")


def condition_of(thing: Manifest, types: Iterable[str], status: str = "True") -> Manifest | None:
    """A condition of a Job or a pod, the first of these types that has this status."""
    for condition in thing.get("status", {}).get("conditions", []):
        if condition["type"] in types and condition["status"] == status:
            return dict(condition)
    return None
