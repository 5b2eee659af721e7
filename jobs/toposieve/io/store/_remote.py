"""What all remote kinds share: patience with a host that is away, and files in local scratch."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

from toposieve.errors import UnavailableError
from toposieve.io.store import Stat

FIRST_SECONDS = 40.0
"""How long a host is tried that has not answered yet: with one request more, the first one ends within a minute."""
OUTAGE_SECONDS = 180.0
"""How long a host is tried that has answered before."""
ANSWER_SECONDS = 15.0
"""How long one request waits for an answer, or for the next part of one."""

_LONGEST_PAUSE = 5.0
_LOG = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class Outage(Exception):
    """A request that got no answer, or one that says "later". The message says which."""


class Service:
    """A host that may be away for a while.

    Args:
        host: As messages name it.
    """

    def __init__(self, host: str) -> None:
        """Ask nothing yet."""
        self.host = host
        self._answered = False

    def ask(self, request: Callable[[], Answer]) -> Answer:
        """Make a request until it is answered. It must do no harm if it is done twice.

        Raises:
            UnavailableError: It raised :class:`Outage` for longer than a host may be away.
        """
        start = time.monotonic()
        pause = 0.1
        while True:
            try:
                answer = request()
            except Outage as outage:
                left = (OUTAGE_SECONDS if self._answered else FIRST_SECONDS) - (time.monotonic() - start)
                if left <= 0:
                    raise UnavailableError(self._complaint(str(outage))) from outage
                _LOG.info("%s is away, trying again for %.0f s: %s", self.host, left, outage)
                time.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                self._answered = True
                raise
            else:
                self._answered = True
                return answer

    def _complaint(self, cause: str) -> str:
        remedy = "try again when it is back" if self._answered else "check its name and port, and whether it is up"
        return f"{self.host} does not answer ({cause}): {remedy}"


@contextmanager
def scratch_file(suffix: str) -> Iterator[Path]:
    """An empty file in local scratch (``TMPDIR``), removed when the block ends."""
    descriptor, name = tempfile.mkstemp(prefix="toposieve-", suffix=suffix)
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


Entry: TypeAlias = tuple[str, Stat | None]
"""What lies in a folder: a name, and what is known of a file; of a folder, None."""


def walk(
    entries: Callable[[str], Sequence[Entry]], folder: str, prefix: str, below: str = ""
) -> Iterator[tuple[str, Stat]]:
    """Files in and below a folder whose path relative to it starts with a prefix; other folders are not looked into.

    Args:
        entries: Lists one folder; raises FileNotFoundError where there is none.
        folder: Where to start.
        prefix: What relative paths start with.
        below: Path relative to the start, with a slash at its end.
    """
    try:
        found = entries(folder + below)
    except FileNotFoundError:
        return
    for name, stat in found:
        key = below + name
        if stat is not None:
            if key.startswith(prefix):
                yield key, stat
        elif f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
            yield from walk(entries, folder, prefix, f"{key}/")


def suffix_of(key: str) -> str:
    """Last suffix of a key, with its dot: libraries tell a file's format by it."""
    return os.path.splitext(key.rpartition("/")[2])[1]


def within(ranges: Sequence[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Ranges, each (offset, length), cut at the end of an object: a file gives as much as it has, too.

    >>> within([(0, 2), (8, 5), (12, 3)], 10)
    [(0, 2), (8, 2), (10, 0)]
    """
    return [(min(offset, size), max(0, min(length, size - offset))) for offset, length in ranges]


def last_line(error: BaseException) -> str:
    """What a library says, in one line without its stack."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__
