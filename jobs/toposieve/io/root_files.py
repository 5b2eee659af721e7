"""ROOT files of any store, opened with few requests: a remote file's answers take tens of milliseconds each."""

from __future__ import annotations

import errno
import functools
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue
from typing import Any, TypeAlias

import uproot
from uproot.source.chunk import Chunk, Source
from uproot.source.futures import TrivialFuture

from toposieve.io.store import Key

Span: TypeAlias = tuple[int, int]
"""First byte, and the one after the last."""

# Decompresses in two thirds of zlib's time, with the same checks. uproot.ZLIB.library is asked only when writing.
uproot.compression._decompress_ZLIB.library = "isal"
# Asked for each object of a tree's thousand branches, for a dozen names: a sixth of the time to parse them.
uproot.model.classname_regularize = functools.lru_cache(uproot.model.classname_regularize)

# The header is in front; the tree with its branches, the keys and the streamers are written last. With both read at
# once, opening a tree with 1,138 branches takes no other request.
_HEAD = 16 << 10
_TAIL = 1 << 20

_KEY_LENGTH = slice(14, 16)
"""Where a ROOT object's header has its own length."""
_classes = b""
"""What the last file says of its classes."""


@contextmanager
def open_root(key: Key) -> Iterator[Any]:
    """Open a ROOT file: an uproot directory while the block runs.

    A file of this machine is read as uproot does; a remote one through its store, with the baskets of all branches that
    one call of ``arrays`` or one step of ``iterate`` needs in one vector request.

    Raises:
        FileNotFoundError: There is none.
        UnavailableError: The store does not answer.
    """
    if not key.is_remote:
        with key.fetch() as path, uproot.open({str(path): None}) as root:
            _forget_other_classes(root.file)
            yield root
        return
    with uproot.open({str(key): None}, handler=StoreSource, key=key) as root:
        _forget_other_classes(root.file)
        yield root


def _forget_other_classes(file: Any) -> None:
    """Uproot keeps what files say of their classes: what a damaged one says would be believed of the next ones, too."""
    global _classes
    start, size = int(file.fSeekInfo), int(file.fNbytesInfo)
    key = bytes(file.source.chunk(start, start + size).raw_data)
    classes = key[int.from_bytes(key[_KEY_LENGTH], "big") :]
    if classes != _classes:  # else it takes longer to make them again than to read some hundred events
        uproot.model.reset_classes()
        _classes = classes


def parse(root: Any, name: str) -> Any:
    """An object of an open file, such as a tree.

    A tree of a thousand branches is many objects, none of them garbage: to look for that takes a quarter of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return root[name]
    finally:
        if enabled:
            gc.enable()


class StoreSource(Source):  # type: ignore[misc]  # uproot has no types
    """Bytes of an object, for uproot.

    Args:
        file_path: For uproot's messages.
        key: The object.
        options: Uproot's other options.
    """

    def __init__(self, file_path: str, key: Key, **options: Any) -> None:
        """Read both ends of the file."""
        super().__init__()
        self._file_path = file_path
        self._key = key
        found = key.stat()
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", str(key))
        self._num_bytes = found.size
        self._open = True
        self._ends = self._read(_ends(found.size))

    def chunk(self, start: int, stop: int) -> Chunk:
        """One part of the file."""
        return self._chunks([(start, stop)])[0]

    def chunks(self, ranges: list[Span], notifications: Queue[Chunk]) -> list[Chunk]:
        """Several parts, in one request for those that are not here yet."""
        chunks = self._chunks(ranges)
        for chunk in chunks:
            notifications.put(chunk)
        return chunks

    @property
    def closed(self) -> bool:
        """Whether it may be read no more."""
        return not self._open

    def __enter__(self) -> StoreSource:
        """Itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Forget what was read."""
        self._open = False
        self._ends = {}

    def _chunks(self, ranges: Sequence[Span]) -> list[Chunk]:
        read = self._read([span for span in dict.fromkeys(ranges) if self._kept(span) is None])
        return [Chunk(self, *span, TrivialFuture(read[span] if span in read else self._kept(span))) for span in ranges]

    def _kept(self, span: Span) -> bytes | None:
        start, stop = span
        for (first, last), content in self._ends.items():
            # Nothing lies behind the last byte, so an end also holds what would reach beyond.
            if first <= start and min(stop, self._num_bytes) <= last:
                return content[start - first : stop - first]
        return None

    def _read(self, spans: Sequence[Span]) -> dict[Span, bytes]:
        if not spans:
            return {}
        if self.closed:
            raise OSError(f"file {self._file_path!r} is closed")
        self._num_requests += 1
        self._num_requested_chunks += len(spans)
        self._num_requested_bytes += sum(stop - start for start, stop in spans)
        content = self._key.read_ranges([(start, stop - start) for start, stop in spans])
        return dict(zip(spans, content, strict=True))


def _ends(size: int) -> list[Span]:
    """First and last part of a file, which is one part if it is small.

    >>> _ends(1000)
    [(0, 1000)]
    """
    return [(0, size)] if size <= _HEAD + _TAIL else [(0, _HEAD), (size - _TAIL, size)]
