"""A store as remote ones are, without a server: files of this machine that are read as copies in local scratch."""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from toposieve.io import store
from toposieve.io.store import Key
from toposieve.io.store.file import FileStore

SCHEME = "copying"


class CopyingStore(FileStore):
    """Counts what is fetched.

    Args:
        root: The folder behind it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[str] = []
        self.copies: set[Path] = set()
        """Those that are there now."""
        self.gate: threading.Event | None = None
        """What fetches wait for."""
        self.failure: Exception | None = None

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        """A copy."""
        self.fetched.append(key)
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        with super().fetch(key) as source, tempfile.TemporaryDirectory() as scratch:
            copy = Path(shutil.copy(source, scratch))
            self.copies.add(copy)
            yield copy
            self.copies.discard(copy)


def copying_store(folder: Path, patch: pytest.MonkeyPatch) -> tuple[Key, CopyingStore]:
    """A store on a folder, as long as the patch lasts, and the key of its root."""
    kind, opened = ModuleType(f"{store.__name__}.{SCHEME}"), CopyingStore(folder)
    kind.open_store = lambda _url: opened  # type: ignore[attr-defined]
    patch.setitem(sys.modules, kind.__name__, kind)
    patch.setattr(store, "kinds", lambda: {"file", SCHEME})
    return Key(f"{SCHEME}://{folder.as_posix().strip('/')}"), opened
