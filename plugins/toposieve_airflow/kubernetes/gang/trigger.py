"""Wait for a gang to start without a worker slot of Airflow: in a queue, or until nodes are free, that may be hours."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from aiohttp import ClientError
from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
from airflow.triggers.base import BaseTrigger, TriggerEvent
from kubernetes_asyncio.client import ApiClient, BatchV1Api, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from toposieve_airflow.kubernetes.api.cluster import CHANGED
from toposieve_airflow.kubernetes.api.ownership import Manifest, deletion_of, owner_of
from toposieve_airflow.kubernetes.api.pod_state import has_started
from toposieve_airflow.kubernetes.api.watching import Objects, Outages, brief
from toposieve_airflow.kubernetes.gang.diagnosis import is_suspended
from toposieve_airflow.kubernetes.gang.feed import News
from toposieve_airflow.kubernetes.gang.manifests import Gang
from toposieve_airflow.kubernetes.gang.supervision import Limits, Supervision

POLL_S = 10.0
"""Seconds between two looks: fifty waiting gangs so cost 10 requests a second."""

FEW = 4
"""Pods whose events are asked for."""

SETTLED_S = 10.0
"""Seconds before which no trigger fires.

Airflow may notice five seconds late, or more when it is busy, that the process which deferred the task has ended. A
task that runs again by then counts as killed, and a try is lost.
"""

_FROM_AFAR = (ApiException, ClientError, OSError)


class GangStartTrigger(BaseTrigger):
    """Fires when every worker of a gang has started, or the gang has failed, is late or has waited for long enough.

    The task then goes on in a worker and finds out which; what the gang waits for is in the log at once.

    Args:
        gang: Fields of the :class:`Gang`.
        limits: Fields of the :class:`Limits`.
        connection: Arguments of the provider's hook.
        poll_s: Seconds between two looks.
    """

    def __init__(
        self, gang: dict[str, Any], limits: dict[str, Any], connection: dict[str, Any], poll_s: float = POLL_S
    ) -> None:
        """Keep what goes through the database."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.gang = gang
        self.limits = limits
        self.connection = connection
        self.poll_s = poll_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where this class is, and its arguments."""
        names = ("gang", "limits", "connection", "poll_s")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again until there is something for the task to do."""
        gang = Gang(**self.gang)
        watched = Supervision(_NoNews(), gang, Limits(**self.limits), self.log.info, lambda _: None)
        hook, outages, begin = self._hook(), Outages(), time.monotonic()
        outages.end()  # the gang was made with these rights
        while not (over := watched.is_over()) and not watched.has_started():
            try:
                await _look(hook, gang, watched)
                outages.end()
            except Exception as error:  # were it raised, nobody would see to the gang: Airflow fails the task unheard
                if not (isinstance(error, _FROM_AFAR) and outages.passes(error)):
                    self.log.exception("cannot look at the gang; the task goes on without a trigger")
                    break
                self.log.warning("the API server does not answer, trying again: %s", brief(error))
            if not watched.has_started():
                await asyncio.sleep(self.poll_s)
        await asyncio.sleep(begin + SETTLED_S - time.monotonic())
        yield TriggerEvent({"gang": gang.name, "in_time": not over})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Delete the Job, if it is still this try's: somebody has ended or cleared the task while it waited."""
        gang = Gang(**self.gang)
        async with self._hook().get_conn() as client:
            batch = BatchV1Api(client)
            while job := await _own_job(batch, gang):
                try:
                    await _answer(batch.delete_namespaced_job, gang.name, gang.namespace, body=deletion_of(job))
                except ApiException as error:
                    if error.status not in CHANGED:
                        raise

    def _hook(self) -> AsyncKubernetesHook:
        return AsyncKubernetesHook(**self.connection)


def as_trigger(gang: Gang, limits: Limits, connection: dict[str, Any], poll_s: float) -> GangStartTrigger:
    """The trigger for a gang."""
    return GangStartTrigger(asdict(gang), asdict(limits), connection, poll_s)


async def _own_job(batch: BatchV1Api, gang: Gang) -> Manifest | None:
    """A gang's Job as it is now, if it is still that of its owner, and there."""
    jobs = (await _answer(batch.list_namespaced_job, gang.namespace, label_selector=gang.selector))["items"]
    own = [job for job in jobs if owner_of(job) == gang.owner and "deletionTimestamp" not in job["metadata"]]
    return own[0] if own else None


async def _answer(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    response = await call(*arguments, **options, _preload_content=False)
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:  # the client itself does not look
        raise ApiException(status=response.status, reason=response.reason)
    return json.loads(await response.read())


async def _look(hook: AsyncKubernetesHook, gang: Gang, watched: Supervision) -> None:
    async with hook.get_conn() as client:
        calls = _calls(client)

        async def ask(kind: str, **selector: str) -> Objects:
            items = (await _answer(calls[kind], gang.namespace, **selector))["items"]
            return {each["metadata"]["name"]: each for each in items}

        pods = await ask("pods", label_selector=gang.selector)
        job = await ask("job", label_selector=gang.selector)
        warnings: Objects = {}
        for name in _known_by_events(gang, job, pods):
            warnings |= await ask("warnings", field_selector=f"involvedObject.name={name},type=Warning")
    for news in (("warnings", warnings), ("pods", pods), ("job", job)):
        watched.take(news)


def _calls(client: ApiClient) -> dict[str, Callable[..., Any]]:
    core = CoreV1Api(client)
    return {
        "warnings": core.list_namespaced_event,
        "pods": core.list_namespaced_pod,
        "job": BatchV1Api(client).list_namespaced_job,
    }


def _known_by_events(gang: Gang, job: Objects, pods: Objects) -> list[str]:
    """What only events can say more of: a Job that makes no pods, pods that wait on their node; a few stand for all.

    The API server reads all events of a namespace to find some. A gang that waits in a queue, or for nodes, needs none.
    """
    is_stuck = len(pods) < gang.workers and not any(map(is_suspended, job.values()))
    placed = [name for name, pod in pods.items() if "nodeName" in pod["spec"] and not has_started(pod, gang.container)]
    return [*([gang.name] if is_stuck else []), *sorted(placed)[:FEW]]


class _NoNews:
    """Stands where news come from; the trigger hands them over itself, and logs are read by the task."""

    def next(self, seconds: float) -> News | None:
        return None

    def follow_log(self, pod: str, container: str, is_over: threading.Event) -> None:
        pass
