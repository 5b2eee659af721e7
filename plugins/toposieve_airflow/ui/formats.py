"""Numbers and links as the pages write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any
from urllib.parse import urlencode

from toposieve_airflow.runs.documents import Measured, WorkingPoint

__all__ = ["difference", "measured", "rejection", "sparkline", "with_query"]

SPARKLINE = (90.0, 22.0)
"""Width and height in pixels."""
_MARGIN = 2.0


def measured(value: Measured | None) -> str:
    """A value with its error.

    >>> measured(Measured(0.97634, 0.0021)), measured(Measured(0.5)), measured(None)
    ('0.9763 ± 0.0021', '0.5000', '–')
    """
    if value is None or value.value is None:
        return "–"
    error = "" if value.error is None else f" ± {value.error:.4f}"
    return f"{value.value:.4f}{error}"


def difference(after: Measured | None, before: Measured | None) -> str:
    """The second value less the first, with its sign.

    >>> difference(Measured(0.98), Measured(0.97)), difference(None, Measured(0.97))
    ('+0.0100', '')
    """
    if after is None or before is None or after.value is None or before.value is None:
        return ""
    return f"{after.value - before.value:+.4f}"


def rejection(points: Sequence[WorkingPoint] | None) -> str:
    """Background rejection at the first working point.

    >>> rejection([WorkingPoint(0.995, 0.0123)]), rejection([WorkingPoint(0.9, 0.0)])
    ('81.3 at 99.5 %', '')
    """
    point = points[0] if points else None
    return f"{point.rejection:.3g} at {100 * point.target:g} %" if point and point.rejection else ""


def sparkline(values: Sequence[float | None]) -> str:
    """Points of an SVG polyline, from left to right.

    >>> sparkline([2.0, 1.0])
    '0.0,2.0 90.0,20.0'
    """
    known = [(place, value) for place, value in enumerate(values) if value is not None and isfinite(value)]
    if not known:
        return ""
    lowest, highest = min(value for _, value in known), max(value for _, value in known)
    width, height = SPARKLINE
    across, up = width / max(len(values) - 1, 1), (height - 2 * _MARGIN) / ((highest - lowest) or 1.0)
    return " ".join(f"{place * across:.1f},{height - _MARGIN - (value - lowest) * up:.1f}" for place, value in known)


def with_query(query: Mapping[str, Any], **changes: Any) -> str:
    """A link to the same page with other parameters.

    >>> with_query({"q": "a b", "page": 3}, page=4)
    '?q=a+b&page=4'
    """
    return "?" + urlencode({**query, **changes}, doseq=True)
