"""What ends a gang without any harm to the cluster: each leaves a plain reason and nothing else."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from kubernetes import client

from support.cluster import CONTAINER_SECURITY, OURS, pod_spec
from support.kubernetes_gangs import workers_heard
from toposieve_airflow.kubernetes.api import watching
from toposieve_airflow.kubernetes.gang.supervision import Supervision
from toposieve_airflow.kubernetes.teardown import RunTeardownOperator

from ..conftest import IMAGE, Namespace, Run, fired, unauthorized, wait_for, worker_pod

WAIT = "import signal, sys; signal.signal(15, lambda *_: sys.exit(143)); print('up'); signal.pause()"
STEPS = 20
COUNT = f"import time\nfor i in range({STEPS}):\n    print('step', i)\n    time.sleep(.5)"
"""Time enough for what a test does meanwhile, on a busy machine too."""

FIRST_WAITS = "import os, time; print('up'); 'r2-0' in os.environ['TF_CONFIG'] or time.sleep(600)"
"""Ends when it is the second gang of its try."""

ONE_FAILS = """
import json, os, signal, sys
signal.signal(15, lambda *_: sys.exit(143))
print('up')
if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 1:
    {how}
signal.pause()
"""


def goes_on(run: Run, why: str) -> None:
    """Check that a gang of :data:`FIRST_WAITS` has lost its place, and that a new one has gone on in the same try."""
    assert run.error is None
    assert any(why in line and "costs no try" in line for line in run.lines), run.lines
    assert run.deferrals == 1


def failed(run: Run, *, retry: bool) -> str:
    """The error of a task that has failed, and may or may not be tried again."""
    assert isinstance(run.error, AirflowException), run.error
    assert isinstance(run.error, AirflowFailException) is not retry, run.error
    return str(run.error)


def test_a_killed_worker_ends_the_gang_with_its_last_words(make_run) -> None:
    # Linux keeps a container's first process from killing itself: a shell reports the death of its child in its place.
    shell = ["sh", "-c", 'python3 -u -c "$0"; exit $?']
    text = ONE_FAILS.format(how="print('last words'); os.kill(os.getpid(), signal.SIGKILL)")
    run = make_run(text, workers=3, cmds=shell).start().finish()
    assert "worker 1 failed with exit code 137 (ended by signal 9): up\nlast words" in failed(run, retry=True)


def test_exit_code_2_is_not_retried_and_says_the_jobs_own_error(make_run) -> None:
    run = make_run(ONE_FAILS.format(how="print('error: no such dataset'); sys.exit(2)")).start().finish()
    assert failed(run, retry=False).startswith("worker 1 failed with exit code 2: no such dataset")


def test_a_deleted_worker_ends_the_gang(make_run, namespace: Namespace) -> None:
    run = make_run(WAIT).start()
    name = namespace.pod(1).metadata.name
    run.wait_for_line("[worker 1] up")
    namespace.core.delete_namespaced_pod(name, namespace.name)
    assert "worker 1 was deleted" in failed(run.finish(), retry=True)


def test_the_chief_evicted(make_run, namespace: Namespace) -> None:
    run = make_run(FIRST_WAITS).start()
    name = namespace.pod(0).metadata.name
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace.name))
    namespace.core.create_namespaced_pod_eviction(name, namespace.name, eviction)
    goes_on(run.finish(), "worker 0 was evicted")


def test_a_node_that_is_drained(make_run, namespace: Namespace) -> None:
    run = make_run(FIRST_WAITS).start()
    run.wait_for_line("[worker 1] up")
    node = namespace.pod(1).spec.node_name
    with cordoned(namespace, node):
        for pod in namespace.core.list_namespaced_pod(namespace.name, field_selector=f"spec.nodeName={node}").items:
            eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name, namespace=namespace.name))
            namespace.core.create_namespaced_pod_eviction(pod.metadata.name, namespace.name, eviction)
        goes_on(run.finish(), "was evicted")
    (second,) = [i for i, line in enumerate(run.lines) if "r2: 2 workers in namespace" in line]
    assert sum("started on" in line for line in run.lines[second:]) == 2
    assert not any(f"started on {node}" in line for line in run.lines[second:])


@contextmanager
def cordoned(namespace: Namespace, node: str) -> Iterator[None]:
    """A node that takes no pods while the block lasts."""
    namespace.core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        yield
    finally:
        namespace.core.patch_node(node, {"spec": {"unschedulable": None}})


def test_a_cluster_that_is_full_for_longer_than_a_gang_may_take_to_start(
    make_run, namespace: Namespace, slots: str
) -> None:
    command = ["sleep", "600"]
    spec = pod_spec(IMAGE, command=command, resources={"limits": {slots: "2"}})
    spec["terminationGracePeriodSeconds"] = 0
    namespace.core.create_namespaced_pod(namespace.name, {"metadata": {"name": "full"}, "spec": spec})
    namespace.wait_until_running("full")
    limits = {"startup_timeout_seconds": 3, "execution_timeout": timedelta(seconds=5)}
    run = make_run("print('up')", container_resources=client.V1ResourceRequirements(limits={slots: "1"}), **limits)
    run.start()
    wait_for(lambda: run.deferrals >= 3)
    namespace.core.delete_namespaced_pod("full", namespace.name)
    assert run.finish().error is None
    assert run.worker_lines(1)[-1] == "up"
    assert any("only 0 of 2 workers started within" in line for line in run.lines)


def test_a_worker_over_its_memory_limit(make_run) -> None:
    limit = client.V1ResourceRequirements(limits={"memory": "48Mi"})
    text = ONE_FAILS.format(how="hoard = [bytes(range(256)) * 4096 for _ in range(999)]")
    run = make_run(text, container_resources=limit).start().finish()
    assert "worker 1 was killed because it used more memory than its limit of 48Mi" in failed(run, retry=True)


def test_a_gang_that_no_node_can_take_says_so_and_gives_up(make_run) -> None:
    limits = {"startup_timeout_seconds": 3, "waiting_timeout": timedelta(seconds=6)}
    run = make_run(WAIT, node_selector={"no-such": "node"}, **limits).start().finish()
    error = failed(run, retry=False)
    assert run.deferrals >= 1
    assert "only 0 of 2 workers started" in error
    assert "no node can take it" in error
    assert any(line.startswith("workers 0, 1: no node can take it") for line in run.lines)


def test_an_image_that_does_not_exist(make_run) -> None:
    options = {"image_pull_policy": "Never", "broken_timeout_seconds": 3}
    run = make_run(WAIT, image="localhost/no-such-image:1", **options).start().finish()
    assert "its image is not on the node" in failed(run, retry=False)


def test_a_registry_that_does_not_answer(make_run) -> None:
    limits = {"broken_timeout_seconds": 1, "startup_timeout_seconds": 3, "waiting_timeout": timedelta(seconds=6)}
    run = make_run(WAIT, image="localhost:9/image:1", **limits).start().finish()
    assert "a gang may wait for 0:00:06" in failed(run, retry=False)
    assert any("its image cannot be pulled" in line and "costs no try" in line for line in run.lines)
    assert run.deferrals >= 1


def test_an_image_name_that_is_not_valid(make_run) -> None:
    run = make_run(WAIT, image="localhost/No Such:1").start().finish()
    assert "the name of its image is not valid" in failed(run, retry=False)


def test_a_command_that_is_not_in_the_image(make_run) -> None:
    run = make_run(WAIT, cmds=["no-such-command"]).start().finish()
    assert "could not be started" in failed(run, retry=False)


def test_pods_against_the_namespaces_security_level(make_run) -> None:
    run = make_run(WAIT, security_context={"runAsNonRoot": False, "runAsUser": 0}).start().finish()
    assert "violates PodSecurity" in failed(run, retry=False)


def test_a_service_account_that_does_not_exist(make_run) -> None:
    run = make_run(WAIT, service_account_name="no-such", broken_timeout_seconds=3).start().finish()
    assert 'serviceaccount "no-such" not found' in failed(run, retry=False)


def test_an_init_container_that_fails(make_run) -> None:
    command = ["sh", "-c", "echo no such bucket; exit 3"]
    pod = worker_pod()
    pod["spec"]["initContainers"] = [
        {"name": "fetch", "image": IMAGE, "command": command, "securityContext": CONTAINER_SECURITY}
    ]
    run = make_run(WAIT, pod_template_dict=pod).start().finish()
    assert "failed with exit code 3 in its container fetch: no such bucket" in failed(run, retry=True)


def test_a_side_car_that_runs_on_does_not_keep_the_task_from_ending(make_run) -> None:
    side_car = {"name": "side-car", "image": IMAGE, "command": ["sleep", "600"], "securityContext": CONTAINER_SECURITY}
    pod = worker_pod()
    pod["spec"]["containers"].append(side_car)
    run = make_run("print('up')", pod_template_dict=pod)
    assert run.start().finish().error is None
    assert run.worker_lines(0) == run.worker_lines(1) == ["up"]


def test_a_manifest_that_kubernetes_refuses(make_run) -> None:
    run = make_run(WAIT, node_selector={"not a key!": "x"}).start().finish()
    assert "Kubernetes refuses (HTTP 422)" in failed(run, retry=False)


def test_a_namespace_that_does_not_exist(make_run) -> None:
    run = make_run(WAIT, namespace="no-such-namespace").start().finish()
    assert '"no-such-namespace" not found' in failed(run, retry=False)


@pytest.mark.parametrize("start_s", [60, 0])
def test_the_run_limit_is_kept_by_the_task_and_later_by_kubernetes(
    make_run, monkeypatch: pytest.MonkeyPatch, start_s: int
) -> None:
    run = make_run(WAIT, active_deadline_seconds=4, startup_timeout_seconds=60)
    made = run.operator.pod_and_gang
    run.operator.pod_and_gang = lambda context: (made(context)[0], replace(made(context)[1], start_limit_s=start_s))
    if not start_s:
        monkeypatch.setattr(Supervision, "_runs_too_long", lambda self: None)
    assert "ran longer than its limit" in failed(run.start().finish(), retry=True)


def test_a_quota_that_leaves_room_for_one_worker(make_run, namespace: Namespace) -> None:
    quota = {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "1"}}}
    namespace.core.create_namespaced_resource_quota(namespace.name, quota)
    try:
        wait_for(lambda: namespace.core.read_namespaced_resource_quota("small", namespace.name).status.hard)
        limits = {"startup_timeout_seconds": 8, "waiting_timeout": timedelta(seconds=1)}
        run = make_run(WAIT, **limits).start().finish()
    finally:
        namespace.core.delete_namespaced_resource_quota("small", namespace.name)
    error = failed(run, retry=False)
    assert " of 2 workers started" in error
    assert "the namespace's quota leaves no room: exceeded quota: small" in error


@pytest.mark.parametrize("text", ["import time; time.sleep(600)", WAIT])
def test_a_killed_task_leaves_nothing_within_five_seconds(make_run, namespace: Namespace, text: str) -> None:
    """In one of three tries: the machine may be busy."""

    def seconds_to_end(try_number: int) -> float:
        run = make_run(text, try_number=try_number).start()
        namespace.pod(0)
        namespace.pod(1)
        begin = time.monotonic()
        run.operator.on_kill()
        assert "ended from outside" in failed(run.finish(), retry=True)
        namespace.check_empty()
        return run.ended_at - begin

    assert any(seconds_to_end(try_number) < 5 for try_number in (1, 2, 3))


def test_what_an_earlier_try_left_is_removed_first(make_run, namespace: Namespace) -> None:
    left = make_run("print('old'); import time; time.sleep(600)", mortal=True)
    left.start()
    namespace.pod(0)
    left.die()
    run = make_run("print('new')", try_number=2).start().finish()
    assert run.error is None
    assert any("removing what is left of an earlier try" in line for line in run.lines)
    assert run.worker_lines(0) == ["new"]


def test_a_gang_whose_process_died_is_taken_over(make_run, namespace: Namespace) -> None:
    first = make_run(COUNT, mortal=True)
    first.start().wait_for_line("[worker 1] step 2")
    uid = namespace.pod(0).metadata.uid
    first.die()
    second = make_run(COUNT, try_number=2).start()
    assert namespace.pod(0).metadata.uid == uid
    assert second.finish().error is None
    for worker in range(2):
        assert second.worker_lines(worker) == [f"step {i}" for i in range(STEPS)]


def test_credentials_that_lapse_for_a_while_cost_a_running_gang_nothing(
    make_run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WATCH_S", 1)  # what is open already is not refused
    run = make_run(COUNT).start()
    run.wait_for_line("[worker 1] step 1")
    with unauthorized():
        run.wait_for_line("trying again: HTTP 401")
    assert run.finish().error is None
    for worker in range(2):
        assert run.worker_lines(worker) == [f"step {i}" for i in range(STEPS)]


@pytest.mark.parametrize("state", ["running", "up_for_retry"])
def test_a_gang_whose_process_is_killed_for_no_reason_of_its_own_is_taken_over(make_run, state: str) -> None:
    first = make_run(COUNT)
    first.task.state = state
    first.start().wait_for_line("[worker 1] step 2")
    first.operator.on_kill()
    assert "ended from outside" in failed(first.finish(), retry=True)
    second = make_run(COUNT, try_number=2).start().finish()
    assert second.error is None
    assert second.worker_lines(1) == [f"step {i}" for i in range(STEPS)]


def test_a_try_that_airflow_has_given_up_does_not_take_the_next_ones_gang_along(make_run) -> None:
    first = make_run(COUNT).start()
    first.wait_for_line("[worker 1] step 2")
    second = make_run(COUNT, try_number=2).start()
    second.wait_for_line("[worker 1] step 2")
    first.operator.on_kill()
    assert "ended from outside" in failed(first.finish(), retry=True)
    assert second.finish().error is None
    for worker in range(2):
        assert second.worker_lines(worker) == [f"step {i}" for i in range(STEPS)]


def test_a_job_of_the_same_name_that_is_another_tasks_stays(make_run, namespace: Namespace) -> None:
    other = make_run(WAIT, mortal=True)
    other.task.airflow = "another"
    other.start()
    uid = namespace.pod(0).metadata.uid
    other.die()
    assert "is there already and is another task's" in failed(make_run(WAIT).start().finish(), retry=False)
    assert namespace.pod(0).metadata.uid == uid
    namespace.sweep()


def test_a_queued_gang_starts_when_it_is_admitted(make_run, namespace: Namespace) -> None:
    run = make_run("print('up')", gang_queue="training", startup_timeout_seconds=30).start()
    run.wait_for_line("the gang waits for its queue to admit it")
    assert namespace.names("job", "kueue.x-k8s.io/queue-name=training")
    assert not namespace.names("pod")
    admit(namespace)
    assert run.finish().error is None
    assert run.worker_lines(1) == ["up"]


def test_the_teardown_task_removes_what_a_run_has_left_of_its_own_airflow(make_run, namespace: Namespace) -> None:
    run = make_run(WAIT, mortal=True, instance="ours")
    run.start()
    namespace.pod(1)
    run.die()
    left = namespace.names("job", OURS)
    for instance, remains in (("theirs", left), ("ours", [])):
        teardown = RunTeardownOperator(task_id="clean_up", namespace=namespace.name, instance=instance)
        teardown.execute(run.task.context())
        assert namespace.names("job", OURS) == remains
    namespace.check_empty()


def test_two_airflows_run_the_same_task_side_by_side(make_run) -> None:
    runs = [make_run(f"print('{name}')", instance=name).start() for name in ("ours", "theirs")]
    for run, name in zip(runs, ("ours", "theirs"), strict=True):
        assert run.finish().error is None
        assert run.worker_lines(1) == [name]


def test_a_gang_that_waits_in_a_queue_takes_no_slot_of_airflow(make_run, namespace: Namespace) -> None:
    run = make_run("print('up')", gang_queue="training", deferrable=True, poll_interval=0.5)
    with pytest.raises(TaskDeferred) as deferred:
        run.operator.execute(run.task.context())
    (job,) = namespace.names("job", OURS)
    path, _ = deferred.value.trigger.serialize()
    assert path.endswith(".GangStartTrigger")
    admit(namespace)
    event = fired(deferred.value.trigger)
    assert event == {"gang": job, "in_time": True}
    with workers_heard(run.operator.log):
        getattr(run.operator, deferred.value.method_name)(run.task.context(), event, **deferred.value.kwargs)
    assert run.worker_lines(0) == run.worker_lines(1) == ["up"]


def admit(namespace: Namespace, suspend: bool = False) -> None:
    """Do with the only Job what Kueue would."""
    (job,) = namespace.names("job", OURS)
    namespace.batch.patch_namespaced_job(job, namespace.name, {"spec": {"suspend": suspend}})


def test_a_gang_that_waits_too_long_in_a_queue(make_run) -> None:
    run = make_run("print('up')", gang_queue="training", waiting_timeout=timedelta(seconds=1))
    error = failed(run.start().finish(), retry=False)
    assert error == "it waits for its queue; a gang may wait for 0:00:01 and no longer"


@pytest.mark.parametrize("how", ["", "import signal, sys; signal.signal(15, lambda *_: sys.exit(143))\n"])
def test_a_gang_that_its_queue_suspends_thrice_keeps_its_place_and_goes_on(
    make_run, namespace: Namespace, how: str
) -> None:
    run = make_run(how + COUNT, gang_queue="training").start()
    wait_for(lambda: run.deferrals == 1)
    jobs = namespace.names("job", OURS)
    for suspended in range(1, 4):
        admit(namespace)
        wait_for(lambda count=suspended: run.worker_lines(1).count("step 2") == count)
        admit(namespace, suspend=True)
        wait_for(lambda count=suspended: run.deferrals == count + 1)
        wait_for(lambda: not namespace.batch.read_namespaced_job(jobs[0], namespace.name).status.active)
    assert namespace.names("job", OURS) == jobs
    admit(namespace)
    assert run.finish().error is None
    for worker in range(2):
        assert run.worker_lines(worker)[-STEPS:] == [f"step {i}" for i in range(STEPS)]
    assert sum("its queue has suspended it again" in line for line in run.lines) == 3


def test_a_task_killed_while_its_gang_waits(make_run, namespace: Namespace) -> None:
    run = make_run("print('up')", gang_queue="training", deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        run.operator.execute(run.task.context())
    asyncio.run(deferred.value.trigger.on_kill())
    wait_for(lambda: not namespace.objects())
