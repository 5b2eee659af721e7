"""Follow the objects of a gang: the API server sends every change, so that nobody has to ask again and again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, ProtocolError

from toposieve_airflow.kubernetes.api.reading import READ_S, Pauses, Reading

Objects = dict[str, dict[str, Any]]
"""Objects by name."""

ListCall = Callable[..., Any]
"""A ``list_...`` method of the client with namespace and selectors filled in."""

WATCH_S = 50
"""Seconds until a watch is opened anew; a dead connection is noticed not much later."""

REFUSED_S = 300.0
"""Seconds in which an API server that has answered may refuse: it starts, a token is renewed, a Role is replaced."""

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE = 401, 403, 404, 410


def changes(list_call: ListCall, reading: Reading, tell: Callable[[str], None], outages: Outages) -> Iterator[Objects]:
    """All objects now, and again after every change, until ``reading`` is stopped.

    The client's own SharedInformer does this too, but asks without a pause while the API server is away.

    Args:
        list_call: What to follow.
        reading: Ends it.
        tell: Told when the API server goes away and when it is back.
        outages: Tells which errors pass.

    Raises:
        ApiException: The API server refuses, and would again.
    """
    pauses, away = Pauses(reading), False

    def opened() -> None:
        nonlocal away
        if away:
            tell("the API server answers again")
        away = False
        outages.end()
        pauses.reset()

    while not reading.is_stopped():
        try:
            yield from _list_and_watch(list_call, reading, opened)
        except (ApiException, HTTPError, OSError) as error:
            if reading.is_stopped():
                return
            if not outages.passes(error):
                raise
            if not away:
                tell(f"the API server does not answer, trying again: {brief(error)}")
            away = True
            pauses.take()


def gone_within(list_call: ListCall, seconds: float) -> Objects:
    """Wait until there are no such objects any more, at most so long; returns those that are left."""
    left: Objects = {}
    for left in _list_and_watch(list_call, Reading(), lambda: None, until=time.monotonic() + seconds):
        if not left:
            break
    return left


def is_passing(error: Any) -> bool:
    """Whether an ApiException of either client may pass: the server is starting, busy, or renewing credentials."""
    return bool(not error.status or error.status in (401, 408, 409, 429) or error.status >= 500)


def brief(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, ApiException):
        return f"HTTP {error.status} {error.reason}"
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Outages:
    """Tells errors of an API server that is away from those that stay.

    A refusal at the very start is one that stays: a right is missing. Once the API server has answered, or has been
    away, a refusal is believed only when it has lasted for ``REFUSED_S``.

    Args:
        has_answered: Set once it has; shared by requests that need the same right.
    """

    def __init__(self, has_answered: threading.Event | None = None) -> None:
        """Nothing is known of it, unless from another request."""
        self._has_answered = has_answered or threading.Event()
        self._refused_since: float | None = None

    def passes(self, error: Exception) -> bool:
        """Whether an error may pass; one without an HTTP status may."""
        status, now = getattr(error, "status", None), time.monotonic()
        if status == _UNAUTHORIZED or (self._has_answered.is_set() and status in (_FORBIDDEN, _NOT_FOUND)):
            self._refused_since = self._refused_since or now
            return now <= self._refused_since + REFUSED_S
        if status and not is_passing(error):
            return False
        self.end()
        return True

    def end(self) -> None:
        """It answers."""
        self._has_answered.set()
        self._refused_since = None


def _list_and_watch(
    list_call: ListCall, reading: Reading, opened: Callable[[], None], until: float | None = None
) -> Iterator[Objects]:
    """All objects now and after every change; the API server may forget what came after: then all are listed anew.

    ``opened`` is called when a watch has begun: only then is it known that nothing is refused.
    """
    while not reading.is_stopped():
        listed = json.loads(list_call(_preload_content=False, _request_timeout=READ_S).data)
        objects = {each["metadata"]["name"]: each for each in listed["items"]}
        yield dict(objects)
        try:
            yield from _watch(list_call, reading, objects, listed["metadata"]["resourceVersion"], opened, until)
            return
        except ApiException as error:
            if error.status != _GONE:
                raise
            Pauses(reading).take()


def _watch(
    list_call: ListCall,
    reading: Reading,
    objects: Objects,
    version: str,
    opened: Callable[[], None],
    until: float | None,
) -> Iterator[Objects]:
    while not reading.is_stopped() and (until is None or time.monotonic() < until):
        seconds = WATCH_S if until is None else max(1, round(until - time.monotonic()))
        for kind, each in _events(list_call, reading, version, opened, seconds):
            version = each["metadata"]["resourceVersion"]
            if kind == "DELETED":
                objects.pop(each["metadata"]["name"], None)
            elif kind != "BOOKMARK":
                objects[each["metadata"]["name"]] = each
            yield dict(objects)


def _events(
    list_call: ListCall, reading: Reading, version: str, opened: Callable[[], None], seconds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    response = list_call(
        watch=True,
        resource_version=version,
        timeout_seconds=seconds,
        allow_watch_bookmarks=True,
        _preload_content=False,
        _request_timeout=READ_S,
    )
    opened()
    for line in reading.lines(response):
        try:
            event = json.loads(line)
        except ValueError:
            raise ProtocolError("an event was cut off") from None
        if event["type"] == "ERROR":
            raise ApiException(status=event["object"].get("code"), reason=event["object"].get("message"))
        yield event["type"], event["object"]
