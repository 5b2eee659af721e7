"""What the report page is made of. Plain data here; all markup is in ``report.html.j2``, which escapes every text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined


@dataclass(frozen=True)
class Table:
    """A table; the first column names its row, numbers stand on the right."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """Cells as they are shown."""
    text: Sequence[int] = ()
    """Columns besides the first that hold words."""
    words: str = ""
    """What to know when reading it."""


@dataclass(frozen=True)
class Section:
    """A part of the page, shown in this order; an entry of the contents goes with it."""

    id: str
    """Its anchor."""
    title: str
    notes: Sequence[str] = ()
    """Paragraphs set apart: what is missing, and why."""
    words: Sequence[str] = ()
    """Paragraphs."""
    plots: Sequence[str] = ()
    """Names of plots; one that was not drawn is left out."""
    tables: Sequence[Table] = ()


_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_TEMPLATE = resources.files("toposieve.evaluation").joinpath("report.html.j2")


def render_page(images: Mapping[str, bytes], **content: Any) -> str:
    """The page as one HTML document that needs nothing else.

    Args:
        images: Plot → PNG.
        content: Everything else that the template names.
    """
    encoded = {name: b64encode(png).decode() for name, png in images.items()}
    return _ENVIRONMENT.from_string(_TEMPLATE.read_text("utf-8")).render(images=encoded, **content)
