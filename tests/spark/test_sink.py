from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import sink_handlers
from toposieve.errors import InvalidInputError
from toposieve.io.manifests import BadFile, Manifest, Publication, Unit, file_checksum
from toposieve.spark import sink
from toposieve.spark.sink import Work, balance, publish, run_units, split_done, unit_name

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def work(source: str, start: int, stop: int) -> Work:
    return Work(source, "00", start, stop, unit_name(source, "00", start, "1f"))


WORKS = [
    work("qcd/d/a.root", 0, 5),
    work("qcd/d/a.root", 5, 7),
    work("ttbar/d/bad.root", 0, 9),
    work("qcd/d/b.root", 0, 0),
]


def test_every_unit_is_done_and_recorded_in_order(spark: SparkSession, tmp_path: Path) -> None:
    outcome = run_units(spark, sink_handlers.write_name, WORKS, tmp_path)
    assert [(unit.source, unit.entry_start, unit.entry_stop) for unit in outcome.units] == [
        ("qcd/d/a.root", 0, 5),
        ("qcd/d/a.root", 5, 7),
        ("qcd/d/b.root", 0, 0),
        ("ttbar/d/bad.root", 0, 9),
    ]
    unit = outcome.units[1]
    assert (unit.counts, unit.weights, unit.notes) == ({"events": 2}, {"events": 1.0}, ("odd",))
    (file,) = unit.outputs
    assert (tmp_path / file.path).read_text() == file.path == WORKS[1].output
    assert file.checksum == file_checksum(tmp_path / file.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(work.output for work in WORKS)


def test_no_work_needs_no_spark(tmp_path: Path) -> None:
    assert run_units(None, sink_handlers.write_name, [], tmp_path) == sink.Outcome((), ())  # type: ignore[arg-type]


def test_bad_input_reaches_the_driver_as_what_it_is(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^ttbar/d/bad.root: entry 0 is bad$"):
        run_units(spark, sink_handlers.refuse_bad, WORKS, tmp_path)


def test_keep_going_lists_bad_files_once_with_their_first_reason(spark: SparkSession, tmp_path: Path) -> None:
    works = [*WORKS, work("ttbar/d/bad.root", 9, 20)]
    outcome = run_units(spark, sink_handlers.refuse_bad, works, tmp_path, keep_going=True)
    assert outcome.bad_files == (BadFile(source="ttbar/d/bad.root", reason="ttbar/d/bad.root: entry 0 is bad"),)
    assert [unit.source for unit in outcome.units] == ["qcd/d/a.root", "qcd/d/a.root", "qcd/d/b.root"]
    # What a bad unit had written is gone.
    assert len(list(tmp_path.iterdir())) == 3


def test_a_full_disk_reaches_the_driver_as_what_it_is(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught:
        run_units(spark, sink_handlers.fill_disk, WORKS, tmp_path, keep_going=True)
    assert caught.value.errno == 28
    assert list(tmp_path.iterdir()) == []


def test_a_bug_in_a_task_fails_the_job(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="a bug"):
        run_units(spark, sink_handlers.crash, WORKS[:1], tmp_path)


def test_progress_counts_units_whose_file_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EndsAfterOneRound:
        rounds = 0

        def wait(self, _: float) -> bool:
            self.rounds += 1
            return self.rounds > 1

    (tmp_path / WORKS[0].output).touch()
    (tmp_path / f".{WORKS[2].output}.half").touch()
    with caplog.at_level(logging.INFO, logger="toposieve.spark.sink"):
        sink._report(WORKS, tmp_path, EndsAfterOneRound())  # type: ignore[arg-type]
    assert "1 of 4 units done, 5 events" in caplog.text


def test_balance_starts_with_the_largest_and_evens_out() -> None:
    works = [work(f"qcd/d/{size}.root", 0, size) for size in (1, 2, 3, 4, 100, 50, 50, 0)]
    shares = [[unit.events for unit in share] for share in balance(works, 3)]
    assert shares == [[100], [50, 4, 1, 0], [50, 3, 2]]


def test_balance_does_not_depend_on_the_order_of_the_works() -> None:
    works = [work(f"qcd/d/{name}.root", 0, 5) for name in "abcdefg"]
    assert balance(works, 3) == balance(works[::-1], 3)


@pytest.mark.parametrize(
    ("units", "events", "cores", "tasks"), [(3, 10, 2, 3), (100, 10, 2, 8), (1000, 10_000, 2, 200)]
)
def test_task_count(units: int, events: int, cores: int, tasks: int) -> None:
    works = [work("qcd/d/a.root", 0, events)] * units
    assert sink._task_count(works, cores) == tasks


def test_split_done_keeps_units_of_the_same_input_and_range() -> None:
    def unit(checksum: str, stop: int) -> Unit:
        return Unit(source="a", source_checksum=checksum, entry_start=0, entry_stop=stop, counts={}, outputs=())

    works = [Work("a", "00", 0, 5, "x"), Work("b", "00", 0, 5, "y")]
    assert split_done(works, [unit("00", 5)]) == ([unit("00", 5)], [works[1]])
    assert split_done(works, [unit("01", 5), unit("00", 4)]) == ([], works)


def test_unit_names_follow_from_everything_that_decides_the_content() -> None:
    name = unit_name("qcd/d/a.root", "00", 0, "1f")
    others = {
        unit_name("ttbar/d/a.root", "00", 0, "1f"),
        unit_name("qcd/d/a.root", "01", 0, "1f"),
        unit_name("qcd/d/a.root", "00", 5, "1f"),
        unit_name("qcd/d/a.root", "00", 0, "2e"),
    }
    assert len({name, *others}) == 5
    assert name.startswith("a-0-")


def test_publish_says_when_there_was_nothing_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    manifest = Manifest(
        stage="test", config_hash="1f", config={}, units=(), code_version="v1", notes=("a: odd", "b: odd")
    )
    for version, expected in (("v1", "done: 0 new events of 0"), ("v2", "nothing to do")):
        caplog.clear()
        with Publication(tmp_path) as publication:
            publish(publication, manifest.model_copy(update={"code_version": version}), [], 0.0)
        assert expected in caplog.text
        assert "odd (2 of the files)" in caplog.text
    assert '"v1"' in (tmp_path / "manifest.json").read_text()
