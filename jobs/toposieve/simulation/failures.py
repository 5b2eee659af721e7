"""Failures of tasks that no retry mends, such as a full disk: they reach the driver as results, not as stack traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from toposieve.errors import InvalidInputError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Failure:
    """Why a task failed."""

    errno: int | None
    message: str
    path: str | None = None


def attempt(function: Callable[[TaskT], ResultT]) -> Callable[[TaskT], ResultT | Failure]:
    """``function`` for use in a Spark task: bad input and errors of the file system become a :class:`Failure`."""
    return partial(_attempt, function)


def _attempt(function: Callable[[TaskT], ResultT], task: TaskT) -> ResultT | Failure:
    try:
        return function(task)
    except InvalidInputError as error:
        return Failure(None, str(error))
    except OSError as error:
        return Failure(error.errno, error.strerror or str(error), error.filename)


def result_of(outcome: ResultT | Failure) -> ResultT:
    """A task's result, in the driver.

    Raises:
        InvalidInputError: The task met bad input.
        OSError: The task met an error of the file system.
    """
    if not isinstance(outcome, Failure):
        return outcome
    if outcome.errno is None:
        raise InvalidInputError(outcome.message)
    raise OSError(outcome.errno, outcome.message, outcome.path)
