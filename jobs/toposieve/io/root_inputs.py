"""Which ROOT files are meant by paths, folders and patterns, and how they are shared out to tasks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key, root_key

SUFFIX = ".root"

_WILDCARD = r"[*?\[]"

OPENING_BYTES = 4 << 20
"""To open a file costs as much as to read so many bytes."""


@dataclass(frozen=True)
class RootFile:
    """A file to read."""

    key: Key
    size: int


@dataclass(frozen=True)
class Piece:
    """The entries of part ``index`` of ``parts`` of a file. Their numbers are known once the file is open."""

    file: RootFile
    index: int = 0
    parts: int = 1

    def entries(self, total: int) -> tuple[int, int]:
        """First entry, and after the last one, of a file of so many.

        >>> [Piece(RootFile(Key("/raw/a.root"), 100), index, 3).entries(10) for index in range(3)]
        [(0, 3), (3, 6), (6, 10)]
        """
        return total * self.index // self.parts, total * (self.index + 1) // self.parts


def find_root_files(locations: Sequence[str]) -> list[RootFile]:
    """Files of some locations, each once, by name.

    Args:
        locations: Paths or URLs of files, of folders (all ``*.root`` in and below), or patterns of either: ``*``, ``?``
            and ``[...]`` stand for parts of one name. Names that begin with a dot or an underscore are found only by a
            pattern that does so too.

    Raises:
        InvalidInputError: There is no file at one of them, or its store refuses.
    """
    found = {file.key: file for location in locations for file in _find(location)}
    return sorted(found.values(), key=lambda file: str(file.key))


def _find(location: str) -> list[RootFile]:
    folder, _, name = location.rstrip("/").rpartition("/")
    parent = root_key("path", folder or ("/" if location.startswith("/") else "."))
    stat = (parent / name).stat()
    if stat is not None:
        return [RootFile(parent / name, stat.size)]
    fixed, pattern = _split(location)
    root = root_key("path", fixed or ".")
    start = re.split(_WILDCARD, pattern[0])[0] if pattern else ""
    listed = root.list(start).items()
    files = [RootFile(root / path, stat.size) for path, stat in listed if _is_meant(path, pattern)]
    if not files:
        raise InvalidInputError(f"no ROOT files (*{SUFFIX}) in {location}: mend the path, or put some there")
    return files


def _split(location: str) -> tuple[str, list[str]]:
    """The folder before the first name with a wildcard, and the names from there on.

    >>> _split("work/raw/*/2026-01-01/*.root")
    ('work/raw', ['*', '2026-01-01', '*.root'])
    """
    names = location.rstrip("/").split("/")
    first = next((number for number, name in enumerate(names) if re.search(_WILDCARD, name)), len(names))
    return "/".join(names[:first]) or location[:1].strip("*?["), names[first:]


def _is_meant(path: str, pattern: Sequence[str]) -> bool:
    """Whether a path is what a pattern names, or a ROOT file in a folder that it names."""
    names = path.split("/")
    if len(names) < len(pattern) or not all(map(_matches, names, pattern)):
        return False
    below = names[len(pattern) :]
    return not below or (path.endswith(SUFFIX) and not any(name.startswith((".", "_")) for name in below))


def _matches(name: str, pattern: str) -> bool:
    hidden = name[0] in "._" and pattern[0] != name[0]
    return not hidden and fnmatchcase(name, pattern)


def share_out(files: Iterable[RootFile], share: float, part_bytes: int, *, whole: bool = False) -> list[list[Piece]]:
    """Cut big files into pieces and put small ones together, so that tasks have about the same to read.

    Args:
        files: In order.
        share: Of a file's bytes, how much is read.
        part_bytes: To read in one task.
        whole: Leave files in one piece.

    Returns:
        What each task reads. It depends on the files alone, not on how many cores there are.
    """
    tasks: list[list[Piece]] = []
    room = 0.0
    for file in files:
        parts = 1 if whole else max(1, math.ceil(file.size * share / part_bytes))
        cost = OPENING_BYTES + file.size * share / parts
        for index in range(parts):
            if not tasks or cost > room:
                tasks.append([])
                room = OPENING_BYTES + part_bytes
            tasks[-1].append(Piece(file, index, parts))
            room -= cost
    return tasks
