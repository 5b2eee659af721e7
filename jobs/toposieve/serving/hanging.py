"""Calls into a library that may never come back."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

HUNG_SECONDS = 5.0
"""After so long a request has missed its time: librdkafka 2.16 forgets some when a broker comes back."""

ResultT = TypeVar("ResultT")


class Hung(Exception):
    """A request that will never come back, nor will its client."""


def finished(call: Callable[[], ResultT], seconds: float = HUNG_SECONDS) -> ResultT:
    """The result of a call, if it comes back in time.

    Raises:
        Hung: It does not; it may go on in a thread that nobody waits for.
    """
    found: list[ResultT | BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise Hung("a request does not come back")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]
