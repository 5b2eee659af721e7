"""Results and progress of tasks that Spark runs on Arrow batches.

What a task finds wrong travels in its result rows: raised in the task, it would be retried and then buried in a stack
trace.
"""

from __future__ import annotations

import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from toposieve.errors import InvalidInputError

if TYPE_CHECKING:
    from pyspark import Accumulator
    from pyspark.sql import DataFrame, SparkSession

RESULT_ROW = "number int, result string"
"""Columns of a task's results: the number of a unit of work, and JSON."""

PROGRESS_SECONDS = 5.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_PROBLEMS = 5

logger = logging.getLogger(__name__)


def result_batch(number: int, function: Callable[[], Any]) -> pa.RecordBatch:
    """One row of ``RESULT_ROW``: what ``function`` returns (as JSON can hold it), or why it could not.

    Bad input and a full disk become part of the result; any other error is Spark's to retry.
    """
    try:
        result = {"value": function()}
    except InvalidInputError as error:
        result = {"invalid": str(error)}
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        result = {"errno": error.errno, "reason": str(error)}
    return pa.RecordBatch.from_pydict({"number": pa.array([number], pa.int32()), "result": [json.dumps(result)]})


def collect_results(frame: DataFrame) -> dict[int, Any]:
    """Run tasks and bring their values to the driver, by number.

    Raises:
        InvalidInputError: Input of some was bad; the message holds the first few reasons.
        OSError: The disk was full for one.
    """
    table = frame.toArrow().to_pydict()
    results = {number: json.loads(text) for number, text in sorted(zip(table["number"], table["result"], strict=True))}
    for result in results.values():
        if "errno" in result:
            raise OSError(result["errno"], result["reason"])
    invalid = [result["invalid"] for result in results.values() if "invalid" in result]
    if invalid:
        more = [f"and {len(invalid) - _MAX_PROBLEMS} more"] if len(invalid) > _MAX_PROBLEMS else []
        raise InvalidInputError("\n".join([*invalid[:_MAX_PROBLEMS], *more]))
    return {number: result["value"] for number, result in results.items()}


@contextmanager
def progress(spark: SparkSession, name: str, total: int) -> Iterator[Accumulator[int]]:
    """Log how many events are done while the block runs; its tasks add to the accumulator (seen when a task ends)."""
    done = spark.sparkContext.accumulator(0)
    ended = threading.Event()
    thread = threading.Thread(target=_report, args=(name, total, done, ended), name="progress", daemon=True)
    start = time.monotonic()
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()
    logger.info("%s: done in %.1f s", name, time.monotonic() - start)


def _report(name: str, total: int, done: Accumulator[int], ended: threading.Event) -> None:
    start = time.monotonic()
    while not ended.wait(PROGRESS_SECONDS):
        rate = done.value / (time.monotonic() - start)
        logger.info("%s: %s of %s events, %s events/s", name, f"{done.value:,}", f"{total:,}", f"{rate:,.0f}")
