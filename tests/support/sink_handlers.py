"""What tasks do in the tests of the sink and of full disks; Spark's workers import it."""

from __future__ import annotations

from pathlib import Path

from toposieve.errors import InvalidInputError
from toposieve.io.parquet import EVENTS_SCHEMA, event_writer
from toposieve.spark.sink import Summary, Work


def write_name(work: Work, path: Path) -> Summary:
    """A good task."""
    path.write_text(work.output)
    return Summary({"events": work.events}, {"events": 0.5 * work.events}, ("odd",) if work.entry_start % 2 else ())


def refuse_bad(work: Work, path: Path) -> Summary:
    """Finds sources with "bad" in their name bad, after it has written a part."""
    summary = write_name(work, path)
    if "bad" in work.source:
        raise InvalidInputError(f"{work.source}: entry {work.entry_start} is bad")
    return summary


def fill_disk(work: Work, path: Path) -> Summary:
    """Meets a full disk, as pyarrow does."""
    write_name(work, path)
    with event_writer(Path("/dev/full"), EVENTS_SCHEMA):
        return Summary({}, {})


def write_to_full_disk(*_: object) -> None:
    """Meets a full disk, whatever the task."""
    Path("/dev/full").write_bytes(b"content")


def crash(work: Work, path: Path) -> Summary:
    """Has a bug."""
    write_name(work, path)
    raise ZeroDivisionError("a bug")
