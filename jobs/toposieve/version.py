"""The version of the code that made an output: recorded in manifests and reports, part of no hash."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

UNKNOWN, CHANGED = "unknown", "-dirty"
"""What a version is that nobody knows, and how one ends whose files were changed: neither names the code."""


@cache
def code_version() -> str:
    """``git describe`` of the checkout, ``TOPOSIEVE_VERSION`` in an image, or "unknown"."""
    version = os.environ.get("TOPOSIEVE_VERSION")
    if version:
        return version
    command = ["git", "describe", "--always", f"--dirty={CHANGED}", "--tags"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return run.stdout.strip()


def is_code_of(version: str) -> bool:
    """Whether a recorded version is that of this code, without a doubt."""
    return version == code_version() and version != UNKNOWN and not version.endswith(CHANGED)
