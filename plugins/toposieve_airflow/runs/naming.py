"""Names of datasets and reports: the same partitions and configuration always give the same name.

A retry and a second run so find their work again, and nothing depends on when or by whom a run was started.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

DIGITS = 8


def short_hash(content: Any) -> str:
    """Eight hexadecimal digits that change with any value of a JSON-serialisable ``content``."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=DIGITS // 2).hexdigest()


def dataset_name(partitions: Sequence[str], configuration: Mapping[str, Any]) -> str:
    """Name of the dataset made from these partitions with this configuration.

    >>> dataset_name(["2026-01-01", "2026-01-02"], {}).rsplit("-", 1)[0]
    '2026-01-01_2026-01-02'
    """
    ends = [partitions[0]] if len(partitions) == 1 else [partitions[0], partitions[-1]]
    return f"{'_'.join(ends)}-{short_hash([list(partitions), configuration])}"


def study_name(dataset: str, configuration: Mapping[str, Any]) -> str:
    """Name of the search of this configuration on ``dataset``."""
    return f"{dataset}-{short_hash(configuration)}"


def report_name(dataset: str, configuration: Mapping[str, Any]) -> str:
    """Name of the report on all models that are trained and evaluated on ``dataset`` with this configuration."""
    return f"{dataset}-{short_hash(configuration)}"
