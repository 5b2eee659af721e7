import sys
from concurrent.futures import Future

import pytest

from toposieve.errors import InvalidInputError
from toposieve.io.manifests import Unit
from toposieve.simulation import schedule
from toposieve.simulation.schedule import ProgressLog, SampleProgress, run_schedule


def unit(index: int, selected: int, events: int = 100) -> Unit:
    counts = {"generated": 10 * events, "events": events, "selected": selected}
    return Unit(source=f"file {index}", source_checksum="", entry_start=0, entry_stop=events, counts=counts, outputs=())


def run_at_once(selected: dict[str, list[int]], started: list[tuple[str, int]]):
    """A submit function whose files are ready at once, with these numbers of selected events."""

    def submit(sample: str, index: int) -> Future[Unit]:
        started.append((sample, index))
        future: Future[Unit] = Future()
        future.set_result(unit(index, selected[sample][index]))
        return future

    return submit


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_a_sample_is_the_shortest_run_of_files_that_reaches_the_target(slots):
    started = []
    samples = [SampleProgress("qcd", target=100, events_per_file=100)]
    ((name, files),) = run_schedule(samples, run_at_once({"qcd": [40, 35, 30, 99, 99, 99, 99, 99]}, started), slots)
    assert name == "qcd"
    assert [file.source for file in files] == ["file 0", "file 1", "file 2"]
    assert len(started) <= 3 + slots


def test_finished_files_are_not_made_again():
    started = []
    progress = SampleProgress("qcd", target=100, events_per_file=100, finished={0: unit(0, 60)})
    list(run_schedule([progress], run_at_once({"qcd": [60, 60]}, started), 1))
    assert started == [("qcd", 1)]


def test_slow_samples_come_first_and_quick_ones_fill_the_gaps():
    started = []
    samples = [SampleProgress(name, target=50, events_per_file=100) for name in ("qcd", "wjets")]
    done = [name for name, _ in run_schedule(samples, run_at_once({"qcd": [60], "wjets": [60]}, started), 2)]
    assert started == [("qcd", 0), ("wjets", 0)]
    assert sorted(done) == ["qcd", "wjets"]


def test_a_gap_in_the_files_is_waited_for():
    progress = SampleProgress("qcd", target=100, events_per_file=100, finished={0: unit(0, 60), 2: unit(2, 60)})
    assert progress.files() is None
    assert progress.start_next() == 1
    assert progress.start_next() is None
    progress.finish(1, unit(1, 30))
    assert [file.source for file in progress.files()] == ["file 0", "file 1", "file 2"]
    assert progress.start_next() is None


def test_files_in_the_making_count_with_the_mean():
    progress = SampleProgress("qcd", target=100, events_per_file=100, finished={0: unit(0, 60)})
    assert [progress.start_next(), progress.start_next()] == [1, None]
    progress.finish(1, unit(1, 30))
    assert [progress.start_next(), progress.start_next()] == [2, None]


def test_nothing_selected_at_all_is_said():
    progress = SampleProgress("qcd", target=10, events_per_file=2000)
    progress.start_next()
    with pytest.raises(InvalidInputError, match=r"none of 2,000 simulated events passes .* lower the key pileup"):
        progress.finish(0, unit(0, 0, events=2000))


@pytest.mark.parametrize("found", [0, 50])
def test_the_work_grows_with_the_number_of_files_and_no_faster(found):
    """Whether they are to be made, or half of them are there already, every other one."""

    def lines_run(files: int) -> int:
        there = {2 * index: unit(2 * index, 1) for index in range(files * found // 100)}
        progress = SampleProgress("qcd", target=files, events_per_file=100, finished=there)
        lines = 0

        def trace(frame, event, _):
            nonlocal lines
            lines += event == "line"
            return trace if frame.f_code.co_filename == schedule.__file__ else None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            ((_, made),) = run_schedule([progress], run_at_once({"qcd": [1] * (files + 8)}, []), 8)
        finally:
            sys.settrace(before)
        assert len(made) == files
        return lines

    assert lines_run(400) < 4.2 * lines_run(100)


def test_progress_says_rate_and_remaining_time():
    times = iter([0.0, 10.0])
    log = ProgressLog(clock=lambda: next(times))
    progress = SampleProgress("qcd", target=100, events_per_file=100)
    log.begin(progress)
    progress.finish(0, unit(0, 50))
    expected = "qcd: 50 of 100 selected events, 100 events in 1 files, 10.0 events/s, about 10 s left"
    assert log.describe(progress, 10.0) == expected
