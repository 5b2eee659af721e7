from typing import Any

import pytest

from support.kubernetes_gangs import GANG, condition, job, pod, running, terminated, waiting, warning
from toposieve_airflow.kubernetes.api.ownership import DIGEST_LABEL
from toposieve_airflow.kubernetes.api.pod_state import Remedy, last_words
from toposieve_airflow.kubernetes.gang.diagnosis import (
    State,
    broken_pods,
    failure_of,
    is_complete,
    may_be_adopted,
    pending_reasons,
    refusal_of,
)

COMPLETE = condition("Complete")
FAILED = condition("FailureTarget", "PodFailurePolicy", "Container base for pod ns/train-0a1b2c3d-1-1-abcde failed")


def state(*pods: dict[str, Any], of: dict[str, Any] | None = None, warnings: tuple[dict[str, Any], ...] = ()) -> State:
    return State(
        job() if of is None else of,
        {each["metadata"]["name"]: each for each in pods},
        {each["metadata"]["name"]: each for each in warnings},
    )


def why(*pods: dict[str, Any], **options: Any) -> str:
    failure = failure_of(state(*pods, **options), "base")
    assert failure is not None
    return f"{failure.worker}: {failure.why}"


def test_healthy_gangs_have_not_failed() -> None:
    assert failure_of(State(), "base") is None
    assert failure_of(state(pod(0, running()), pod(1)), "base") is None
    assert failure_of(state(pod(0, terminated(0)), pod(1, running())), "base") is None
    assert failure_of(state(of=job(COMPLETE)), "base") is None
    assert is_complete(job(COMPLETE))
    assert not is_complete(job(FAILED))


def test_the_first_to_end_is_at_fault() -> None:
    early, late = terminated(1, "2026-01-01T00:00:01Z"), terminated(1, "2026-01-01T00:00:02Z")
    assert why(pod(0, late), pod(1, early)).startswith("1: failed with exit code 1")


def test_a_worker_that_names_its_own_fault_comes_first_and_is_not_retried() -> None:
    pods = [pod(0, terminated(1, "2026-01-01T00:00:01Z")), pod(1, terminated(2, "2026-01-01T00:00:02Z"))]
    failure = failure_of(state(*pods), "base")
    assert failure is not None
    assert (failure.worker, failure.may_retry) == (1, False)


def test_those_that_the_job_deletes_after_a_failure_are_not_at_fault() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:13Z", "deletionGracePeriodSeconds": 3}
    assert why(pod(0, running(), **deleted), pod(1, terminated(1))).startswith("1: failed")


def test_a_deleted_worker_comes_before_those_that_lost_it() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:13Z", "deletionGracePeriodSeconds": 5}
    assert why(pod(0, running(), **deleted), pod(1, terminated(1))) == "0: was deleted"


def test_a_worker_that_ended_well_has_not_failed_whatever_becomes_of_its_pod() -> None:
    disrupted, deleted = condition("DisruptionTarget"), {"deletionTimestamp": "2026-01-01T00:00:13Z"}
    swept = pod(0, terminated(0), disrupted, phase="Succeeded", **deleted)
    assert failure_of(state(swept, pod(1, running())), "base") is None


def test_a_killed_worker_comes_before_those_that_lost_it_in_the_same_second() -> None:
    assert why(pod(0, terminated(1)), pod(1, terminated(137))).startswith("1: failed with exit code 137")
    deleted = {"deletionTimestamp": "2026-01-01T00:00:13Z", "deletionGracePeriodSeconds": 3}
    assert why(pod(0, terminated(1)), pod(1, terminated(137), **deleted)).startswith("1: failed with exit code 137")


@pytest.mark.parametrize(
    ("code", "at", "words"),
    [(1, "09", "1: failed with exit code 1"), (1, "10", "1: was deleted"), (137, "13", "1: was deleted")],
)
def test_only_who_failed_before_it_was_deleted_failed_by_itself(code: int, at: str, words: str) -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:13Z", "deletionGracePeriodSeconds": 3}
    assert why(pod(0, running()), pod(1, terminated(code, f"2026-01-01T00:00:{at}Z"), **deleted)) == words


def test_of_two_in_the_same_second_the_one_seen_first_stays_at_fault() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:13Z", "deletionGracePeriodSeconds": 3}
    both = state(pod(0, terminated(1)), pod(1, running(), **deleted))
    for suspect in (0, 1):
        failure = failure_of(both, "base", suspect=f"{GANG}-{suspect}-abcde")
        assert failure is not None
        assert failure.worker == suspect


def test_signals_and_memory_are_named() -> None:
    assert why(pod(0, terminated(137))) == "0: failed with exit code 137 (ended by signal 9)"
    assert "more memory than its limit of 64Mi" in why(pod(0, terminated(137, reason="OOMKilled")))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("EvictionByEvictionAPI", "was evicted"),
        ("PreemptionByScheduler", "was preempted"),
        ("DeletionByTaintManager", "was lost with its node"),
        ("SomethingNew", "was disrupted (SomethingNew)"),
    ],
)
def test_disruptions_are_named_although_the_pod_still_runs(reason: str, words: str) -> None:
    assert why(pod(1, running(), condition("DisruptionTarget", reason))).startswith(f"1: {words}")


def test_a_job_that_is_gone_or_over_its_limit_has_failed() -> None:
    assert why(of={}) == "None: its Job was deleted"
    assert why(of=job(deletionTimestamp="2026-01-01T00:00:00Z")) == "None: its Job was deleted"
    assert why(of=job(condition("FailureTarget", "DeadlineExceeded"))) == "None: it ran longer than its limit"
    assert why(of=job(FAILED)).startswith("1: PodFailurePolicy: Container base")


def test_a_queue_that_takes_its_place_back_is_no_failure() -> None:
    deleted = pod(0, running(), deletionTimestamp="2026-01-01T00:00:00Z")
    for suspended in (job(suspend=True), job(condition("Suspended"))):
        assert failure_of(state(deleted, of=suspended), "base") is None
    assert why(deleted, of=job(FAILED, suspend=True)) == "0: was deleted"


def of_kubelet(reason: str, message: str = "") -> dict[str, Any]:
    """A pod that its node has not taken, or has ended."""
    refused = pod(1, None, phase="Failed")
    return {**refused, "status": {**refused["status"], "reason": reason, "message": message}}


FAULTS: list[tuple[Remedy, dict[str, Any] | None, dict[str, str] | None]] = [
    # What helps, a worker's pod, a condition of the Job.
    *(
        (Remedy.WAIT, pod(1, running(), condition("DisruptionTarget", reason)), None)
        for reason in (
            "PreemptionByScheduler",
            "EvictionByEvictionAPI",
            "DeletionByTaintManager",
            "DeletionByPodGC",
            "TerminationByKubelet",
            "SomethingNew",
        )
    ),
    (Remedy.WAIT, pod(1, terminated(143), condition("DisruptionTarget", "EvictionByEvictionAPI")), None),
    (Remedy.WAIT, None, condition("FailureTarget", "PodFailurePolicy", "Pod a/b-1-c has condition DisruptionTarget m")),
    *(
        (Remedy.WAIT, of_kubelet(reason), None)
        for reason in (
            *("OutOfcpu", "OutOfmemory", "OutOfnvidia.com/gpu", "UnexpectedAdmissionError", "NodeAffinity"),
            *("NodeShutdown", "Terminated", "Preempting", "NodeLost"),
        )
    ),
    (
        Remedy.RETRY,
        of_kubelet("Evicted", "Pod ephemeral local storage usage exceeds the total limit"),
        None,
    ),
    (Remedy.RETRY, of_kubelet("SomethingNew"), None),
    (Remedy.RETRY, pod(1, terminated(1)), None),
    (Remedy.RETRY, pod(1, terminated(137)), None),
    (Remedy.RETRY, pod(1, terminated(137, reason="OOMKilled")), None),
    (Remedy.RETRY, pod(1, running(), deletionTimestamp="2026-01-01T00:00:00Z"), None),
    (Remedy.RETRY, None, condition("FailureTarget", "DeadlineExceeded")),
    (Remedy.RETRY, None, FAILED),
    (Remedy.NONE, pod(1, terminated(2)), None),
    (Remedy.NONE, pod(1, terminated(2), condition("DisruptionTarget", "EvictionByEvictionAPI")), None),
]


@pytest.mark.parametrize(("remedy", "worker", "of"), FAULTS)
def test_what_helps_against_a_failure(remedy: Remedy, worker: dict[str, Any] | None, of: dict[str, str] | None) -> None:
    workers = [pod(0, running())] + ([worker] if worker else [])
    failure = failure_of(state(*workers, of=job(*([of] if of else []))), "base")
    assert failure is not None
    assert failure.remedy is remedy


def test_a_worker_that_the_cluster_ends_comes_before_its_peers_in_the_same_second() -> None:
    evicted = pod(1, running(), condition("DisruptionTarget", "EvictionByEvictionAPI"))
    assert why(pod(0, terminated(1)), evicted) == "1: was evicted"


@pytest.mark.parametrize(
    ("message", "may_retry"),
    [("exec: no such file", False), ("failed to create shim task: context deadline exceeded", True)],
)
def test_a_command_that_is_not_in_the_image_is_not_retried(message: str, may_retry: bool) -> None:
    ended = terminated(128, reason="StartError")
    ended["terminated"]["message"] = message
    failure = failure_of(state(pod(0, ended)), "base")
    assert failure is not None
    assert (failure.why, failure.may_retry) == (f"could not be started: {message}", may_retry)


def test_an_init_container_that_fails_is_named() -> None:
    failed = pod(0, waiting("PodInitializing"), phase="Failed", init={"first": terminated(0), "fetch": terminated(2)})
    failure = failure_of(state(failed), "base")
    assert failure is not None
    assert (failure.why, failure.may_retry) == ("failed with exit code 2 in its container fetch", False)


def test_an_init_container_that_has_not_failed_the_pod_is_no_failure() -> None:
    assert failure_of(state(pod(0, running(), init={"side": terminated(1)})), "base") is None


def test_an_init_container_without_an_image_holds_the_worker_up() -> None:
    held_up = state(pod(0, waiting("PodInitializing"), init={"fetch": waiting("ErrImagePull", "not found")}))
    assert [reason for reason, _ in broken_pods(held_up, "base").values()] == ["ErrImagePull"]
    assert pending_reasons(held_up, "base") == {"its image cannot be pulled: not found": [0]}


def test_pending_reasons_are_plain_and_name_the_workers() -> None:
    unschedulable = condition("PodScheduled", "Unschedulable", "0/2 nodes are available", "False")
    reasons = pending_reasons(
        state(
            pod(0, None, unschedulable), pod(1, None, unschedulable), pod(2, waiting("ErrImagePull", "no such host"))
        ),
        "base",
    )
    assert reasons == {
        "no node can take it: 0/2 nodes are available": [0, 1],
        "its image cannot be pulled: no such host": [2],
    }


def test_pods_that_cannot_be_made_are_reported_once() -> None:
    refused = (
        'Error creating: pods "{}" is forbidden: exceeded quota: gpu, requested: pods=1, used: pods=4, limited: pods=4'
    )
    warnings = tuple(
        warning(GANG, "FailedCreate", refused.format(f"{GANG}-0-{end}"), "Job") for end in ("abcde", "fghij")
    )
    for index, each in enumerate(warnings):
        each["metadata"]["name"] = f"event-{index}"
    (text,) = pending_reasons(state(warnings=warnings), "base")
    assert text.startswith("the namespace's quota leaves no room: exceeded quota: gpu")
    assert refusal_of(state(warnings=warnings)) is None


def test_pods_against_the_namespaces_security_level_are_never_made() -> None:
    text = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    refusal = refusal_of(state(warnings=(warning(GANG, "FailedCreate", text, "Job"),)))
    assert refusal is not None
    kind, failure = refusal
    assert (kind, failure.may_retry) == ("PodSecurity", False)


@pytest.mark.parametrize(
    ("message", "is_refused"),
    [
        ('pods "x-" is forbidden: error looking up service account ns/sa: serviceaccount "sa" not found', True),
        ('pods "x-" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi', True),
        ('admission webhook "policy.example" denied the request: no team label', True),
        ('Internal error occurred: failed calling webhook "policy.example": connection refused', False),
        ('pods "x-" is forbidden: exceeded quota: small, requested: pods=1', False),
    ],
)
def test_rules_against_a_pod_are_told_from_passing_troubles(message: str, is_refused: bool) -> None:
    for start in ("", "(combined from similar events): "):
        told = warning(GANG, "FailedCreate", f"{start}Error creating: {message}", "Job")
        refusal = refusal_of(state(warnings=(told,)))
        assert (refusal is not None) is is_refused
        assert (refusal is None) or message.endswith(refusal[1].why.removeprefix("Kubernetes refuses its pods: "))


def test_only_the_last_refusal_counts() -> None:
    first = warning(GANG, "FailedCreate", 'pods "x-" is forbidden: serviceaccount "sa" not found', "Job")
    first["metadata"]["name"], first["lastTimestamp"] = "first", "2025-01-01T00:00:00Z"
    then = warning(GANG, "FailedCreate", 'pods "x-" is forbidden: exceeded quota: small', "Job")
    assert refusal_of(state(warnings=(then, first))) is None


def test_a_gang_in_a_queue_waits_as_a_whole() -> None:
    assert pending_reasons(state(of=job(suspend=True)), "base") == {"the gang waits for its queue to admit it": []}


def test_what_kubernetes_says_last_about_a_waiting_pod() -> None:
    mount = warning(f"{GANG}-0-abcde", "FailedMount", "no such volume")
    assert pending_reasons(state(pod(0), warnings=(mount,)), "base") == {"FailedMount: no such volume": [0]}
    assert last_words({"event": mount}, f"{GANG}-0-abcde") == "FailedMount: no such volume"
    assert last_words({}, f"{GANG}-0-abcde") is None


@pytest.mark.parametrize("kind", ["Pod", "Job"])
def test_what_kubernetes_leaves_out_does_no_harm(kind: str) -> None:
    name = GANG if kind == "Job" else f"{GANG}-0-abcde"
    bare = {"metadata": {"name": "event"}, "involvedObject": {"kind": kind, "name": name}, "reason": "FailedCreate"}
    silent = {"metadata": {"name": "silent"}, "involvedObject": {}, "message": None}
    known = state(pod(0), warnings=(bare, silent))
    assert [*pending_reasons(known, "base").values()] == [[0] if kind == "Pod" else []]
    assert last_words(known.warnings, name) == "FailedCreate"


def test_ends_without_a_time_or_a_reason_are_failures_all_the_same() -> None:
    ended = {"terminated": {"exitCode": 1, "finishedAt": None}}
    assert why(pod(0, ended)) == "0: failed with exit code 1"
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    assert why(pod(0, running(), disrupted)) == "0: was disrupted ()"


def test_broken_images_are_told_from_slow_ones() -> None:
    pods = [pod(0, waiting("ContainerCreating")), pod(1, waiting("InvalidImageName", "bad name"))]
    ((reason, failure),) = broken_pods(state(*pods), "base").values()
    assert (reason, failure.worker, failure.may_retry) == ("InvalidImageName", 1, False)


@pytest.mark.parametrize(
    ("reason", "message", "remedy"),
    [
        ("InvalidImageName", "bad name", Remedy.NONE),
        ("ErrImageNeverPull", "not there", Remedy.NONE),
        ("ErrImagePull", "failed to resolve reference localhost/a:1: localhost/a:1: not found", Remedy.NONE),
        ("ImagePullBackOff", "pull access denied, repository does not exist or may require authorization", Remedy.NONE),
        ("ImagePullBackOff", "dial tcp 10.0.0.1:443: connect: connection refused", Remedy.WAIT),
        ("ErrImagePull", "429 Too Many Requests - toomanyrequests: You have reached your pull rate limit", Remedy.WAIT),
        ("RegistryUnavailable", "no answer", Remedy.WAIT),
        ("CreateContainerError", "context deadline exceeded", Remedy.RETRY),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root", Remedy.NONE),
    ],
)
def test_what_helps_against_a_container_that_does_not_start(reason: str, message: str, remedy: Remedy) -> None:
    ((_, failure),) = broken_pods(state(pod(0, waiting(reason, message))), "base").values()
    assert failure.remedy is remedy


@pytest.mark.parametrize(
    ("left", "adopted"),
    [
        (job(labels={DIGEST_LABEL: "a"}), True),
        (job(COMPLETE, labels={DIGEST_LABEL: "a"}), True),
        (job(labels={DIGEST_LABEL: "b"}), False),
        (job(FAILED, labels={DIGEST_LABEL: "a"}), False),
        (job(labels={DIGEST_LABEL: "a"}, deletionTimestamp="2026-01-01T00:00:00Z"), False),
    ],
)
def test_only_the_same_work_that_has_not_failed_is_taken_over(left: dict[str, Any], adopted: bool) -> None:
    assert may_be_adopted(left, "a") is adopted
