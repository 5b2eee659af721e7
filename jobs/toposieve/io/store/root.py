"""XRootD servers, read only: where experiments keep their ROOT files.

Credentials are found as XRootD finds them: ``X509_USER_PROXY``, a Kerberos ticket, ``BEARER_TOKEN_FILE``.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from XRootD import client
from XRootD.client.env import EnvPutInt
from XRootD.client.flags import DirListFlags, OpenFlags, QueryCode, StatInfoFlags

from toposieve.errors import InvalidInputError, RefusedError
from toposieve.io.store import Stat, Store, _remote
from toposieve.io.store._remote import Entry, Outage, Service, scratch_file, suffix_of, walk, within

# Without these a dead host hangs for minutes, and one that came back is not asked again for half an hour.
# What the environment sets (XRD_CONNECTIONWINDOW, ...) wins.
_LIMITS = {
    "ConnectionWindow": 5,
    "ConnectionRetry": 2,
    "RequestTimeout": 60,
    "StreamTimeout": 30,
    "StreamErrorWindow": 0,
    "TimeoutResolution": 1,
}
_READ_ONLY = "root:// is read only: give --raw with root:// and --base elsewhere"

# Codes of the protocol (kXR_...) that a user can mend, or that pass.
_NOT_A_FILE, _NO_SUCH_FILE, _IS_FOLDER = 3005, 3011, 3016
_REFUSED = {
    3006: "the server refuses the request",
    3010: "not allowed: get a proxy, token or ticket, or ask the server's owner for the right",
    3030: "the credentials were refused: get a new proxy, token or ticket",
}
_NO_AUTHENTICATION = (204, 205, 302)  # of the client: no credentials, or none that the server takes
_REMEDY_AUTHENTICATION = "no credentials that the server takes: get a proxy, token or ticket"
# Behind a redirector, of all its servers.
_LISTING = DirListFlags.STAT | DirListFlags.LOCATE | DirListFlags.MERGE
_CHUNK = 8 << 20
_OPEN_FILES = 4


def open_store(url: str) -> Store:
    """The store below ``root://host//folder``."""
    for name, seconds in _LIMITS.items():
        EnvPutInt(name, seconds)
    host, _, folder = url.removeprefix("root://").partition("/")
    if not host:
        raise InvalidInputError(f"{url} names no host: write root://HOST//FOLDER")
    return RootStore(host, "/" + folder.strip("/"))


class RootStore:
    """A folder that an XRootD server exports.

    Args:
        host: Name and port.
        folder: Absolute path there.
    """

    def __init__(self, host: str, folder: str) -> None:
        """Ask nothing yet."""
        self._host = host
        self._folder = folder.rstrip("/")
        self._service = Service(host)
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._limits: tuple[int, int] | None = None

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """See :class:`~toposieve.io.store.Store`."""
        return walk(self._entries, f"{self._path(folder).rstrip('/')}/", prefix)

    def stat(self, key: str) -> Stat | None:
        """See :class:`~toposieve.io.store.Store`."""
        path = self._path(key)
        try:
            found = self._ask(path, lambda server: server.stat(path, timeout=_seconds()))
        except FileNotFoundError:
            return None
        return None if _is_folder(found) else _stat(found)

    def checksum(self, key: str) -> str | None:
        """The server's, if it keeps or computes Adler-32."""
        path = self._path(key)
        request = f"{path}?cks.type=adler32"
        # A server may have to read the whole file for it.
        status, answer = self._service.ask(
            lambda: _once(self._server().query(QueryCode.CHECKSUM, request, timeout=20 * _seconds()))
        )
        if not status.ok:
            if status.errno == _NO_SUCH_FILE:
                raise FileNotFoundError(errno.ENOENT, "No such file", self._place(path))
            return None
        kind, _, digits = answer.rstrip(b"\0").decode().strip().partition(" ")
        return digits.zfill(8) if kind == "adler32" else None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """One vector request, or as many as the server's limits make of it."""
        path = self._path(key)
        read: Sequence[bytes] = self._service.ask(
            lambda: self._with_file(path, lambda file: self._read(path, file, ranges))
        )
        return read

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        """A copy in local scratch."""
        path = self._path(key)
        with scratch_file(suffix_of(key)) as local:
            self._service.ask(lambda: self._with_file(path, lambda file: self._download(path, file, local)))
            yield local

    def create(self, key: str, suffix: str = "") -> AbstractContextManager[Path]:
        """Refuse."""
        raise RefusedError(f"{self._place(self._path(key))}: {_READ_ONLY}")

    def create_if_absent(self, key: str, content: bytes) -> bool:
        """Refuse."""
        raise RefusedError(f"{self._place(self._path(key))}: {_READ_ONLY}")

    def delete(self, *keys: str) -> None:
        """Refuse."""
        raise RefusedError(f"{self._place(self._path(keys[0]))}: {_READ_ONLY}")

    def _entries(self, folder: str) -> Sequence[Entry]:
        found = self._ask(folder, lambda server: server.dirlist(folder, _LISTING, timeout=_seconds()))
        return [(entry.name, None if _is_folder(entry.statinfo) else _stat(entry.statinfo)) for entry in found or ()]

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}".rstrip("/") or "/"

    def _place(self, path: str) -> str:
        return f"root://{self._host}/{path}"

    def _server(self) -> Any:
        return client.FileSystem(f"root://{self._host}")

    def _ask(self, path: str, request: Callable[[Any], tuple[Any, Any]]) -> Any:
        return self._service.ask(lambda: self._checked(path, request(self._server())))

    def _checked(self, path: str, answer: tuple[Any, Any]) -> Any:
        status, result = _once(answer)
        if not status.ok:
            _refuse(self._place(path), status)
        return result

    def _with_file(self, path: str, use: Callable[[_OpenFile], Any]) -> Any:
        """Use a file that was opened before, if it was lately; after any failure it is opened anew."""
        file = self._files.pop(path, None) or self._open(path)
        result = use(file)
        self._files[path] = file
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)
        return result

    def _open(self, path: str) -> _OpenFile:
        handle = client.File()
        self._checked(path, handle.open(self._place(path), OpenFlags.READ, timeout=_seconds()))
        return _OpenFile(handle, self._checked(path, handle.stat(timeout=_seconds())).size)

    def _read(self, path: str, file: _OpenFile, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        longest, most = self._vector_limits()
        wanted = within(ranges, file.size)
        pieces = [piece for each in wanted for piece in _pieces(each, longest)]
        read = []
        for start in range(0, len(pieces), most):
            batch = pieces[start : start + most]
            found = self._checked(path, file.handle.vector_read(batch, timeout=4 * _seconds()))
            read += [chunk.buffer for chunk in found.chunks]
        parts = iter(read)
        return [b"".join(next(parts) for _ in _pieces(each, longest)) for each in wanted]

    def _download(self, path: str, file: _OpenFile, local: Path) -> None:
        with local.open("wb") as stream:
            for offset in range(0, file.size, _CHUNK):
                stream.write(self._checked(path, file.handle.read(offset, _CHUNK, timeout=4 * _seconds())))

    def _vector_limits(self) -> tuple[int, int]:
        """Most bytes of a segment, and most segments of a request, as the server says."""
        if self._limits is None:
            names = "readv_ior_max readv_iov_max"
            answer = self._checked("/", self._server().query(QueryCode.CONFIG, names, timeout=_seconds()))
            numbers = [int(word) for word in answer.rstrip(b"\0").split() if word.isdigit()]
            # Old servers repeat the names; these are the protocol's limits.
            self._limits = (numbers[0], numbers[1]) if len(numbers) == 2 else (2_097_136, 1024)
        return self._limits


class _OpenFile:
    def __init__(self, handle: Any, size: int) -> None:
        self.handle = handle
        self.size = size

    def __del__(self) -> None:
        # Or the handle would close itself, holding the interpreter's lock until it is answered.
        self.handle.close(timeout=1)


def _seconds() -> int:
    return int(_remote.ANSWER_SECONDS)


def _pieces(wanted: tuple[int, int], longest: int) -> list[tuple[int, int]]:
    offset, length = wanted
    return [(offset + start, min(longest, length - start)) for start in range(0, length, longest)]


def _once(answer: tuple[Any, Any]) -> tuple[Any, Any]:
    """Pass on what a server answered; errors of the connection are outages."""
    status, _ = answer
    if not status.ok and not status.errno and status.code not in _NO_AUTHENTICATION:
        raise Outage(status.message.strip())
    return answer


def _refuse(place: str, status: Any) -> NoReturn:
    message = status.message.strip()
    if status.errno in (_NO_SUCH_FILE, _NOT_A_FILE, _IS_FOLDER):
        raise FileNotFoundError(errno.ENOENT, "No such file", place)
    if status.errno in _REFUSED:
        raise RefusedError(f"{place}: {_REFUSED[status.errno]} ({message})")
    if status.code in _NO_AUTHENTICATION:
        raise RefusedError(f"{place}: {_REMEDY_AUTHENTICATION} ({message})")
    raise Outage(message)


def _is_folder(found: Any) -> bool:
    return bool(found.flags & StatInfoFlags.IS_DIR)


def _stat(found: Any) -> Stat:
    return Stat(found.size, str(found.modtime), float(found.modtime))
