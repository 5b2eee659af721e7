"""How work goes out to tasks, and how results, bad input and other trouble come back."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import spark_tasks
from support.spark_tasks import Item
from toposieve.errors import InvalidInputError, UnavailableError
from toposieve.spark import run
from toposieve.spark.balance import LEAST_EVENTS, LEAST_TASKS
from toposieve.spark.run import Failure, Outcome, Watch, run_on_spark, sort_out

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TESTS = Path(__file__).resolve().parents[1]
NAMES = ["a", "b", "bad", "c", "very bad", "d"]


@pytest.fixture
def items(tmp_path: Path) -> list[Item]:
    return [Item(name, number, tmp_path) for number, name in enumerate(NAMES)]


def test_workers_begin_with_what_the_driver_has_imported(spark: SparkSession, items: list[Item]) -> None:
    found = run_on_spark(spark, spark_tasks.what_the_worker_began_with, items, name="x").results
    assert set(found.values()) == {(True, True)}


# --- results and failures ------------------------------------------------------------------------------------------


def test_every_item_is_done_once_and_comes_back_by_number(spark: SparkSession, items: list[Item]) -> None:
    assert run_on_spark(spark, spark_tasks.echo, items, name="x") == Outcome(dict(enumerate(NAMES)), {})
    assert [item.calls() for item in items] == [1] * len(items)


def test_no_items_need_no_spark() -> None:
    assert run_on_spark(None, spark_tasks.echo, [], name="x") == Outcome({}, {})  # type: ignore[arg-type]


def test_bad_input_reaches_the_driver_as_what_it_is(spark: SparkSession, items: list[Item]) -> None:
    with pytest.raises(InvalidInputError, match=r"^(very )?bad is bad"):
        run_on_spark(spark, spark_tasks.refuse_bad, items, name="x")


def test_keep_going_lists_what_is_bad_and_does_the_rest(spark: SparkSession, items: list[Item]) -> None:
    outcome = run_on_spark(spark, spark_tasks.refuse_bad, items, name="x", keep_going=True)
    assert outcome.bad == {2: "bad is bad", 4: "very bad is bad"}
    assert outcome.results == {number: name for number, name in enumerate(NAMES) if "bad" not in name}


def test_bad_input_ends_the_job_early(spark: SparkSession, tmp_path: Path) -> None:
    items = [Item("bad", 1000, tmp_path), *(Item(f"slow {number}", 1, tmp_path) for number in range(31))]
    with pytest.raises(InvalidInputError, match=r"^bad is bad$"):
        run_on_spark(spark, spark_tasks.refuse_bad_or_wait, items, name="x")
    assert sum(item.calls() for item in items) < len(items) / 2


def test_a_full_disk_reaches_the_driver_as_what_it_is(spark: SparkSession, items: list[Item]) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        run_on_spark(spark, spark_tasks.write_to_full_disk, items, name="x", keep_going=True)
    assert caught.value.errno == errno.ENOSPC


def test_a_defect_of_ours_comes_with_its_trace_and_is_not_tried_again(spark: SparkSession, items: list[Item]) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)a task failed:\nTraceback.*in crash\n.*ZeroDivisionError: a bug"):
        run_on_spark(spark, spark_tasks.crash, items[:1], name="x", keep_going=True)
    assert items[0].calls() == 1


def test_what_may_pass_is_tried_again(spark: SparkSession, items: list[Item]) -> None:
    assert run_on_spark(spark, spark_tasks.lose_the_store_once, items[:1], name="x").results == {0: "a"}
    assert items[0].calls() == 2


ATTEMPTS_THAT_DIE = """
import sys
from pathlib import Path
from support.spark_tasks import Item, make_unit_and_die_once
from toposieve.spark.run import run_on_spark
from toposieve.spark.session import spark_session

items = [Item(f"unit {number}", 1, Path(sys.argv[1])) for number in range(6)]
with spark_session("test", "local[2,4]") as spark:
    outcome = run_on_spark(spark, make_unit_and_die_once, items, name="making")
print("SOURCES", [outcome.results[number].source for number in range(6)])
"""


def test_a_task_that_dies_is_begun_again_and_takes_over_what_was_made(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "jobs")])}
    command = [sys.executable, "-c", ATTEMPTS_THAT_DIE, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    names = [f"unit {number}" for number in range(6)]
    assert f"SOURCES {names}" in done.stdout, done.stderr
    assert (tmp_path / "dead").exists()
    assert [Item(name, 1, tmp_path).calls() for name in names] == [1] * 6


# --- one item, in a task -------------------------------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long ``attempt`` would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("toposieve.spark.run.time.sleep", slept.append)
    return slept


def raising(*errors: Exception) -> Callable[[], str]:
    """Raises one error after the other, then returns."""
    left = list(errors)

    def function() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return function


AWAY, BUSY = UnavailableError("away"), OSError(errno.EIO, "Input/output error")


def test_a_few_transient_errors_are_ridden_out(pauses: list[float]) -> None:
    assert run.attempt(3, raising(AWAY, BUSY, AWAY)) == (3, "done")
    assert tuple(pauses) == run.RETRY_SECONDS


def test_one_too_many_is_a_failure(pauses: list[float]) -> None:
    assert run.attempt(3, raising(AWAY, BUSY, AWAY, BUSY)) == Failure(3, BUSY)
    assert tuple(pauses) == run.RETRY_SECONDS


@pytest.mark.parametrize("error", [InvalidInputError("bad"), OSError(errno.ENOSPC, "full"), PermissionError(13, "no")])
def test_what_will_not_pass_is_not_tried_again(pauses: list[float], error: Exception) -> None:
    assert run.attempt(3, raising(error)) == Failure(3, error)
    assert pauses == []


def test_a_defect_is_kept_as_its_trace(pauses: list[float]) -> None:
    failure = run.attempt(3, raising(KeyError("x")))
    assert isinstance(failure, Failure)
    assert failure.error is None
    assert "KeyError: 'x'" in failure.trace
    assert pauses == []


class Sum:
    """Stands in for an accumulator."""

    def __init__(self) -> None:
        self.terms: list[object] = []

    def add(self, term: object) -> None:
        self.terms.append(term)


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_task_stops_at_bad_input_unless_it_is_to_go_on(items: list[Item], keep_going: bool) -> None:
    done, failures = Sum(), Sum()
    task = run._Task(spark_tasks.refuse_bad, keep_going, done, failures)  # type: ignore[arg-type]
    records = list(task(pickle.dumps(list(enumerate(items)))))
    called = [item.name for item in items if item.calls()]
    assert called == (NAMES if keep_going else NAMES[:3])
    assert len(records) == len(done.terms) == len(called)
    assert len(failures.terms) == (not keep_going)


BAD, FULL = Failure(1, InvalidInputError("bad")), Failure(2, OSError(errno.ENOSPC, "full"))
DEFECT = Failure(3, None, "trace")


@pytest.mark.parametrize(
    ("failures", "kind"),
    [([BAD, FULL, DEFECT], RuntimeError), ([BAD, FULL], OSError), ([BAD], InvalidInputError)],
)
def test_what_matters_most_is_raised(failures: list[Failure], kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        sort_out(failures)
    assert type(caught.value) is kind


def test_reasons_come_in_order_once_and_only_a_few() -> None:
    failures = [Failure(number, InvalidInputError(f"file {number // 2}")) for number in range(15, -1, -1)]
    with pytest.raises(InvalidInputError, match=r"^file 0\nfile 1\nfile 2\nfile 3\nfile 4\nand 3 more$"):
        sort_out(failures)


# --- tasks ---------------------------------------------------------------------------------------------------------


def test_the_work_decides_the_number_of_tasks_whatever_cores_there_are(spark: SparkSession, tmp_path: Path) -> None:
    items = [Item(str(number), LEAST_EVENTS, tmp_path) for number in range(2 * LEAST_TASKS)]
    numbers = Counter(run_on_spark(spark, spark_tasks.task_number, items, name="x").results.values())
    assert spark.sparkContext.defaultParallelism == 2
    assert numbers == dict.fromkeys(range(LEAST_TASKS), 2)


# --- progress ------------------------------------------------------------------------------------------------------


class EndsAfterOneRound:
    rounds = 0

    def wait(self, _: float) -> bool:
        self.rounds += 1
        return self.rounds > 1


@pytest.mark.parametrize(
    ("unit", "said"),
    [("events", "2,000 of 5,000 events, 200 events/s, about 15 s left"), ("", "40%, about 15 s left")],
)
def test_progress_counts_and_says_how_long_it_will_take(
    unit: str, said: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "PROGRESS_SECONDS", 0.0)
    times = iter([100.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr("toposieve.spark.run.time.monotonic", lambda: next(times))
    watch = Watch.of(spark.sparkContext, "writing", 5000, unit)
    watch.done.add(2000)
    with caplog.at_level(logging.INFO):
        watch._watch(EndsAfterOneRound(), stop_early=False)  # type: ignore[arg-type]
    assert f"writing: {said}" in caplog.text


@pytest.mark.parametrize("quiet", [False, True])
def test_a_job_says_when_it_is_done_unless_it_is_to_be_quiet(
    spark: SparkSession, items: list[Item], quiet: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run_on_spark(spark, spark_tasks.echo, items, name="writing", quiet=quiet)
    assert ("writing: done in" in caplog.text) is not quiet


def test_tasks_count_the_events_of_their_items(
    spark: SparkSession, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    watches: list[Watch] = []
    real_of = Watch.of
    monkeypatch.setattr(Watch, "of", lambda *arguments: watches.append(real_of(*arguments)) or watches[0])
    run_on_spark(spark, spark_tasks.echo, items, name="writing")
    assert watches[0].total == sum(range(6))
    assert watches[0].done.value == 1 + sum(range(6))  # an item without events counts as one
