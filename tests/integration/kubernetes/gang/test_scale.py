"""Many gangs that wait at once."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from kubernetes_asyncio.client.rest import RESTClientObject

from toposieve_airflow.kubernetes.gang.trigger import GangStartTrigger

from ..conftest import Namespace, Run, wait_for

pytestmark = pytest.mark.faults

GANGS, WORKERS = 50, 8
WATCHED_S = 40
BEAT_S = 0.05


def test_fifty_waiting_gangs_cost_few_requests_and_do_not_slow_the_triggerer(
    make_run: Callable[..., Run], namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    triggers = [_waiting(make_run, number) for number in range(GANGS)]
    wait_for(lambda: len(namespace.core.list_namespaced_pod(namespace.name).items) == GANGS * WORKERS)
    asked: list[float] = []
    request = RESTClientObject.request

    async def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(time.monotonic())
        return await request(*arguments, **options)

    monkeypatch.setattr(RESTClientObject, "request", counted)
    used_s = time.process_time()
    delays_s = asyncio.run(_delays(triggers))
    used_s = time.process_time() - used_s
    rate = len(asked) / WATCHED_S
    print(f"{rate:.1f} requests/s, heartbeats at most {delays_s[-1]:.2f} s late, {used_s / WATCHED_S:.0%} of a core")
    namespace.sweep()
    assert rate < 20
    assert delays_s[-3] < 1  # not the longest two: other processes may have had the cores


def _waiting(make_run: Callable[..., Run], number: int) -> GangStartTrigger:
    """The trigger of a gang that no node can take."""
    options = {"deferrable": True, "node_selector": {"no-such": "node"}, "poll_interval": 10}
    run = make_run("", workers=WORKERS, task_id=f"gang_{number}", startup_timeout_seconds=600, **options)
    with pytest.raises(TaskDeferred) as deferred:
        run.operator.execute(run.task.context())
    return deferred.value.trigger


async def _delays(triggers: list[GangStartTrigger]) -> list[float]:
    """Seconds by which heartbeats in the same event loop come late while all triggers look on, in order of size."""
    tasks = [asyncio.ensure_future(anext(trigger.run())) for trigger in triggers]
    end, delays_s = time.monotonic() + WATCHED_S, [0.0]
    while (now := time.monotonic()) < end:
        await asyncio.sleep(BEAT_S)
        delays_s.append(time.monotonic() - now - BEAT_S)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(delays_s)
