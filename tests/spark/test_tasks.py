"""How results, bad input and full disks come back from tasks, and how progress is told."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from toposieve.errors import InvalidInputError
from toposieve.spark import tasks
from toposieve.spark.tasks import RESULT_ROW, collect_results, progress, result_batch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(spark: SparkSession, function: Callable[[int], Any], count: int = 4) -> dict[int, Any]:
    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                yield result_batch(number, lambda number=number: function(number))

    return collect_results(spark.range(0, count, 1, 2).mapInArrow(task, RESULT_ROW))


def test_values_come_back_by_number(spark: SparkSession) -> None:
    assert run(spark, lambda number: {"square": number**2}) == {n: {"square": n**2} for n in range(4)}


def test_bad_input_comes_back_as_itself(spark: SparkSession) -> None:
    def function(number: int) -> None:
        if number % 2:
            raise InvalidInputError(f"file {number} is bad")

    with pytest.raises(InvalidInputError, match=r"^file 1 is bad\nfile 3 is bad$"):
        run(spark, function)


def test_many_bad_inputs_are_cut_short(spark: SparkSession) -> None:
    def function(number: int) -> None:
        raise InvalidInputError(f"file {number}")

    with pytest.raises(InvalidInputError, match=r"^file 0\nfile 1\nfile 2\nfile 3\nfile 4\nand 7 more$"):
        run(spark, function, count=12)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_comes_back_as_an_oserror(spark: SparkSession, number: int) -> None:
    def function(_: int) -> None:
        raise OSError(number, os.strerror(number), "/data/x.tfrecord")

    with pytest.raises(OSError, match=r"/data/x\.tfrecord") as caught:
        run(spark, function)
    assert caught.value.errno == number


def test_other_errors_are_left_to_spark() -> None:
    def function() -> None:
        raise OSError(errno.EIO, "bad sector")

    with pytest.raises(OSError, match="bad sector"):
        result_batch(0, function)


def test_progress_counts_what_tasks_add(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "PROGRESS_SECONDS", 0.01)
    with caplog.at_level(logging.INFO), progress(spark, "writing", total=4) as done:
        run(spark, done.add)
        assert done.value == 0 + 1 + 2 + 3
    assert "writing: 0 of 4 events" in caplog.text
    assert "writing: done in" in caplog.text
