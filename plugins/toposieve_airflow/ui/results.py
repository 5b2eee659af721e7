"""What lies under the base, read from the newest manifests and the reports' metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from toposieve_airflow.ui.documents import Manifest, Output, Report, output_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{,254}")
"""Names of folders and files that the jobs give; nothing else is looked at."""

_MANIFEST = re.compile(r"manifest(?:-(\d{6,}))?\.json")
_REMEMBERED = 4096
_report = msgspec.json.Decoder(Report).decode
_manifest = msgspec.json.Decoder(Manifest).decode
Document = TypeVar("Document")


def is_place(path: str) -> bool:
    """Whether each part of a path is a name that the jobs give.

    >>> is_place("r/report.html"), is_place("r/../report.html")
    (True, False)
    """
    return all(NAME.fullmatch(part) for part in path.split("/"))


class Written(NamedTuple):
    """A report, and when it was written."""

    report: Report
    time: datetime


class Results:
    """Results in a folder of this machine. What is no report or manifest is left out.

    Args:
        base: Where all data lies.
    """

    def __init__(self, base: Path) -> None:
        """Read nothing yet."""
        self.base = base
        self.why = ""
        """Why they cannot be seen from here, where that is known."""

    def are_here(self) -> bool:
        """Whether the folder can be seen from here; a volume need not be mounted."""
        return self.base.is_dir()

    def reports(self) -> list[Written]:
        """Every report."""
        found = (self.report(name) for name in self.names("reports"))
        return [report for report in found if report is not None]

    def report(self, name: str) -> Written | None:
        """One report, or None where there is none of this name."""
        path = self.base / "reports" / name / "metrics.json"
        report = _read(path, _report) if NAME.fullmatch(name) else None
        return None if report is None else Written(report, datetime.fromtimestamp(path.stat().st_mtime, UTC))

    def report_file(self, name: str, file: str) -> Path | None:
        """A file of a report, or None where there is none: no name leads elsewhere, nor does a link.

        Args:
            name: Of the report.
            file: Its path below the report's folder.
        """
        if not is_place(f"{name}/{file}"):
            return None
        path = (self.base / "reports").resolve() / name / file
        return path if path.is_file() and path.resolve() == path else None

    def names(self, *folders: str) -> list[str]:
        """Names of the folders in a folder below the base, in order."""
        try:
            entries = list(self.base.joinpath(*folders).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_dir())

    def output(self, *folders: str) -> Output | None:
        """What a folder below the base holds, by its newest manifest; None where there is none."""
        if not all(NAME.fullmatch(name) for name in folders):
            return None
        found = (_read(path, _output) for path in _manifests(self.base.joinpath(*folders)))
        return next((output for output in found if output is not None), None)


def _manifests(folder: Path) -> Iterator[Path]:
    """Manifests of a folder, the newest first: the highest number, unless only a stub of it is left."""
    try:
        matches = {path: _MANIFEST.fullmatch(path.name) for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return
    numbers = {path: int(match[1] or 0) for path, match in matches.items() if match}
    yield from sorted(numbers, key=numbers.__getitem__, reverse=True)


def _output(content: bytes) -> Output:
    return output_of(_manifest(content))


def _read(path: Path, parse: Callable[[bytes], Document]) -> Document | None:
    try:
        stat = path.stat()
        return _remembered(path, stat.st_mtime_ns, stat.st_size, parse)
    except (FileNotFoundError, NotADirectoryError):
        return None


@lru_cache(maxsize=_REMEMBERED)
def _remembered(path: Path, modified: int, size: int, parse: Callable[[bytes], Document]) -> Document | None:
    """A document, which is read again when its file has changed."""
    try:
        return parse(path.read_bytes())
    except msgspec.DecodeError:
        return None
