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

    message: str
    invalid_input: bool = False
    """Whether input or configuration is bad; if not, the file system met an error."""
    errno: int | None = None
    path: str | None = None


def attempt(function: Callable[[TaskT], ResultT]) -> Callable[[TaskT], ResultT | Failure]:
    """``function`` for use in a Spark task: bad input and errors of the file system become a :class:`Failure`."""
    return partial(_attempt, function)


def _attempt(function: Callable[[TaskT], ResultT], task: TaskT) -> ResultT | Failure:
    try:
        return function(task)
    except InvalidInputError as error:
        return Failure(str(error), invalid_input=True)
    except OSError as error:
        return Failure(error.strerror or str(error), errno=error.errno, path=error.filename)


def result_of(outcome: ResultT | Failure) -> ResultT:
    """A task's result, in the driver.

    Raises:
        InvalidInputError: The task met bad input.
        OSError: The task met an error of the file system.
    """
    if not isinstance(outcome, Failure):
        return outcome
    if outcome.invalid_input:
        raise InvalidInputError(outcome.message)
    raise OSError(outcome.errno, outcome.message, outcome.path)
