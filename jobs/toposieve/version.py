"""The version of the code that made an output: recorded in manifests and reports, part of no hash."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path


@cache
def code_version() -> str:
    """``git describe`` of the checkout, ``TOPOSIEVE_VERSION`` in an image, or "unknown"."""
    version = os.environ.get("TOPOSIEVE_VERSION")
    if version:
        return version
    command = ["git", "describe", "--always", "--dirty", "--tags"]
    try:
        run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()
