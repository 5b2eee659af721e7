"""The ways a job fails on purpose."""

from __future__ import annotations

import errno

INVALID_INPUT_EXIT_CODE = 2
"""Exit code of a job for invalid input or configuration. Such a run is never worth a retry."""


class InvalidInputError(Exception):
    """Bad input or configuration: no retry can help. The message says what, where (file, entry, key) and what to do."""


class RefusedError(InvalidInputError):
    """A store refuses us (credentials, rights, a bucket that is not there): nothing that makes an input file bad."""


class ConflictError(Exception):
    """Another run published to the same place meanwhile. Retrying finds its work and goes on from there."""


class UnavailableError(OSError):
    """A store or service cannot be reached, or does not answer: worth a retry. The message names the host."""


_TRANSIENT = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN,
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE,
}  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether an error is one of the machine or the network rather than of the input: worth a retry."""
    return isinstance(error, UnavailableError) or (isinstance(error, OSError) and error.errno in _TRANSIENT)


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no room to write, which says nothing about what was read."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
