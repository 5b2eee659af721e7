"""Stands in for Spark where a test is about what is done, not where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toposieve.errors import InvalidInputError
from toposieve.spark.run import Outcome


def run_here(
    _spark: Any, function: Callable[[Any], Any], items: Sequence[Any], *, keep_going: bool = False, **_: Any
) -> Outcome:
    """As ``run_on_spark``, in this process."""
    outcome = Outcome({}, {})
    for number, item in enumerate(items):
        try:
            outcome.results[number] = function(item)
        except InvalidInputError as error:
            if not keep_going:
                raise
            outcome.bad[number] = str(error)
    return outcome
