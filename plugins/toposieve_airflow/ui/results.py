"""What lies under the base, read from the newest manifests and the reports' metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from toposieve_airflow.runs.documents import Act, Manifest, Output, Report, Version, output_of

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{,254}")
"""Names of folders and files that the jobs give; nothing else is looked at."""

_MANIFEST = re.compile(r"manifest(?:-(\d{6,}))?\.json")
_RECORD = re.compile(r"(\d{6,})\.json")
_REMEMBERED = 4096
_report = msgspec.json.Decoder(Report).decode
_manifest = msgspec.json.Decoder(Manifest).decode
_version = msgspec.json.Decoder(Version).decode
_act = msgspec.json.Decoder(Act).decode
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


class Registered(NamedTuple):
    """What was put forward under a name, and what was published; by numbers, in order."""

    name: str
    versions: Mapping[int, Version]
    acts: Mapping[int, Act]

    @property
    def published(self) -> int | None:
        """Number of the published version."""
        return self.acts[max(self.acts)].version if self.acts else None

    @property
    def classes(self) -> list[str]:
        """What the versions tell apart."""
        return list(dict.fromkeys(name for version in self.versions.values() for name in version.classes))


class Results:
    """Results in a folder of this machine. What is no report, manifest or record of the registry is left out.

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
        """A file of a report, by its path below the report's folder, or None where there is none."""
        return self._file("reports", name, file)

    def firmware_file(self, place: str) -> Path | None:
        """A file of firmware, by its path below the folder of all firmware, or None where there is none."""
        return self._file("firmware", place)

    def firmware_page(self, version: Version) -> str | None:
        """Where the page of a version's firmware is, below the folder of all firmware; None where there is none."""
        places = (
            f"{dataset}/{version.architecture}/{version.model.run}/firmware.html"
            for dataset in version.made_of("datasets")
        )
        return next(filter(self.firmware_file, places), None)

    def _file(self, kind: str, *names: str) -> Path | None:
        """A file below a folder of the base: no name leads elsewhere, nor does a link."""
        if not is_place("/".join(names)):
            return None
        path = (self.base / kind).resolve().joinpath(*names)
        return path if path.is_file() and path.resolve() == path else None

    def registered(self) -> list[Registered]:
        """What the registry has, by name."""
        folder = self.base / "registry"
        return [
            Registered(
                name, _records(folder / name / "versions", _version), _records(folder / name / "published", _act)
            )
            for name in self.names("registry")
        ]

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
    numbers = _numbered(folder, _MANIFEST)
    yield from sorted(numbers, key=numbers.__getitem__, reverse=True)


def _numbered(folder: Path, name: re.Pattern[str]) -> dict[Path, int]:
    """Files of a folder with the number in their names, 0 for none."""
    try:
        matches = {path: name.fullmatch(path.name) for path in folder.iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {path: int(match[1] or 0) for path, match in matches.items() if match}


def _records(folder: Path, parse: Callable[[bytes], Document]) -> dict[int, Document]:
    """Number → numbered record of a folder, in order."""
    numbers = _numbered(folder, _RECORD)
    found = {number: _read(path, parse) for path, number in sorted(numbers.items(), key=lambda each: each[1])}
    return {number: record for number, record in found.items() if record is not None}


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
