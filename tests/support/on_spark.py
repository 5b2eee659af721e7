"""Stands in for Spark where a test is about what is done, not where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toposieve.spark.run import Outcome


def run_here(_spark: Any, function: Callable[[Any], Any], items: Sequence[Any], **_: Any) -> Outcome:
    """As ``run_on_spark``, in this process."""
    return Outcome({number: function(item) for number, item in enumerate(items)}, {})
