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


_LASTING = {
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINVAL, errno.EBADF,
    errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP,
}  # fmt: skip
"""What stays as it is until somebody mends it. All else that a system says (a reset connection, an expired token, a
mount that went away, too many open files) may be over in a minute."""


def is_transient(error: BaseException) -> bool:
    """Whether an error is one of the machine or the network rather than of the input: worth a retry."""
    if not isinstance(error, OSError):
        return False
    if isinstance(error, UnavailableError | ConnectionError | TimeoutError):
        return True
    return error.errno is not None and error.errno not in _LASTING


def is_full_disk(error: BaseException) -> bool:
    """Whether there was no room to write, which says nothing about what was read."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
