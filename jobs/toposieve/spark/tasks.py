"""Records of tasks whose input are rows of a DataFrame; where it is items, :mod:`~toposieve.spark.run` does it all."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.errors import PythonException

from toposieve import errors
from toposieve.spark.run import Failure, attempt, sort_out

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RECORD_ROW = "record binary"
"""Columns of a task's records."""

_RAISED = re.compile(rf"^{re.escape(errors.__name__)}\.(\w+): (.*)$", re.MULTILINE)


def record_batch(number: int, function: Callable[[], Any]) -> pa.RecordBatch:
    """One row of ``RECORD_ROW``: what ``function`` returns, or why it could not.

    Args:
        number: To know it by.
        function: Called once, or a few times where an error may pass.
    """
    return pa.RecordBatch.from_pydict({"record": [pickle.dumps(attempt(number, function))]})


def collect_records(frame: DataFrame) -> dict[int, Any]:
    """Run tasks and bring their values to the driver, by number.

    Raises:
        InvalidInputError: Input of some was bad; the message holds the first few reasons.
        OSError: The disk was full for one, or a store stayed away.
        RuntimeError: There is a defect of ours.
    """
    records = [pickle.loads(record) for record in frame.toArrow().column("record").to_pylist()]
    sort_out([record for record in records if isinstance(record, Failure)])
    return dict(sorted(records))


@contextmanager
def errors_of_tasks() -> Iterator[None]:
    """Raise as itself what a task that makes rows, not records, raised on purpose: Spark hides it in a stack trace."""
    try:
        yield
    except PythonException as error:
        raised = _RAISED.findall(str(error))
        if not raised:
            raise
        name, message = raised[-1]
        raise getattr(errors, name)(message) from None
