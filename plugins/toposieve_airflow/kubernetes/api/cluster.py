"""What gangs and Spark jobs need of the API server: lists, watches, logs, requests that outlast it, removed pods."""

from __future__ import annotations

import copy
import json
import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from toposieve_airflow.kubernetes.api.ownership import Manifest, deletion_of, owner_of
from toposieve_airflow.kubernetes.api.reading import Pauses, Reading
from toposieve_airflow.kubernetes.api.watching import ListCall, Objects, Outages, brief, gone_within

LATE_S = 2.0
"""Seconds that a node may take on top of a pod's grace period."""

GONE_S = 60.0
"""Seconds after that in which Kubernetes removes the pods, or finds out that their node is lost and says so."""

ANSWER_S = (3, 15)
"""Seconds in which the API server has to take a connection, and to answer a request other than a watch."""

_LOST = "DeletionByTaintManager"
"""Reason of Kubernetes' condition DisruptionTarget on the pods of a node that no longer answers."""

CHANGED = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
"""Answers to a request about an object as it was read, when it no longer is so."""

_RIGHT = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)

logger = logging.getLogger(__name__)

_retried: Callable[[Callable[..., Any]], Callable[..., Any]] = generic_api_retry


class Refused(Exception):
    """The API server refuses a request and would refuse it again; the message says what to change."""


class RefusedForNow(ApiException):  # type: ignore[misc]  # the client is untyped
    """The API server refuses a request that it may take later; the message is in plain words.

    Args:
        error: What the client says.
    """

    def __init__(self, error: ApiException) -> None:
        """Keep the answer."""
        super().__init__(error.status, error.reason)
        self.body = error.body

    def __str__(self) -> str:
        """What is wrong."""
        return in_words(self)


class StillThere(Exception):
    """A pod could not be removed; the message names it, and says how to remove it by hand."""


class Cluster:
    """One namespace.

    Args:
        client: Connection to the API server.
        namespace: Its name.
        is_patient: Whether something runs there that was made with these rights: then a refusal of all requests may
            pass, and is waited out like an API server that is away.
    """

    def __init__(self, client: ApiClient, namespace: str, *, is_patient: bool = False) -> None:
        """Ask nothing yet."""
        configuration = copy.deepcopy(client.configuration)
        configuration.retries = 0  # urllib3's own would write three warnings a second while the server is away
        self._core = CoreV1Api(type(client)(configuration))
        self.namespace = namespace
        self.is_patient = is_patient

    def outages(self, has_answered: threading.Event | None = None) -> Outages:
        """Tells which errors pass; argument as of Outages."""
        outages = Outages(has_answered)
        if self.is_patient:
            outages.end()
        return outages

    def pods(self, selector: str) -> ListCall:
        """Lists and watches pods."""
        return partial(self._core.list_namespaced_pod, self.namespace, label_selector=selector)

    def warnings(self, name: str = "") -> ListCall:
        """Lists the warnings about an object, if one is named; watches those about everything in the namespace.

        Pods have names that nobody knows before: what is told of them comes by the watch.
        """

        def call(*, watch: bool = False, **options: Any) -> Any:
            about = "" if watch else f"involvedObject.name={name},"
            ask = self._core.list_namespaced_event
            return ask(self.namespace, field_selector=f"{about}type=Warning", watch=watch, **options)

        return call

    def log(self, pod: str, container: str) -> Callable[..., Any]:
        """Reads a container's log."""
        return partial(self._core.read_namespaced_pod_log, pod, self.namespace, container=container)

    def _delete(self, find: Callable[[], list[Manifest]], delete: Callable[..., Any], owner: str | None) -> bool:
        """Delete what is found as it was just read: if another try adopts it in between, that is seen.

        Args:
            find: Reads it.
            delete: Deletes one, by name and namespace.
            owner: Whose all has to be; otherwise nothing is done. None: whoever's.

        Returns:
            Whether it was.
        """
        while found := [each for each in find() if "deletionTimestamp" not in each["metadata"]]:
            if owner is not None and any(owner_of(each) != owner for each in found):
                return False
            for each in found:
                name = each["metadata"]["name"]
                self._ask(delete, name, self.namespace, body=deletion_of(each), missing=CHANGED)
        return True

    def _wait_for_end(self, selector: str) -> bool:
        """Wait until the pods with these labels are gone; whether one was lost with its node, and went by force."""
        pods = self._pods_within(selector, 0)
        grace_s = max((pod["spec"].get("terminationGracePeriodSeconds", 0) for pod in pods.values()), default=0)
        pods = self._pods_within(selector, grace_s + LATE_S) if pods else pods
        deadline, is_lost = time.monotonic() + GONE_S, False
        while pods and time.monotonic() < deadline:
            for name, pod in pods.items():
                if _is_lost(pod):
                    is_lost = True
                    self._ask(self._core.delete_namespaced_pod, name, self.namespace, grace_period_seconds=0)
            pods = self._pods_within(selector, LATE_S)
        if pods:
            names = " ".join(pods)
            raise StillThere(
                f"Kubernetes does not remove these pods; look at their nodes, or forget the pods by "
                f"`kubectl delete pod -n {self.namespace} --force {names}`"
            )
        return is_lost

    def _pods_within(self, selector: str, seconds: float) -> Objects:
        left: Objects = self._asked(partial(gone_within, self.pods(selector), seconds))
        return left

    def _ask(
        self,
        call: Callable[..., Any],
        *arguments: Any,
        missing: tuple[int, ...] = (HTTPStatus.NOT_FOUND,),
        **options: Any,
    ) -> Any:
        """Ask the API server, again and again while it is away; None if the answer is one of ``missing``."""

        def ask() -> Any:
            try:
                return json.loads(call(*arguments, **options, _preload_content=False, _request_timeout=ANSWER_S).data)
            except ApiException as error:
                if error.status in missing:
                    return None
                raise

        return self._asked(ask)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """The answer to a request that is made again and again while the API server is away."""
        outages, pauses, is_told = self.outages(), Pauses(Reading()), False
        while True:
            try:
                return _retried(ask)()
            except (ApiException, HTTPError) as error:
                if not (self.is_patient and outages.passes(error)) or self._lacks_right(error):
                    raise final(error) from None
                if not is_told:
                    logger.warning("the API server does not do what it is asked, trying again: %s", _words(error))
                is_told = True
            pauses.take()

    def _lacks_right(self, error: Exception) -> bool:
        """Whether one right is missing, rather than all for a while: other requests of this account are answered."""
        if getattr(error, "status", None) != HTTPStatus.FORBIDDEN:
            return False
        with suppress(ApiException, HTTPError):
            self._core.list_namespaced_pod(self.namespace, limit=1, _preload_content=False, _request_timeout=ANSWER_S)
            return True
        return False


def of_another(thing: Manifest, kind: str = "Job") -> Refused:
    """What to say when a Job, or a pod, is in the way that is not this task's."""
    name, namespace = thing["metadata"]["name"], thing["metadata"]["namespace"]
    return Refused(
        f"{kind} {name} is there already and is another task's, of another Airflow or of a deleted run of the same "
        f"name: give one of them another name, or remove the {kind} by "
        f"`kubectl delete {kind.lower()} -n {namespace} {name}`"
    )


def _is_lost(pod: Manifest) -> bool:
    return any(each.get("reason") == _LOST for each in pod.get("status", {}).get("conditions", []))


def final(error: Exception) -> Exception:
    """What to raise for an error that is not waited out."""
    if not isinstance(error, ApiException):
        return error
    return Refused(in_words(error)) if refuses(error) else RefusedForNow(error)


def _words(error: ApiException | HTTPError) -> str:
    return in_words(error) if isinstance(error, ApiException) else brief(error)


def refuses(error: ApiException) -> bool:
    """Whether the same request would be refused again. A namespace's quota is not for ever."""
    return 400 <= error.status < 500 and error.status not in (401, 408, 409, 429) and "quota" not in str(error.body)


def in_words(error: ApiException) -> str:
    """What the API server does not like, in plain words: a missing right names user, verb and resource."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = str(error.body or error.reason)
    if error.status == HTTPStatus.UNAUTHORIZED:
        return f"Kubernetes does not know who asks (HTTP 401, {message}): renew the credentials of Airflow's connection"
    right = _RIGHT.search(message)
    if error.status != HTTPStatus.FORBIDDEN or right is None:
        return f"Kubernetes refuses (HTTP {error.status}): {message}"
    group = f" of the API group {right['group']}" if right["group"] else ""
    return (
        f"{right['user']} lacks a right: the verb {right['verb']} on {right['resource']}{group}. "
        f"Add it to a Role of that account. ({message})"
    )
