"""Shards as local files, for readers that need files.

A shard of this machine is read where it lies. Of any other a copy lies in local scratch while it is wanted: a few
threads fetch what fits, ahead of its use; beyond that, what was read longest ago makes room. No TensorFlow here.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key

LIMIT_BYTES = 20 * 10**9
"""Room for copies, unless half of what is free in local scratch is less."""

FETCHERS = 4
HELD = 2
"""Files that a reader needs: the one it reads, and the next."""

logger = logging.getLogger(__name__)


class Cache:
    """Local copies of some objects, as long as the block lasts.

    Args:
        sizes: The objects that will be read and their sizes, in the order in which to fetch them.
        limit_bytes: Room for the copies; 0 for :data:`LIMIT_BYTES` or half of the free disk. Files that are being read
            stay, even beyond it.

    Inside the block, any thread may ask for a file.
    """

    def __init__(self, sizes: Mapping[Key, int], limit_bytes: int = 0) -> None:
        """Fetch nothing yet."""
        self.failure: Exception | None = None
        """Why a file could not be had, the first time: a reader inside TensorFlow would only pass on its text."""
        self._sizes = sizes
        self._limit = limit_bytes or min(LIMIT_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 2)
        self._lock = threading.Lock()
        self._fetches: dict[Key, Future[Path]] = {}
        self._copies: dict[Key, ExitStack] = {}
        """Objects that are there, those read longest ago first."""
        self._used: set[Key] = set()
        self._is_closed = False
        self._held: dict[str, deque[Key]] = defaultdict(lambda: deque(maxlen=HELD))
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="cache")

    def __enter__(self) -> Cache:
        """Begin to fetch what fits."""
        total = 0
        with self._lock:
            for key, size in self._sizes.items():
                total += size
                if total > self._limit:
                    break
                self._fetches[key] = self._pool.submit(self._fetch, key)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Remove the copies; whoever still asks for one is refused."""
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            self._is_closed = True
            for copy in self._copies.values():
                copy.close()

    def __contains__(self, key: Key) -> bool:
        """Whether an object's file is there now."""
        return key in self._copies

    def path(self, key: Key, reader: str = "") -> Path:
        """An object's file on this machine, waiting for it if need be.

        Args:
            key: One of the objects that the cache was made for.
            reader: Who asks; its last :data:`HELD` files stay.

        Raises:
            InvalidInputError: The object is gone.
        """
        with self._lock:
            self._held[reader].append(key)
            self._used.add(key)
            fetch, is_mine = self._claim(key)
        if is_mine:
            self._finish(fetch, key)
        return fetch.result()

    def _claim(self, key: Key) -> tuple[Future[Path], bool]:
        """An object's fetch, and whether it is the caller's to do: in the queue it would wait for others."""
        fetch = self._fetches.get(key)
        if fetch is not None and not fetch.cancel():
            if key in self._copies:
                self._copies[key] = self._copies.pop(key)
            return fetch, False
        fetch = self._fetches[key] = Future()
        fetch.set_running_or_notify_cancel()
        return fetch, True

    def read_range(self, key: Key, offset: int, length: int) -> bytes:
        """Some of an object's bytes."""
        with self.path(key).open("rb", buffering=0) as stream:
            return os.pread(stream.fileno(), length, offset)

    def _finish(self, fetch: Future[Path], key: Key) -> None:
        try:
            fetch.set_result(self._fetch(key))
        except Exception as error:  # for whoever waits
            fetch.set_exception(error)

    def _fetch(self, key: Key) -> Path:
        copy = ExitStack()
        try:
            with self._lock:
                if self._is_closed:
                    raise RuntimeError(f"{key} is asked for too late")
                self._make_room(self._sizes[key])
                self._copies[key] = copy
            return copy.enter_context(key.fetch())
        except FileNotFoundError:
            raise self._failed(key, InvalidInputError(f"{key} is missing: prepare the dataset again")) from None
        except Exception as error:
            raise self._failed(key, error) from None

    def _failed(self, key: Key, error: Exception) -> Exception:
        with self._lock:
            self._copies.pop(key, None)
            self.failure = self.failure or error
        return error

    def _make_room(self, size: int) -> None:
        """Remove copies that nobody reads: first those that have been read, then those fetched ahead."""
        held = {key for keys in self._held.values() for key in keys}
        free = [key for key in self._copies if key not in held and self._fetches[key].done()]
        for key in sorted(free, key=lambda key: key not in self._used):
            if sum(self._sizes[each] for each in self._copies) + size <= self._limit:
                break
            self._copies.pop(key).close()
            del self._fetches[key]
            self._used.discard(key)
