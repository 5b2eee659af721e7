import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from toposieve_demo.progress import Display, TaskLine, errors, has_name, last_message, task_line

NOW = datetime(2026, 1, 1, 12, 1, 5, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "attempt=1.log"


def write(log: Path, *entries: dict[str, Any]) -> None:
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def task(**changes: Any) -> dict[str, Any]:
    given = {"task_id": "train", "map_index": 1, "rendered_map_index": "hlf", "state": "running"}
    return {**given, "start_date": "2026-01-01T12:00:00Z", "end_date": None, **changes}


def line(state: str, said: str = "") -> TaskLine:
    return TaskLine("ingest", state, 1.0, said)


def test_last_line_of_the_job_is_shown_without_the_noise_around_it(log: Path) -> None:
    write(
        log,
        {"event": "2026-01-01 12:00:01,000 INFO toposieve.spark.sink: 3 of 4 units done"},
        {"event": "26/01/01 12:00:02 INFO BlockManager: Spark talks"},
        {"event": "#-------- PYTHIA"},
        {"event": "::endgroup::"},
    )
    assert last_message(log) == "3 of 4 units done"


def test_workers_keep_their_index(log: Path) -> None:
    write(log, {"event": "[worker 1] worker 1/2 2026-01-01 12:00:01,000 INFO train: epoch 1/6"})
    assert last_message(log) == "[worker 1] epoch 1/6"


def test_no_log_yet(log: Path) -> None:
    assert last_message(log) == ""
    assert errors(log) == []


def test_long_logs_are_read_from_their_end(log: Path) -> None:
    write(log, *[{"event": f"2026-01-01 12:00:01,000 INFO job: step {number}"} for number in range(5000)])
    assert last_message(log) == "step 4999"


def test_errors_are_those_of_the_exceptions(log: Path) -> None:
    write(log, {"event": "Task failed with exception", "error_detail": [{"exc_value": "a.root: no tree"}]})
    assert errors(log) == ["a.root: no tree"]


def test_without_an_exception_the_last_lines_are_shown(log: Path) -> None:
    write(log, *[{"event": f"line {number}"} for number in range(50)])
    assert errors(log) == [f"line {number}" for number in range(40, 50)]


def test_line_of_a_running_task(log: Path) -> None:
    write(log, {"event": "2026-01-01 12:00:01,000 INFO train: epoch 2/6"})
    shown = task_line(task(), log, NOW)
    assert shown == TaskLine("train hlf", "running", 65.0, "epoch 2/6")
    assert shown.text(200).split() == ["train", "hlf", "running", "1:05", "epoch", "2/6"]
    assert len(shown.text(20)) == 20


def test_line_of_a_task_that_has_ended_or_not_begun(log: Path) -> None:
    ended = task_line(task(state="success", end_date="2026-01-01T12:00:30Z"), log, NOW)
    assert (ended.seconds, ended.said) == (30.0, "")
    waiting = task_line(task(state=None, start_date=None, map_index=-1, rendered_map_index=None), log, NOW)
    assert (waiting.name, waiting.state, waiting.seconds) == ("train", "waiting", None)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"rendered_map_index": None}, False),
        ({"rendered_map_index": "1"}, False),
        ({"rendered_map_index": None, "state": None}, False),
        ({"rendered_map_index": None, "state": "upstream_failed"}, True),
        ({"rendered_map_index": None, "map_index": -1}, True),
    ],
)
def test_mapped_tasks_are_shown_once_their_label_is_known(changes: dict[str, Any], shown: bool) -> None:
    assert has_name(task(**changes)) is shown


def test_without_a_terminal_only_changes_are_written() -> None:
    stream = io.StringIO()
    display = Display(stream)
    for time_s, shown in enumerate([line("queued"), line("running"), line("running", "1 of 2"), line("success")]):
        display.update([shown], float(time_s))
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["running", "success"]


def test_without_a_terminal_long_tasks_show_their_progress_now_and_then() -> None:
    stream = io.StringIO()
    display = Display(stream)
    display.update([line("running")], 0.0)
    display.update([line("running", "1 of 9")], 10.0)
    display.update([line("running", "5 of 9")], 40.0)
    assert stream.getvalue().count("\n") == 2
    assert "5 of 9" in stream.getvalue()


def test_on_a_terminal_lines_are_redrawn_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = Display(stream)
    display.update([line("running"), line("waiting")], 0.0)
    assert "\x1b[2A" not in stream.getvalue()
    display.update([line("success"), line("running")], 1.0)
    assert "\x1b[2A\x1b[J" in stream.getvalue()
