"""What goes wrong with the cluster itself. The command in TOPOSIEVE_TEST_FAULTS does it; `.ci/cluster-fault` is one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes.client import SchedulingV1Api, V1ResourceRequirements

from support.cluster import pod_spec

from ..conftest import IMAGE, Namespace, Run, fault
from .test_failures import FIRST_WAITS, ONE_FAILS, failed, goes_on

pytestmark = pytest.mark.faults

COUNT = "import time\nfor i in range({steps}):\n    print('step', i)\n    time.sleep(.1)"
STUBBORN = "import time; print('up'); time.sleep(600)"


@pytest.fixture
def urgent(namespace: Namespace, slots: str) -> Iterator[dict[str, Any]]:
    """A pod of high priority that needs what two workers with ``resources`` leave no room for; ``start`` makes it."""
    scheduling, name = SchedulingV1Api(namespace.core.api_client), f"{namespace.name}-urgent"
    scheduling.create_priority_class({"metadata": {"name": name}, "value": 1000})
    resources = V1ResourceRequirements(limits={slots: "1"})
    # What the operator makes, as one plain pod.
    spec = pod_spec(IMAGE, command=["sleep", "15"], resources={"limits": {slots: "1"}})
    spec |= {"priorityClassName": name, "restartPolicy": "Never"}
    pod = {"metadata": {"name": "urgent"}, "spec": spec}
    yield {"resources": resources, "start": lambda: namespace.core.create_namespaced_pod(namespace.name, pod)}
    namespace.core.delete_namespaced_pod("urgent", namespace.name, grace_period_seconds=0)
    scheduling.delete_priority_class(name)


def test_a_node_that_is_cut_off(make_run: Callable[..., Run], namespace: Namespace) -> None:
    run = make_run(FIRST_WAITS).start()
    nodes = {worker: namespace.pod(worker).spec.node_name for worker in range(2)}
    assert nodes[0] != nodes[1], "the workers are to be spread over nodes"
    run.wait_for_line("[worker 1] up")
    with fault(("cut-node", nodes[1]), ("heal-node", nodes[1])):
        goes_on(run.finish(), "worker 1 was lost with its node")
        namespace.check_empty()
    namespace.wait_until_ready(nodes[1])


def test_an_api_server_that_restarts_costs_no_line(make_run: Callable[..., Run]) -> None:
    run = make_run(COUNT.format(steps=400)).start()
    run.wait_for_line("[worker 1] step 30")
    with fault(("stop-api",), ("start-api",)):
        time.sleep(3)
    assert run.finish().error is None
    for worker in range(2):
        assert run.worker_lines(worker) == [f"step {i}" for i in range(400)]
    assert any("the API server answers again" in line for line in run.lines)


def test_an_api_server_that_is_away_while_a_worker_fails(make_run: Callable[..., Run], namespace: Namespace) -> None:
    run = make_run(ONE_FAILS.format(how="import time; time.sleep(4); sys.exit(1)")).start()
    run.wait_for_line("[worker 1] up")
    with fault(("stop-api",), ("start-api",)):
        time.sleep(5)
    assert "worker 1 failed with exit code 1" in failed(run.finish(), retry=True)
    namespace.check_empty(60)  # Kubernetes' own controllers come back late


def test_a_worker_preempted_by_a_pod_of_higher_priority(make_run: Callable[..., Run], urgent: dict[str, Any]) -> None:
    run = make_run(FIRST_WAITS, container_resources=urgent["resources"]).start()
    run.wait_for_line("[worker 0] up")
    run.wait_for_line("[worker 1] up")
    urgent["start"]()
    goes_on(run.finish(), "was preempted by a pod of higher priority")


def test_a_worker_that_ignores_sigterm_does_not_delay_the_end(
    make_run: Callable[..., Run], namespace: Namespace
) -> None:
    run = make_run(STUBBORN, workers=3).start()
    run.wait_for_line("[worker 2] up")
    begin = time.monotonic()
    namespace.core.delete_namespaced_pod(namespace.pod(2).metadata.name, namespace.name)
    assert "worker 2 was deleted" in failed(run.finish(), retry=True)
    assert run.ended_at - begin < 15
