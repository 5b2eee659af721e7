"""What tasks do in the tests of the simulation; Spark's workers import it."""

from __future__ import annotations

from pathlib import Path


def write_to_full_disk(_task: object) -> None:
    """Meets a full disk, whatever the task."""
    Path("/dev/full").write_bytes(b"content")
