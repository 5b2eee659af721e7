"""How a job ends: its exit code, and the lines in which it says why."""

from __future__ import annotations

from collections.abc import Sequence

INVALID_INPUT_EXIT_CODE = 2
"""Exit code of a job for invalid input or configuration: never worth a retry."""

TAIL_LINES = 20
"""Last lines of a process that are kept for its error."""


def error_line(lines: Sequence[str]) -> str:
    """The job's own error if it printed one (``error: ...``, every such line), otherwise its last lines."""
    errors = [line.partition("error: ")[2] for line in lines if line.startswith("error: ")]
    return "\n".join(errors or lines) or "it printed nothing"
