"""The two ways a job fails on purpose."""

from __future__ import annotations

INVALID_INPUT_EXIT_CODE = 2
"""Exit code of a job for invalid input or configuration. Such a run is never worth a retry."""


class InvalidInputError(Exception):
    """Bad input or configuration: no retry can help. The message says what, where (file, entry, key) and what to do."""


class ConflictError(Exception):
    """Another run published to the same place meanwhile. Retrying finds its work and goes on from there."""
