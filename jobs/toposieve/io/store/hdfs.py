"""Hadoop's file system, through ``hdfs-native``: no Java.

``hdfs://host:port/folder`` or, with the name service of ``HADOOP_CONF_DIR``, ``hdfs://name/folder`` or
``hdfs:///folder``. The user is ``HADOOP_USER_NAME``, or that of the Kerberos ticket. A file appears whole: it is
written under a name of our own and renamed.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hdfs_native import Client, FileStatus, WriteOptions

from toposieve.errors import InvalidInputError, RefusedError, UnavailableError, is_full_disk
from toposieve.io.store import Stat, Store, _remote
from toposieve.io.store._remote import Entry, Outage, Service, last_line, scratch_file, suffix_of, walk, within
from toposieve.io.store.file import TEMPORARY_PREFIX

# Two name nodes are tried, twice each; longer waits are ours.
_CONFIGURATION = {
    "dfs.client.failover.max.attempts": "4",
    "dfs.client.failover.sleep.base.millis": "50",
    "dfs.client.failover.sleep.max.millis": "200",
}
_CHUNK = 4 << 20
_DATA = 4  # times as long as for a name node's answer
_AT_ONCE = 8
_PAGE = 1000  # as name nodes send them
_GAP = 64 << 10
_REMEDIES = {
    "AccessControlException": "not allowed: set HADOOP_USER_NAME, or ask the folder's owner for the right",
    "ParentNotDirectoryException": "a file lies where a folder should: choose another --base",
    "InvalidPathException": "HDFS does not take such a name: choose another --base",
    "NSQuotaExceededException": "the folder's quota of files is used up: ask for more",
    "DSQuotaExceededException": "the folder's quota of space is used up: ask for more",
}
# What a user mends; all other answers of a name node may pass: safe mode, standby, no data node yet.
_REFUSALS = re.compile(rf"\.({'|'.join(_REMEDIES)})\b")
_CREDENTIALS = re.compile(r"SASLError|GSSAPIError|NoSASLMechanism|InvalidToken|AuthorizationException")
_NO_HOST = re.compile(r"No NameNode hosts found|No host for name service|UrlParseError|InvalidArgument")
Answer = TypeVar("Answer")


def open_store(url: str) -> Store:
    """The store below ``hdfs://host:port/folder``.

    Raises:
        InvalidInputError: The URL names no name node that the configuration knows.
    """
    host, _, folder = url.removeprefix("hdfs://").partition("/")
    try:
        client = Client(f"hdfs://{host}" if host else None, _CONFIGURATION)
    except (RuntimeError, ValueError, OSError) as error:
        _refuse(url, error)
    return HdfsStore(url, client, "/" + folder.strip("/"), Service(host or "the default file system"))


class HdfsStore:
    """A folder.

    Args:
        url: As the user wrote it, for messages.
        client: Connection to the name node.
        folder: Absolute path there.
        service: The name node.
    """

    def __init__(self, url: str, client: Client, folder: str, service: Service) -> None:
        """Ask nothing yet."""
        self._url = url
        self._client = client
        self._folder = folder.rstrip("/")
        self._service = service

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """See :class:`~toposieve.io.store.Store`."""
        return walk(self._entries, f"{self._path(folder).rstrip('/')}/", prefix)

    def stat(self, key: str) -> Stat | None:
        """See :class:`~toposieve.io.store.Store`."""
        try:
            found = self._ask(key, partial(_timed, self._client.get_file_info, self._path(key)))
        except FileNotFoundError:
            return None
        return None if found.isdir else _stat(found)

    def checksum(self, key: str) -> str | None:
        """None: HDFS keeps CRCs of its blocks."""
        return None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Ranges close together become one request, others run at once: HDFS has no vector reads."""
        return self._ask(key, partial(self._read, self._path(key), ranges))

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        """A copy in local scratch."""
        with scratch_file(suffix_of(key)) as path:
            self._ask(key, partial(self._download, self._path(key), path))
            yield path

    @contextmanager
    def create(self, key: str, suffix: str = "") -> Iterator[Path]:
        """Write in local scratch, copy beside the place, rename."""
        with scratch_file(suffix) as path:
            yield path
            self._ask(key, partial(self._upload, self._path(key), path))

    def create_if_absent(self, key: str, content: bytes) -> bool:
        """Write beside the place and rename, which never replaces unless told to."""
        target = self._path(key)
        temporary = _temporary(target)
        try:
            with scratch_file("") as path:
                path.write_bytes(content)
                self._ask(key, partial(self._write, temporary, path))
            return self._ask(key, partial(self._rename_if_absent, temporary, target))
        finally:
            # What stays behind is swept later; the error in flight says more than this one.
            with suppress(UnavailableError, InvalidInputError):
                self._ask(key, partial(_timed, self._client.delete, temporary))

    def delete(self, *keys: str) -> None:
        """See :class:`~toposieve.io.store.Store`."""
        self._ask(keys[0], partial(self._delete, keys))

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key}".rstrip("/") or "/"

    def _ask(self, key: str, request: Callable[[], Answer]) -> Answer:
        return self._service.ask(lambda: self._try(key, request))

    def _try(self, key: str, request: Callable[[], Answer]) -> Answer:
        """Make a request once; what goes wrong becomes an error of the protocol, or an Outage."""
        try:
            return request()
        except (RuntimeError, ValueError, OSError) as error:
            _refuse(f"{self._url.rstrip('/')}/{key}" if key else self._url, error)

    def _entries(self, folder: str) -> Sequence[Entry]:
        found = self._ask(folder, partial(self._list, folder.rstrip("/") or "/"))
        start = len(folder)
        # Of a file, HDFS lists the file itself.
        return [(each.path[start:], None if each.isdir else _stat(each)) for each in found if each.path[start:]]

    def _list(self, path: str) -> Sequence[FileStatus]:
        listing = self._client.list_status(path)
        pages = iter(lambda: _timed(lambda: [*islice(listing, _PAGE)]), [])
        return [found for page in pages for found in page]

    def _delete(self, keys: Sequence[str]) -> None:
        _together([partial(self._client.delete, self._path(key)) for key in keys])

    def _read(self, path: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        reader = _timed(self._client.read, path)
        wanted = within(ranges, len(reader))
        blocks = _blocks(wanted)
        reads = [partial(reader.read_range, start, stop - start) for start, stop in blocks]
        content = dict(zip(blocks, _together(reads, patience=_DATA), strict=True))
        return [_cut(content, each) for each in wanted]

    def _download(self, path: str, local: Path) -> None:
        stream = iter(_timed(self._client.read, path))
        with local.open("wb") as file:
            while (chunk := _timed(next, stream, None, patience=_DATA)) is not None:
                file.write(chunk)

    def _upload(self, target: str, local: Path) -> None:
        temporary = _temporary(target)
        try:
            self._write(temporary, local)
            _timed(self._client.rename, temporary, target, True)
        except BaseException:
            with suppress(RuntimeError, OSError):
                _timed(self._client.delete, temporary)
            raise

    def _write(self, path: str, local: Path) -> None:
        options = WriteOptions(overwrite=True, create_parent=True)
        writer = _timed(self._client.create, path, options)
        with local.open("rb") as file:
            while chunk := file.read(_CHUNK):
                _timed(writer.write, chunk, patience=_DATA)
        _timed(writer.close, patience=_DATA)

    def _rename_if_absent(self, temporary: str, target: str) -> bool:
        try:
            _timed(self._client.rename, temporary, target, False)
        except FileExistsError:
            return False
        except FileNotFoundError:
            return True  # an earlier request, whose answer was lost, has renamed it
        return True


def _timed(call: Callable[..., Any], *arguments: Any, patience: int = 1) -> Any:
    return _together([partial(call, *arguments)], patience)[0]


def _together(calls: Sequence[Callable[[], Any]], patience: int = 1) -> Sequence[Any]:
    """Call the library in threads of their own, some at once: it may never return, and has no time limits.

    Its asynchronous client would do without threads, but panics when it tries a name node again.
    """
    seconds = patience * _remote.ANSWER_SECONDS
    results = []
    for start in range(0, len(calls), _AT_ONCE):
        futures: Sequence[Future[Any]] = [_begin(call) for call in calls[start : start + _AT_ONCE]]
        try:
            results += [future.result(seconds) for future in futures]
        except TimeoutError:
            raise Outage(f"no answer within {seconds:.0f} s") from None
    return results


def _begin(call: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # a panic of the library too: whoever waits gets it
            future.set_exception(error)

    # A thread that hangs must not keep the process from ending.
    threading.Thread(target=run, daemon=True).start()
    return future


def _blocks(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges as (start, stop), those with small gaps between them joined."""
    joined: list[tuple[int, int]] = []
    for start, length in sorted(each for each in ranges if each[1]):
        if joined and start <= joined[-1][1] + _GAP:
            joined[-1] = (joined[-1][0], max(joined[-1][1], start + length))
        else:
            joined.append((start, start + length))
    return joined


def _cut(content: dict[tuple[int, int], bytes], wanted: tuple[int, int]) -> bytes:
    offset, length = wanted
    if not length:
        return b""
    start, stop = next(block for block in content if block[0] <= offset and offset + length <= block[1])
    return content[start, stop][offset - start : offset - start + length]


def _temporary(target: str) -> str:
    return f"{os.path.dirname(target).rstrip('/')}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"


def _refuse(place: str, error: Exception) -> NoReturn:
    text = str(error)
    if is_full_disk(error):  # of this machine, not of the service
        raise error
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(errno.ENOENT, "No such file", place) from error
    refusal = _REFUSALS.search(text)
    if refusal:
        raise RefusedError(f"{place}: {_REMEDIES[refusal[1]]}") from error
    if "must both be directories" in text:
        raise RefusedError(f"{place}: a folder lies where a file should: choose another --base") from error
    if _NO_HOST.search(text):
        raise RefusedError(
            f"{place}: no such name node: write hdfs://HOST:PORT/FOLDER, or set HADOOP_CONF_DIR"
        ) from error
    if _CREDENTIALS.search(text):
        raise RefusedError(f"{place}: the credentials were refused: get a new Kerberos ticket (kinit)") from error
    if "SafeModeException" in text:
        raise Outage("the name node is in safe mode: wait, or hdfs dfsadmin -safemode leave") from error
    raise Outage(last_line(error)) from error


def _stat(found: FileStatus) -> Stat:
    return Stat(found.length, str(found.modification_time), found.modification_time / 1000)
