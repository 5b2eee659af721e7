"""Names below the base: what may be one, and what it says."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

from toposieve import schema
from toposieve.errors import InvalidInputError
from toposieve.io.store.file import TEMPORARY_PREFIX

LONGEST_STEM = 160
"""Bytes of an input's name that a unit's name repeats; file systems refuse names above 255."""

RECORDS = "_records"
"""Folder of the records of finished units that no manifest lists yet."""

HEARTBEATS = "_heartbeats"
"""Folder of the signs of life of the runs that work on a folder."""

SIMULATED = "simulated"
"""Folder, below a sample's partition, of the files that the simulation makes: only its manifest makes them input."""

_UUID_START = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-"
_DIGEST = (
    rf"(?<!{_UUID_START})(?=[0-9]*[a-f])[0-9a-f]{{12}}"  # UUIDs end in as many digits, and dates with a time have them
)
_OURS = re.compile(rf"(^|/)({re.escape(TEMPORARY_PREFIX)}|{RECORDS}/|{HEARTBEATS}/|([^/]*-)?{_DIGEST}(\.\w+$|/))")


def path_key(option: str, value: str) -> str:
    """A partition, or another name that becomes a folder.

    Args:
        option: The option that gave it, for the message.
        value: The name.

    Raises:
        InvalidInputError: It is empty, or has other characters than letters, digits and (not first) ``._=-``.

    >>> path_key("--partition", "2026-01-01")
    '2026-01-01'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=-]*", value):
        raise InvalidInputError(
            f"{option} {value!r}: use letters, digits and . _ = - only, and start with a letter or digit"
        )
    return value


def sample_of(file_id: str) -> str:
    """Sample of a file: the first component of its id.

    Raises:
        InvalidInputError: It is none of ``schema.SAMPLES``.
    """
    sample = file_id.partition("/")[0]
    if sample not in schema.SAMPLES:
        raise InvalidInputError(
            f"{file_id}: unknown sample {sample!r}; known are {', '.join(schema.SAMPLES)}: rename its folder under raw/"
        )
    return sample


def printable(name: str) -> str:
    r"""A name as messages and manifests can hold it; another one only where a store's name is not UTF-8.

    >>> printable("caf\udce9.root"), printable("café.root")
    ('caf\\xe9.root', 'café.root')
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def unit_name(source: str, *identity: str | int, suffix: str = ".parquet") -> str:
    """File name of a unit of work. It follows from what decides the content: new content never takes an old name.

    Args:
        source: The input; its stem begins the name, cut where a file system would refuse it.
        identity: Everything else that decides the content.
        suffix: Of the file.

    >>> unit_name("qcd/2026-01-01/qcd-000003.root", 250, "2e")
    'qcd-000003-8c8b8aabd1f3.parquet'
    """
    stem = PurePosixPath(source).stem.encode()[:LONGEST_STEM].decode(errors="ignore")
    return f"{stem}-{digest(source, *identity)}{suffix}"


def digest(*identity: str | int) -> str:
    """Twelve hexadecimal digits that change with any part of an identity."""
    return hashlib.blake2b("\0".join(map(str, identity)).encode(), digest_size=6).hexdigest()


def is_ours(path: str) -> bool:
    """Whether a file below an output folder has a name that only this project gives: what a sweep may take.

    ROOT files beside the simulation's folder are a user's, whatever their names.

    >>> is_ours("train/part-1.tfrecord"), is_ours("qcd-000003-8c8b8aabd1f3.parquet"), is_ours("run-202601011230.root")
    (False, True, False)
    """
    return bool(_OURS.search(path)) and not (path.endswith(".root") and "/" not in path and not path.startswith("."))
