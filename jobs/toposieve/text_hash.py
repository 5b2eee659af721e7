"""What names of folders and configurations follow from, for ever the same."""

from __future__ import annotations

import hashlib


def text_hash(text: str) -> str:
    """Sixteen hexadecimal digits that change with a text.

    >>> text_hash("qcd")
    'edee6533f53d009e'
    """
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
