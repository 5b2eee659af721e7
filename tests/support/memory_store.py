"""A store in memory whose every operation may be the moment at which somebody else goes on.

Its variants behave as badly as the real thing may: listings that are old, answers that are lost, writes in two steps.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, cast

from toposieve.io.store import Stat

START = 1_000_000.0
"""Seconds since 1970 when the story begins."""


@dataclass(frozen=True)
class Semantics:
    """How a kind of store behaves where kinds differ."""

    name: str
    two_steps: bool = False
    """Objects are written under a temporary name and renamed; in between others see that name."""
    lost_answers: bool = False
    """The first answer to every write of client "a" is lost, and the store's client repeats the request."""
    list_lag: int = 0
    """Listings show a folder as it was so many changes ago, but not as it was before their client's last change."""
    hard_links: bool = True
    """Without them an object that must not replace another is empty at first."""


POSIX = Semantics("posix")
NFS = Semantics("nfs", list_lag=6)
S3 = Semantics("s3", lost_answers=True)
HDFS = Semantics("hdfs", two_steps=True)
NO_LINKS = Semantics("no links", hard_links=False)


class MemoryFile:
    """What the code above the store uses of the local file that it is given."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content

    def read_bytes(self) -> bytes:
        return self.content

    def write_bytes(self, content: bytes) -> None:
        self.content = content

    def open(self, mode: str) -> BinaryIO:
        assert mode == "rb"
        return io.BytesIO(self.content)

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=len(self.content))


Objects = dict[str, tuple[bytes, float]]


@dataclass
class MemoryStore:
    """Objects, each with its content and the time at which it was written."""

    semantics: Semantics = POSIX
    clock: float = START
    client: Callable[[], str] = lambda: ""
    """Who is asking."""
    point: Callable[[str, str], None] = lambda verb, key: None
    """Called before each operation; it returns when the operation is to be done."""
    changed: Callable[[str], None] = lambda key: None
    """Called after each change of an object."""
    observed: Callable[[object], None] = lambda result: None
    """Called with each answer."""
    sleep: Callable[[float], None] = lambda seconds: None
    """Called in place of ``time.sleep``."""
    objects: Objects = field(default_factory=dict)
    past: list[Objects] = field(default_factory=list)
    """What there was before each change, the last few."""
    changes: int = 0
    seen: dict[tuple[str, str], int] = field(default_factory=dict)
    """Client and folder → the number of changes that its listings show at least."""
    temporaries: dict[str, int] = field(default_factory=dict)

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        self.point("list", f"{folder}/{prefix}")
        start = f"{folder}/" if folder else ""
        current = self.client()
        found = []
        for parent in self._folders(start):
            objects = self._as_seen(current, parent)
            inside = (key for key in objects if key.rpartition("/")[0] == parent and key.startswith(start + prefix))
            found += [(key.removeprefix(start), _stat(*objects[key])) for key in inside]
        self.observed(tuple(found))
        return iter(found)

    def stat(self, key: str) -> Stat | None:
        self.point("stat", key)
        found = self.objects.get(key)
        self.observed(found)
        return _stat(*found) if found else None

    def checksum(self, key: str) -> str | None:
        return None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        raise NotImplementedError

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        self.point("read", key)
        found = self.objects.get(key)
        self.observed(found)
        if found is None:
            raise FileNotFoundError(key)
        yield cast(Path, MemoryFile(found[0]))

    @contextmanager
    def create(self, key: str, suffix: str = "") -> Iterator[Path]:
        file = MemoryFile()
        temporary = self._begin(key, suffix) if self.semantics.two_steps else ""
        yield cast(Path, file)
        self.point("create", key)
        if temporary:
            if temporary not in self.objects:
                raise FileNotFoundError(temporary)
            self._remove(temporary)
        self.put(key, file.content)
        if self._loses_answers():
            self.point("create again", key)
            self.put(key, file.content)

    def create_if_absent(self, key: str, content: bytes) -> bool:
        self.point("create if absent", key)
        made = key not in self.objects
        self._sees_all_of(key)  # what is linked there was written beside it first
        if made:
            self.put(key, content if self.semantics.hard_links else b"")
        if made and not self.semantics.hard_links:
            self.point("fill", key)
            self.put(key, content)
        if made and self._loses_answers():
            self.point("create if absent again", key)
            made = key not in self.objects
        self.observed(made)
        return made

    def delete(self, *keys: str) -> None:
        self.point("delete", keys[0])
        for key in keys:
            self._remove(key)

    def put(self, key: str, content: bytes) -> None:
        """Change an object at once."""
        self._remember(key)
        self.objects[key] = (content, self.clock)
        self.changed(key)

    def forget_past(self) -> None:
        """Let every listing show what there is: so much time has passed."""
        self.past.clear()

    def state(self) -> int:
        """A number that differs where anything differs that somebody may find."""
        past = tuple(hash(frozenset(objects.items())) for objects in self.past)
        floors = frozenset((who, max(0, n - self.changes + len(past))) for who, n in self.seen.items())
        return hash((frozenset(self.objects.items()), self.clock, past, floors if past else 0))

    def _remove(self, key: str) -> None:
        if key in self.objects:
            self._remember(key)
            del self.objects[key]
            self.changed(key)

    def _begin(self, key: str, suffix: str) -> str:
        self.point("begin", key)
        number = self.temporaries[self.client()] = self.temporaries.get(self.client(), 0) + 1
        temporary = f"{key.rpartition('/')[0]}/.tmp-{self.client()}{number}{suffix}"
        self.put(temporary, b"")
        return temporary

    def _loses_answers(self) -> bool:
        return self.semantics.lost_answers and self.client() == "a"

    def _remember(self, key: str) -> None:
        self.changes += 1
        if self.semantics.list_lag:
            self.past = [*self.past[1 - self.semantics.list_lag :], dict(self.objects)]
            self._sees_all_of(key)

    def _sees_all_of(self, key: str) -> None:
        if self.semantics.list_lag:
            self.seen[self.client(), key.rpartition("/")[0]] = self.changes

    def _as_seen(self, client: str, parent: str) -> Objects:
        """The oldest state that a client may still see of a folder, its files only."""
        lag = min(len(self.past), self.changes - self.seen.get((client, parent), 0))
        return self.past[-lag] if lag else self.objects

    def _folders(self, start: str) -> set[str]:
        everything = set(self.objects).union(*self.past)
        return {key.rpartition("/")[0] for key in everything if key.startswith(start)}


def _stat(content: bytes, modified: float) -> Stat:
    return Stat(len(content), str(modified), modified)
