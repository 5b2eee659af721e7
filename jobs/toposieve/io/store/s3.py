"""S3 and what speaks like it, through ``obstore``.

Settings come from the environment, as everywhere: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, or the role of the machine or pod. An endpoint may be plain
http if it says so.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from toposieve.errors import InvalidInputError, RefusedError, UnavailableError
from toposieve.io.store import Stat, Store, _remote
from toposieve.io.store._remote import Outage, Service, last_line, scratch_file, suffix_of, within

if TYPE_CHECKING:
    from obstore.store import S3Config

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_PART = 8 << 20
_MOST_PARTS = 9_000  # S3 allows 10,000
_CHUNK = 8 << 20
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_REMEDIES = {
    "NoSuchBucket": "there is no such bucket: make it, or mend the name",
    "InvalidAccessKeyId": f"the access key is unknown: check {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key is wrong: check {_KEYS}",
    "InvalidToken": "the session token is not valid: get new credentials",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "AccessDenied": "not allowed: ask the bucket's owner for the right, or use other credentials",
}
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
_FORBIDDEN = f"not allowed, or with wrong keys: check {_KEYS}, and the rights on the bucket"
_NO_CREDENTIALS = f"no credentials: set {_KEYS}, or give this machine a role"
# Without keys the library asks the machine's, the pod's or the container's own service for a role.
_ASKS_FOR_ROLE = re.compile(r"//169\.254\.|/latest/(api/token|meta-data)")
_NO_CERTIFICATES = "it has no authorities' certificates: install ca-certificates, or name their file in SSL_CERT_FILE"
_WRONG_REGION = "the bucket is in another region: set AWS_REGION"
Answer = TypeVar("Answer")


def open_store(url: str) -> Store:
    """The store below ``s3://bucket/prefix``; asks for the bucket, by listing: some servers make it on the first write.

    Raises:
        InvalidInputError: There is no such bucket, or we may not use it.
        UnavailableError: The host does not answer.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not bucket:
        raise InvalidInputError(f"{url} names no bucket: write s3://BUCKET/FOLDER")
    store = ObjectStore(
        url, _connect(bucket, prefix, timedelta(seconds=2 * _remote.ANSWER_SECONDS)), Service(_host(bucket))
    )
    store.check(_connect(bucket, prefix, timedelta(seconds=_remote.ANSWER_SECONDS)))
    return store


def _endpoint() -> str | None:
    name = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    if name is None:
        return None
    endpoint = os.environ[name]
    if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d+)?(/.*)?", endpoint):
        raise InvalidInputError(f"{name} is {endpoint}: write https://HOST:PORT, or http:// where that is meant")
    return endpoint


def _host(bucket: str) -> str:
    endpoint = _endpoint()
    return endpoint.rstrip("/").rpartition("/")[2] if endpoint else f"{bucket}.s3.amazonaws.com"


def _connect(bucket: str, prefix: str, patience: timedelta) -> S3Store:
    endpoint = _endpoint()
    config: S3Config = {"endpoint": endpoint} if endpoint else {}
    try:
        return S3Store(
            bucket,
            config=config,
            prefix=prefix or None,
            client_options={
                "allow_http": endpoint is not None and endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "read_timeout": patience,
                "timeout": timedelta(hours=1),  # of a whole object; what stalls meets the other limits
            },
            # We retry ourselves: obstore would hide that a lost answer may have been a success.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=_remote.ANSWER_SECONDS)},
        )
    except BaseError as error:
        remedy = _NO_CERTIFICATES if "No CA certificates" in str(error) else last_line(error)
        raise InvalidInputError(f"s3://{bucket} cannot be used from this machine: {remedy}") from error


class ObjectStore:
    """A folder of a bucket.

    Args:
        url: As the user wrote it, for messages.
        store: Connection to the bucket, at the folder.
        service: The host.
    """

    def __init__(self, url: str, store: S3Store, service: Service) -> None:
        """Ask nothing yet."""
        self._url = url
        self._store = store
        self._service = service

    def check(self, connection: S3Store) -> None:
        """See that the bucket is there and answers, over a connection of little patience."""
        self._ask("", lambda: next(iter(obstore.list(connection, chunk_size=1)), None))

    def list(self, folder: str, prefix: str = "") -> Iterator[tuple[str, Stat]]:
        """See :class:`~toposieve.io.store.Store`."""
        start = len(folder) + 1 if folder else 0
        wanted = f"{folder}/{prefix}" if folder else prefix
        for found in self._ask(folder, lambda: _listed(self._store, wanted)):
            yield found["path"][start:], _stat(found)

    def stat(self, key: str) -> Stat | None:
        """See :class:`~toposieve.io.store.Store`."""
        try:
            return _stat(self._ask(key, lambda: obstore.head(self._store, key)))
        except FileNotFoundError:
            return None
        except RefusedError:
            self._ask(key, lambda: _listed(self._store, key))  # the answer to HEAD has no body: this one says why
            raise

    def checksum(self, key: str) -> str | None:
        """None: S3's checksums are of other kinds."""
        return None

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """See :class:`~toposieve.io.store.Store`. Ranges close together become one request, others run at once."""
        parts = [each for each in ranges if each[1] > 0]
        try:
            read = iter(self._get(key, parts))
        except _PastEnd:
            found = self.stat(key)
            return self.read_ranges(key, within(ranges, found.size if found else 0))
        return [next(read) if length > 0 else b"" for _, length in ranges]

    @contextmanager
    def fetch(self, key: str) -> Iterator[Path]:
        """A copy in local scratch."""
        with scratch_file(suffix_of(key)) as path:
            self._ask(key, lambda: self._download(key, path))
            yield path

    @contextmanager
    def create(self, key: str, suffix: str = "") -> Iterator[Path]:
        """Upload from local scratch; an object appears when its last byte is there."""
        with scratch_file(suffix) as path:
            yield path
            part = max(_PART, path.stat().st_size // _MOST_PARTS)
            self._ask(key, lambda: obstore.put(self._store, key, path, chunk_size=part, max_concurrency=4))

    def create_if_absent(self, key: str, content: bytes) -> bool:
        """A conditional put."""
        doubts: list[Outage] = []

        def put() -> bool:
            try:
                self._try(key, lambda: obstore.put(self._store, key, content, mode="create"))
            except AlreadyExistsError:
                if self.stat(key) is None:  # two asked at once, and neither was served: to be asked again
                    raise Outage("another conditional request was under way") from None
                # Of a request without an answer nobody knows whether it was done: then the bytes are the proof.
                return bool(doubts) and self._read(key) == content
            except Outage as outage:
                doubts.append(outage)
                raise
            return True

        return self._service.ask(put)

    def delete(self, *keys: str) -> None:
        """See :class:`~toposieve.io.store.Store`."""
        self._ask(keys[0], lambda: obstore.delete(self._store, keys))

    def _get(self, key: str, ranges: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        if not ranges:
            return []
        starts, lengths = [offset for offset, _ in ranges], [length for _, length in ranges]
        read = self._ask(key, lambda: obstore.get_ranges(self._store, key, starts=starts, lengths=lengths))
        return [part.to_bytes() for part in read]

    def _read(self, key: str) -> bytes:
        return self._try(key, lambda: obstore.get(self._store, key).bytes().to_bytes())

    def _download(self, key: str, path: Path) -> None:
        with path.open("wb") as stream:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                stream.write(chunk)

    def _ask(self, key: str, request: Callable[[], Answer]) -> Answer:
        return self._service.ask(lambda: self._try(key, request))

    def _try(self, key: str, request: Callable[[], Answer]) -> Answer:
        """Make a request once; what goes wrong becomes an error of the protocol, or an Outage."""
        place = f"{self._url.rstrip('/')}/{key}" if key else self._url
        try:
            return request()
        except AlreadyExistsError:
            raise
        except ValueError as error:
            raise InvalidInputError(f"{place} is no name of an object ({last_line(error)})") from error
        except (BaseError, FileNotFoundError) as error:
            _refuse(place, error)
        except BaseException as error:
            # The library panics where a range begins behind the end of an object, and only then.
            if type(error).__name__ == "PanicException":
                raise _PastEnd from error
            raise


class _PastEnd(Exception):
    """A range lies behind the end of an object."""


def _refuse(place: str, error: BaseError | FileNotFoundError) -> NoReturn:
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>|\(code: (\w+)\)", text)
    remedy = _REMEDIES.get(code[1] or code[2]) if code else None
    status = re.search(r"status code: (\d+)", text)
    if code and (code[1] or code[2]) in _EXPIRED:  # a retry may have new ones
        raise UnavailableError(f"{place}: the credentials have expired: get new ones, and run again") from error
    if remedy is None and _ASKS_FOR_ROLE.search(text):
        remedy = _NO_CREDENTIALS
    if remedy is None and isinstance(error, FileNotFoundError):
        raise FileNotFoundError(errno.ENOENT, "No such object", place) from error
    if remedy is None and status and status[1] in ("401", "403"):
        remedy = _FORBIDDEN
    if remedy is None and ((status and status[1] in ("301", "307")) or "LOCATION" in text):
        remedy = _WRONG_REGION
    if remedy is not None:
        raise RefusedError(f"{place}: {remedy}") from error
    if status and status[1] == "416":
        raise _PastEnd from error
    if status and status[1][0] == "4" and status[1] not in ("408", "409", "425", "429"):
        raise RefusedError(f"{place}: the store refuses the request ({last_line(error)})") from error
    raise Outage(last_line(error)) from error


def _listed(store: S3Store, prefix: str) -> list[obstore.ObjectMeta]:
    """Objects whose keys start so. The library lists folders, from a key on; the answer is in the keys' order."""
    folder, _, name = prefix.rpartition("/")
    listing = obstore.list(store, folder or None, offset=prefix[:-1] if len(name) > 1 else None)
    pages = takewhile(lambda page: page[0]["path"][: len(prefix)] <= prefix, listing)
    return [found for page in pages for found in page if found["path"].startswith(prefix)]


def _stat(found: obstore.ObjectMeta) -> Stat:
    return Stat(found["size"], (found["e_tag"] or "").strip('"'), found["last_modified"].timestamp())
