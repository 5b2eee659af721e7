"""Local disks and whatever is mounted: objects are files.

Objects appear whole: a file is written beside its place under a name of our own and renamed, or, where it must not
replace another, linked. Both are atomic on NFS too, where ``flock`` is not.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from toposieve.errors import InvalidInputError, RefusedError
from toposieve.io.store import Stat, Store

TEMPORARY_PREFIX = ".tmp-"
"""Start of the names of files that are being written."""

_REMOVED_AT_ONCE = 8
"""Files, by a thread each: a mounted server, or a disk that is told of what is free, takes a millisecond for each."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_GONE = (FileNotFoundError, NotADirectoryError)


def open_store(url: str) -> Store:
    """The store below an absolute path, which need not be there yet."""
    return FileStore(Path(url))


class FileStore:
    """A folder.

    Args:
        root: The folder; made when something is written.
    """

    def __init__(self, root: Path) -> None:
        """Touch nothing yet."""
        self._root = root

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """See :class:`~toposieve.io.store.Store`. Links are followed; one that leads nowhere has size -1.

        A folder behind a link that leads nowhere is no empty one: what is there may only be out of reach.
        """
        yield from _walk(self._root / folder, "", prefix)

    def stat(self, key: str) -> Stat | None:
        """See :class:`~toposieve.io.store.Store`."""
        path = self._root / key
        try:
            found = path.stat()
        except _GONE:
            return None
        except OSError as error:
            raise _refused(path, "read", error) from error
        return None if path.is_dir() else _stat(found)

    def checksum(self, key: str) -> str | None:
        """None: file systems know no checksums."""
        return None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See :class:`~toposieve.io.store.Store`."""
        with self.fetch(key) as path, path.open("rb", buffering=0) as stream:
            return [os.pread(stream.fileno(), length, offset) for offset, length in ranges]

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        """The file itself."""
        path = self._root / key
        try:
            path.open("rb").close()
        except _GONE:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(path)) from None
        except OSError as error:
            raise _refused(path, "read", error) from error
        yield path

    @contextmanager
    def create(self, key: str, suffix: str = "") -> Iterator[Path]:
        """Write beside the place, then rename."""
        target, temporary = self._places(key, suffix)
        try:
            yield temporary
            os.replace(temporary, target)
        except IsADirectoryError as error:
            raise _refused(target, "written", error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def create_if_absent(self, key: str, content: bytes) -> bool:
        """Write beside the place, then link: unlike a rename, that never replaces."""
        target, temporary = self._places(key)
        try:
            temporary.write_bytes(content)
            _sync(temporary)
            os.link(temporary, target)
        except FileExistsError:
            # Over NFS an answer may be lost, and the request repeated: two names are proof that it was ours.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno in _NO_LINKS:
                return _create_exclusively(target, content)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def delete(self, *keys: str) -> None:
        """See :class:`~toposieve.io.store.Store`. Empty folders stay: another writer may be about to use them."""
        if len(keys) == 1:
            self._delete(*keys)
            return
        with ThreadPoolExecutor(_REMOVED_AT_ONCE, thread_name_prefix="remove") as pool:
            deque(pool.map(self._delete, keys), maxlen=0)

    def _delete(self, key: str) -> None:
        path = self._root / key
        try:
            path.unlink()
        except _GONE:
            return
        except OSError as error:
            raise _refused(path, "removed", error) from error

    def _places(self, key: str, suffix: str = "") -> tuple[Path, Path]:
        """The file, and where to write it first; their folder is there afterwards."""
        target = self._root / key
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(target.parent, "made", error) from error
        if not os.access(target.parent, os.W_OK):
            raise RefusedError(f"{target.parent} cannot be written to: mend its permissions")
        return target, target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{suffix}")


def _walk(folder: Path, below: str, prefix: str) -> Iterator[tuple[str, Stat]]:
    try:
        entries = list(os.scandir(folder))
    except _GONE:
        dangling = next((path for path in (folder, *folder.parents) if path.is_symlink() and not path.exists()), None)
        if dangling:
            raise RefusedError(f"{dangling} is a link that leads nowhere: mount what it leads to, or mend it") from None
        return
    except OSError as error:
        raise _refused(folder, "listed", error) from error
    for entry in entries:
        key = below + entry.name
        try:
            is_folder = entry.is_dir()
        except OSError as error:  # links in a circle
            raise _refused(folder / entry.name, "listed", error) from error
        if is_folder:
            if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                yield from _walk(Path(entry.path), f"{key}/", prefix)
        elif key.startswith(prefix):
            yield from _stat_if_there(entry, key)


def _stat_if_there(entry: os.DirEntry[str], key: str) -> Iterator[tuple[str, Stat]]:
    try:
        yield key, _stat(entry.stat())
    except _GONE:  # removed meanwhile, or a link that leads nowhere
        if entry.is_symlink():
            yield key, Stat(-1, "", 0.0)


def _stat(found: os.stat_result) -> Stat:
    return Stat(found.st_size, str(found.st_mtime_ns), found.st_mtime)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_exclusively(target: Path, content: bytes) -> bool:
    """For file systems without hard links: a reader may see the file empty for a moment."""
    try:
        with target.open("xb", buffering=0) as stream:
            stream.write(content)
    except FileExistsError:
        return False
    return True


def _refused(path: Path, verb: str, error: OSError) -> Exception:
    """What a user can mend becomes an InvalidInputError, anything else stays as it is."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        not_allowed = error.errno in (errno.EACCES, errno.EPERM)
        refused = RefusedError if not_allowed or verb != "read" else InvalidInputError
        return refused(f"{path} cannot be {verb} ({error.strerror}): choose another --base, or mend its permissions")
    return error
