"""One live line per task of a run: state, time, and the last thing that its log says."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

TAIL_BYTES = 20_000
LAST_LINES = 10
QUIET_S = 30.0
"""Where lines cannot be redrawn, a running task is shown again after this long."""

NOT_STARTED = {"waiting", "scheduled", "queued"}
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}

# A line that one of our jobs has logged, as opposed to one of Spark's, Pythia's or Airflow's.
_JOB_LINE = re.compile(
    r"(?P<worker>\[worker \d+\] )?(?:worker \d+/\d+ )?[\d-]{10} [\d:,]+ (?:INFO|WARNING|ERROR) [\w.]+: (?P<message>.*)"
)


@dataclass(frozen=True)
class TaskLine:
    """What is known of one task instance."""

    name: str
    state: str
    seconds: float | None
    """How long it has run, or ran."""
    said: str
    """Last line of its log."""

    def text(self, width: int) -> str:
        """The line, cut to a width.

        >>> TaskLine("train hlf", "running", 71.0, "epoch 2/6").text(60)
        'train hlf                    running         1:11  epoch 2/6'
        """
        elapsed = "" if self.seconds is None else f"{int(self.seconds) // 60}:{int(self.seconds) % 60:02d}"
        return f"{self.name:<28} {self.state:<14} {elapsed:>5}  {self.said}".rstrip()[:width]


def task_line(task: Mapping[str, Any], log: Path, now: datetime) -> TaskLine:
    """Line of a task instance as the REST API describes it.

    Args:
        task: The task instance.
        log: Log of its current try.
        now: Time of day, with time zone.
    """
    label = task.get("rendered_map_index") or (task["map_index"] if task["map_index"] >= 0 else "")
    return TaskLine(
        name=f"{task['task_id']} {label}".strip(),
        state=task["state"] or "waiting",
        seconds=_seconds(task, now),
        said=last_message(log) if task["state"] == "running" else "",
    )


def has_name(task: Mapping[str, Any]) -> bool:
    """Whether a task instance can be shown: the label of a mapped one is known once it has begun, or never."""
    has_label = task.get("rendered_map_index") not in (None, "", str(task["map_index"]))
    return task["map_index"] < 0 or has_label or task["state"] in ENDED


def last_message(log: Path) -> str:
    """What the job that a task runs has logged last."""
    messages = [message for message in map(_message, _last_lines(log)) if message]
    return messages[-1] if messages else ""


def errors(log: Path) -> list[str]:
    """Messages of the exceptions in a task's log, the errors that ended it; without any, the last lines of the log."""
    entries = [_parse(line) for line in _last_lines(log)]
    found = [str(error["exc_value"]) for entry in entries for error in entry.get("error_detail") or []]
    return found or [str(entry["event"]) for entry in entries if "event" in entry][-LAST_LINES:]


class Display:
    """Shows the lines: redrawn in place on a terminal, and otherwise each one as its state changes.

    Args:
        stream: Where to write.
    """

    def __init__(self, stream: TextIO) -> None:
        """Nothing is shown until the first update."""
        self._stream = stream
        self._in_place = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._height = 0
        self._shown: dict[str, tuple[str, float]] = {}

    def update(self, lines: Sequence[TaskLine], time_s: float) -> None:
        """Show the present state.

        Args:
            lines: One for each task.
            time_s: A clock that goes forward.
        """
        if self._in_place:
            self._redraw(lines)
        else:
            self._append(lines, time_s)
        self._stream.flush()

    def _redraw(self, lines: Sequence[TaskLine]) -> None:
        width = shutil.get_terminal_size().columns
        if self._height:
            self._stream.write(f"\x1b[{self._height}A\x1b[J")
        for line in lines:
            self._stream.write(f"{line.text(width)}\n")
        self._height = len(lines)

    def _append(self, lines: Sequence[TaskLine], time_s: float) -> None:
        for line in lines:
            state, since = self._shown.get(line.name, ("", 0.0))
            is_due = line.state == "running" and line.said and time_s - since >= QUIET_S
            if (line.state != state and line.state not in NOT_STARTED) or is_due:
                self._stream.write(line.text(200) + "\n")
                self._shown[line.name] = (line.state, time_s)


def _seconds(task: Mapping[str, Any], now: datetime) -> float | None:
    if task.get("start_date") is None:
        return None
    end = _time(task["end_date"]) if task.get("end_date") else now
    return (end - _time(task["start_date"])).total_seconds()


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return stream.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _message(line: str) -> str:
    match = _JOB_LINE.fullmatch(str(_parse(line).get("event", "")).strip())
    return (match["worker"] or "") + match["message"] if match else ""


def _parse(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:  # the first line of a tail may be cut
        return {}
    return entry if isinstance(entry, dict) else {}
