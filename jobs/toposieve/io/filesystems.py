"""Where data lives: the base folder that every stage reads and writes under, and the names below it."""

from __future__ import annotations

import re
from pathlib import Path

from toposieve import schema
from toposieve.errors import InvalidInputError


def base_path(base: str) -> Path:
    """The folder that ``--base`` names.

    Raises:
        InvalidInputError: It is a URI, which is not supported yet.
    """
    scheme, separator, _ = base.partition("://")
    if separator:
        raise InvalidInputError(f"--base {base}: {scheme}:// is not supported yet: mount it, or give a local path")
    return Path(base).expanduser().absolute()


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
    if sample not in schema.LABELS:
        raise InvalidInputError(
            f"{file_id}: unknown sample {sample!r}; known are {', '.join(schema.SAMPLES)}: rename its folder under raw/"
        )
    return sample
