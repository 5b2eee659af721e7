"""An archive of Spark's classes, so that a session starts in less than half the CPU time: ``make env`` makes it once.

    python -m toposieve.spark.class_archive

runs a little of all that the jobs do and lets Java write down which classes that took (class data sharing). A Java that
the archive does not fit, or whose runtime knows none, starts without.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

ARCHIVE = Path(sys.prefix) / "spark.jsa"
OPTIONS_VARIABLE = "SPARK_SUBMIT_OPTS"
"""Options of the Java that ``spark-submit`` and PySpark start."""

QUICK = "-XX:TieredStopAtLevel=1"
"""No second compiler: the heavy work is done in Python, and it costs more than it saves (prepare of 24,000 events: 41
CPU-s with, 28 without)."""

_EXERCISE = "from toposieve.spark.class_archive import exercise; exercise()"


@dataclass(frozen=True)
class Nothing:
    """An item without work."""

    events: int = 1


def skip(item: Nothing) -> int:
    """Do nothing with it."""
    return item.events


def exercise() -> None:
    """Do a little of all that the jobs do."""
    from toposieve.spark.session import spark_session

    with spark_session("exercise", "local[2]") as spark:
        _run_everything(spark)


def _run_everything(spark: SparkSession) -> None:
    """Items, rows in Arrow, histograms, a shuffle."""
    from pyspark.sql import functions as F

    from toposieve.spark.run import run_on_spark

    def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return batches

    run_on_spark(spark, skip, [Nothing()] * 4, name="exercise", quiet=True)
    rows = spark.createDataFrame(spark.sparkContext.parallelize([(n, b"1") for n in range(9)], 2), "n int, b binary")
    frame = rows.mapInArrow(same, rows.schema).withColumn("key", F.xxhash64("n", "b")).persist()
    frame.groupBy(F.shiftright("key", 60).alias("bin")).count().toArrow()
    frame.filter(F.col("n") > 1).repartitionById(2, F.col("n") % 2).sortWithinPartitions("key").mapInArrow(
        same, frame.schema
    ).toArrow()


def make_archive() -> str:
    """Make the archive; says what keeps Spark and its Java from it, or nothing."""
    ARCHIVE.unlink(missing_ok=True)
    unfinished = ARCHIVE.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    environment = {
        **os.environ,
        OPTIONS_VARIABLE: f'-XX:ArchiveClassesAtExit="{unfinished}" {QUICK} -Xlog:disable',
    }
    command = [sys.executable, "-c", _EXERCISE]
    # Java writes it when Python has ended, and is waited for too: it holds the ends of Python's pipes.
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    if not unfinished.exists():
        return "Java wrote none"
    unfinished.replace(ARCHIVE)  # a Spark that starts meanwhile finds a whole one or none
    return ""


def make_java_quick() -> None:
    """Let the next Spark that this process starts begin quickly, with the archive if there is one.

    Options that are set already come later on Java's command line, where they stand.
    """
    # Quiet where it does not fit: a job is as good without it.
    archive = f'-XX:SharedArchiveFile="{ARCHIVE}" -Xshare:auto -Xlog:disable -Xlog:all=error:stderr '
    ours = f"{archive if ARCHIVE.exists() else ''}{QUICK}"
    options = os.environ.get(OPTIONS_VARIABLE, "")
    if not options.startswith(ours):
        os.environ[OPTIONS_VARIABLE] = f"{ours} {options}".strip()


if __name__ == "__main__":
    if problem := make_archive():
        print(f"Spark starts without an archive of its classes: {problem}", file=sys.stderr)
