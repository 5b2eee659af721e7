"""How results and failures come back from tasks over rows of a DataFrame."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyspark.errors import PythonException

from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.spark.tasks import RECORD_ROW, collect_records, errors_of_tasks, record_batch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession, function: Callable[[int], Any], count: int = 4) -> dict[int, Any]:
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                yield record_batch(number, lambda number=number: function(number))

    return collect_records(spark.range(0, count, 1, 2).mapInArrow(task, RECORD_ROW))


def test_values_come_back_by_number(spark: SparkSession) -> None:
    found = run(spark, lambda number: {"square": number**2})
    assert list(found.items()) == [(n, {"square": n**2}) for n in range(4)]


def test_bad_input_comes_back_as_itself(spark: SparkSession) -> None:
    def function(number: int) -> None:
        if number % 2:
            raise InvalidInputError(f"file {number} is bad")

    with pytest.raises(InvalidInputError, match=r"^file 1 is bad\nfile 3 is bad$"):
        run(spark, function)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_comes_back_as_an_oserror(spark: SparkSession, number: int) -> None:
    def function(_: int) -> None:
        raise OSError(number, os.strerror(number), "/data/x.tfrecord")

    with pytest.raises(OSError, match=r"/data/x\.tfrecord") as caught:
        run(spark, function)
    assert caught.value.errno == number


def test_a_defect_comes_back_with_its_trace(spark: SparkSession) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a task failed:\nTraceback.*ZeroDivisionError"):
        run(spark, lambda number: 1 // (number - 2))


@pytest.mark.parametrize("error", [UnavailableError("host.example does not answer"), InvalidInputError("it is bad")])
def test_what_a_task_without_records_raises_comes_back_as_itself(spark: SparkSession, error: Exception) -> None:
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise error
        yield from batches

    with pytest.raises(type(error), match=rf"^{error}$"), errors_of_tasks():
        spark.range(1).mapInArrow(task, "id long").toArrow()


def test_a_defect_of_a_task_without_records_keeps_its_trace(spark: SparkSession) -> None:
    with pytest.raises(PythonException, match="ZeroDivisionError"), errors_of_tasks():
        spark.range(1).mapInArrow(lambda _: 1 // 0, "id long").toArrow()
