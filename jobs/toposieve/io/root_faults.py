"""What can go wrong with a ROOT file, sorted: the file is bad, the machine or the network fails, or our code does."""

from __future__ import annotations

import struct
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cramjam
import uproot
from isal import isal_zlib
from uproot.interpretation.identify import UnknownInterpretation

from toposieve.errors import InvalidInputError
from toposieve.io.names import printable

_FORMAT_FAULTS: tuple[Any, ...] = (
    uproot.DeserializationError, UnknownInterpretation, zlib.error, isal_zlib.error, cramjam.DecompressionError,
    struct.error, ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip
"""What uproot raises on damaged files: found by damaging some."""


@contextmanager
def bad_file(file: str, remedy: str) -> Iterator[None]:
    """Turn what a damaged file makes uproot raise into an InvalidInputError. Any other error stays what it is.

    Args:
        file: As messages name it.
        remedy: What to do about a bad one.
    """
    try:
        yield
    except FileNotFoundError:
        raise InvalidInputError(f"{printable(file)}: no such file, or a link that leads nowhere; {remedy}") from None
    except Exception as error:
        if not is_format_fault(error):
            raise
        raise InvalidInputError(f"{printable(file)}: cannot be read as ROOT ({cause(error)}); {remedy}") from error


def is_format_fault(error: BaseException) -> bool:
    """Whether a file's bytes are at fault: an error that uproot raises by itself, and not for what it calls of ours."""
    listed = isinstance(error, _FORMAT_FAULTS) or (isinstance(error, OSError) and error.errno is None)
    frames = traceback.walk_tb(error.__traceback__)
    packages = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in frames]
    ours = [package for package in packages if package in ("toposieve", "uproot")]
    return listed and ours[-1:] == ["uproot"]


def cause(error: Exception) -> str:
    """An error's kind and the first line of its message."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


def check_length(file: str, size: int, end: int, remedy: str) -> None:
    """Compare a file's size with the end that its header gives.

    Raises:
        InvalidInputError: They differ.
    """
    if size < end:
        raise InvalidInputError(f"{file}: cut short, {size:,} of {end:,} bytes; {remedy}")
    if size > end:
        raise InvalidInputError(
            f"{file}: not closed properly, {size:,} bytes where its header says {end:,}; let its writer finish, or "
            f"save what is whole with ROOT's hadd, or {remedy}"
        )
