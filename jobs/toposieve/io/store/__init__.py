"""Where data lies: one protocol of few verbs, one module for each kind of storage, and keys in place of paths.

A kind is the module named like its scheme (``s3.py`` for ``s3://``), with a function ``open_store(url) -> Store``; a
path without a scheme is :mod:`~toposieve.io.store.file`. A store is opened by the process that uses it, never before a
fork.
"""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol

from toposieve.errors import InvalidInputError


@dataclass(frozen=True)
class Stat:
    """What a store knows of an object without reading it."""

    size: int
    version: str
    """Changes with the content: a time of modification or an ETag. Of this store only, so part of no identity."""
    modified: float
    """Seconds since 1970, by the store's clock."""


class Store(Protocol):
    """Objects under keys: strings such as ``events/2026-01-01/manifest-000001.json``, relative to the store's root.

    Every verb raises InvalidInputError where the store refuses (no such bucket, wrong key, not allowed; the message
    says what to do), :class:`~toposieve.errors.UnavailableError` where it cannot be reached, and FileNotFoundError
    where an object that is to be read is not there.
    """

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """Objects in and below a folder, in any order, keys relative to it. None where the folder is not there.

        With a prefix, only those whose relative key starts with it, at the cost of these alone where the store can.
        The answer may be some seconds old (NFS).
        """
        ...

    def stat(self, key: str) -> Stat | None:
        """Size and version of an object, or None where there is none."""
        ...

    def checksum(self, key: str) -> str | None:
        """Adler-32 of an object's bytes, eight hexadecimal digits, or None where the store does not know it."""
        ...

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Parts of an object, each (offset, length), in as few requests as the store can."""
        ...

    def fetch(self, key: str) -> AbstractContextManager[Path]:
        """The whole object as a file on this machine while the block runs: itself, or a copy in local scratch."""
        ...

    def create(self, key: str, suffix: str = "") -> AbstractContextManager[Path]:
        """A local file to write, which becomes the object when the block ends well, whole at once; replaces."""
        ...

    def create_if_absent(self, key: str, content: bytes) -> bool:
        """Make a small object, whole at once, unless there is one under the key already; says whether it did."""
        ...

    def delete(self, *keys: str) -> None:
        """Remove objects, in as few requests as the store can; well if there are none."""
        ...


@dataclass(frozen=True, order=True)
class Key:
    """Place of an object or a folder: what paths are to a file system. Small, and picklable: it holds no connection.

    >>> str(Key("s3://lhc/toposieve") / "events" / "2026-01-01")
    's3://lhc/toposieve/events/2026-01-01'
    """

    root: str
    """URL of the store, or an absolute path."""
    path: str = ""
    """Below the root, without slashes at its ends."""

    def __str__(self) -> str:
        """As a user would write it."""
        root = self.root if self.root.endswith("://") else self.root.rstrip("/")
        return f"{root}/{self.path}" if self.path else self.root

    def __truediv__(self, name: str) -> Key:
        """A place below this one."""
        return Key(self.root, f"{self.path}/{name}" if self.path else name)

    @property
    def name(self) -> str:
        """Last component."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Key:
        """The folder that it lies in."""
        return Key(self.root, self.path.rpartition("/")[0])

    @property
    def store(self) -> Store:
        """The store, opened once in each process."""
        return _opened(self.root, os.getpid())

    @property
    def is_remote(self) -> bool:
        """Whether reading a part costs less than fetching the whole."""
        return "://" in self.root

    def relative_to(self, folder: Key) -> str:
        """Path below a folder that it lies in."""
        return self.path.removeprefix(folder.path).removeprefix("/")

    def list(self, prefix: str = "") -> dict[str, Stat]:
        """Everything in and below this folder whose path relative to it starts so, by that path."""
        return dict(self.store.list(self.path, prefix))

    def stat(self) -> Stat | None:
        """Size and version, or None where there is nothing."""
        return self.store.stat(self.path)

    def checksum(self) -> str | None:
        """The store's Adler-32, where it knows it."""
        return self.store.checksum(self.path)

    def read_bytes(self) -> bytes:
        """The whole of a small object."""
        with self.fetch() as path:
            return path.read_bytes()

    def read_text(self) -> str:
        """The whole of a small text, UTF-8."""
        return self.read_bytes().decode()

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Parts, each (offset, length)."""
        return self.store.read_ranges(self.path, ranges)

    def fetch(self) -> AbstractContextManager[Path]:
        """The object as a local file while the block runs."""
        return self.store.fetch(self.path)

    def create(self) -> AbstractContextManager[Path]:
        """A local file to write, with this key's suffix; it becomes the object when the block ends well."""
        return self.store.create(self.path, os.path.splitext(self.name)[1])

    def write_bytes(self, content: bytes) -> None:
        """Write a small object, whole at once; replaces."""
        with self.create() as path:
            path.write_bytes(content)

    def write_text(self, text: str) -> None:
        """Write a small text as UTF-8, whole at once; replaces."""
        self.write_bytes(text.encode())

    def create_if_absent(self, content: bytes) -> bool:
        """Make a small object unless there is one; says whether it did."""
        return self.store.create_if_absent(self.path, content)

    def delete(self) -> None:
        """Remove the object; well if there is none."""
        self.store.delete(self.path)

    def delete_below(self, *names: str) -> None:
        """Remove several objects of this folder, by their paths relative to it."""
        if names:
            self.store.delete(*((self / name).path for name in names))


def root_key(option: str, location: str) -> Key:
    """The root that an option names: a URL, or a path of this machine.

    Raises:
        InvalidInputError: No module knows the URL's scheme.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        return Key(str(Path(location).expanduser().absolute()))
    if scheme == "file":
        return root_key(option, rest)
    if scheme not in kinds():
        known = ", ".join(f"{kind}://" for kind in sorted(kinds()))
        raise InvalidInputError(f"{option} {location}: unknown scheme {scheme}://; known are {known} and plain paths")
    return Key(f"{scheme}://{rest.rstrip('/')}")


def kinds() -> set[str]:
    """Schemes of the URLs that can be opened: the modules of this package, but for those that only help."""
    return {module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")}


@cache
def _opened(root: str, pid: int) -> Store:
    scheme, separator, _ = root.partition("://")
    module = import_module(f"{__name__}.{scheme if separator else 'file'}")
    store: Store = module.open_store(root)
    return store
