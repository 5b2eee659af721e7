"""Parts of remote shards, kept in local scratch once they are read, as far as there is room. No TensorFlow here."""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType

from toposieve.errors import InvalidInputError
from toposieve.io.store import Key
from toposieve.io.tfrecord import Example

LIMIT_BYTES = 20 * 10**9
"""Room in scratch, unless half of what is free there is less."""

Range = tuple[int, int]
"""Offset and length."""

logger = logging.getLogger(__name__)


class Cache:
    """Reads parts of files; inside the block, any thread may.

    Args:
        limit_bytes: Room in scratch; 0 for :data:`LIMIT_BYTES` or half of the free disk.
        sharers: Processes of this machine that share it.
    """

    def __init__(self, limit_bytes: int = 0, sharers: int = 1) -> None:
        """Read nothing yet."""
        room = limit_bytes or min(LIMIT_BYTES, shutil.disk_usage(tempfile.gettempdir()).free // 2)
        self._room = room // sharers
        self._size = 0
        self._places: defaultdict[Key, dict[int, int]] = defaultdict(dict)
        """File → offset of a part in it → where the part is kept."""
        self._lock = threading.Lock()

    def __enter__(self) -> Cache:
        """Open a scratch file, which has no name: it is gone with the process, whatever ends that."""
        self._scratch = tempfile.TemporaryFile(prefix="toposieve-")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the room back."""
        self._scratch.close()

    def read(self, key: Key, ranges: Sequence[Range]) -> Sequence[Example]:
        """Parts of a file; of one that is not on this machine, each is fetched once if there is room to keep it.

        Raises:
            InvalidInputError: The file is gone.
        """
        try:
            return self._read_remote(key, ranges) if key.is_remote else _mapped(key, ranges)
        except FileNotFoundError:
            raise InvalidInputError(f"{key} is missing: prepare the dataset again") from None

    def _read_remote(self, key: Key, ranges: Sequence[Range]) -> list[bytes]:
        places, scratch = self._places[key], self._scratch.fileno()
        absent = [each for each in ranges if each[0] not in places]
        fetched = dict(zip(absent, key.read_ranges(absent) if absent else (), strict=True))
        for (offset, _), part in fetched.items():
            self._keep(places, offset, part)
        return [fetched[each] if each in fetched else os.pread(scratch, each[1], places[each[0]]) for each in ranges]

    def _keep(self, places: dict[int, int], offset: int, part: bytes) -> None:
        with self._lock:
            if self._size + len(part) > self._room:
                return
            place, self._size = self._size, self._size + len(part)
        try:
            written = os.pwrite(self._scratch.fileno(), part, place)
        except OSError as error:
            logger.warning("no more records are kept in %s: %s", tempfile.gettempdir(), error)
            written = self._room = 0
        if written == len(part):  # not less, as of the last part that a disk takes
            places[offset] = place


def _mapped(key: Key, ranges: Sequence[Range]) -> list[memoryview]:
    """Parts of a file of this machine, not copied."""
    with key.fetch() as path, path.open("rb") as stream:
        is_empty = not os.fstat(stream.fileno()).st_size  # cut short, then: it cannot be mapped
        content = memoryview(b"" if is_empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    return [content[offset : offset + length] for offset, length in ranges]
