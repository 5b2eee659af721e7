"""Anybody's script as the work of a gang, read from files. Nothing here starts anything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toposieve_airflow.runs.naming import short_hash

MOST_BYTES = 1 << 20
"""What Kubernetes takes in a ConfigMap, and in a Secret."""

VARIABLES = ("TF_CONFIG", "TOT_WORKERS", "WORKER_NUMBER")
"""Environment variables by which a script knows its gang: CERN's TF-Spawner has them too."""

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_TOO_LARGE = f"larger than the {MOST_BYTES >> 20} MiB that Kubernetes takes: keep data, and code to import, elsewhere"


class ScriptError(ValueError):
    """A script, or what goes with it, cannot be had or is wrong; the message says what to change."""


@dataclass(frozen=True)
class Script:
    """What each worker of a gang gets.

    Args:
        text: The script, in Python.
        requirements: What pip is to install first, as in a requirements file, if anything.
        variables: Environment variables, which may be secret.
        packages: Index (a URL) or folder of wheels that requirements come from; None: as the image's pip is set up.
    """

    text: str
    requirements: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    packages: str | None = None

    @property
    def digest(self) -> str:
        """What changes with the work; of the variables only the names, since others see a digest."""
        return short_hash([self.text, self.requirements, sorted(self.variables), self.packages])


def read_script(
    script: str, environment_file: str | None = None, requirements: str | None = None, packages: str | None = None
) -> Script:
    """Read a script and what goes with it.

    Args:
        script: Path of the script.
        environment_file: Path of a file with lines ``NAME=VALUE``, as Docker's ``--env-file``.
        requirements: Path of a requirements file of pip.
        packages: As for :class:`Script`.

    Raises:
        ScriptError: A file cannot be read, is too large, is no text, or has a line that is wrong.
    """
    text = _text("script", script)
    needs = _text("requirements", requirements) if requirements else None
    if len(text.encode()) + len((needs or "").encode()) > MOST_BYTES:
        raise ScriptError(f"script {script} and requirements {requirements} together are {_TOO_LARGE}")
    variables = _variables(environment_file) if environment_file else {}
    return Script(text, needs, variables, packages)


def _text(what: str, path: str) -> str:
    try:
        if Path(path).stat().st_size > MOST_BYTES:
            raise ScriptError(f"{what} {path} is {_TOO_LARGE}")
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ScriptError(f"{what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ScriptError(f"{what} {path} is not text in UTF-8") from None


def _variables(path: str) -> dict[str, str]:
    """Variables of an environment file; an error names the line and not what is in it, which may be secret."""
    variables = {}
    for number, line in enumerate(_text("environment file", path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ScriptError(f"environment file {path}: line {number} is not NAME=VALUE")
        if name in VARIABLES:
            raise ScriptError(f"environment file {path}: line {number} sets {name}, which every worker is given")
        variables[name] = value
    return variables
