"""Pieces of HTML as strings. Every text that comes in is escaped; what comes out is markup."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
body { color: #1a1a1a; background: #fff; font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 0 auto;
  padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin-bottom: .2rem; }
h2 { font-size: 1.35rem; margin-top: 2.6rem; border-bottom: 1px solid #bbb; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin-top: 1.6rem; }
nav ol { columns: 2; padding-left: 1.4rem; }
a { color: #0b4f8a; }
figure { margin: 1.2rem 0; }
figure img { width: 100%; height: auto; }
figcaption { color: #333; }
figcaption p { margin: .1rem 0; }
.wide { overflow-x: auto; }
.beside { display: flex; flex-wrap: wrap; column-gap: 3.5rem; align-items: flex-start; }
table { border-collapse: collapse; margin: .8rem 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
thead th { border-bottom: 2px solid #666; }
td { white-space: nowrap; } td.text { white-space: normal; overflow-wrap: anywhere; }
.note { background: #f4f4f0; border-left: 4px solid #888; padding: .5rem .9rem; }
@media print { body { max-width: none; font-size: 10.5pt; padding: 0; } nav { display: none; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; } .wide { overflow: visible; } }
"""


def page(title: str, body: str) -> str:
    """A whole document, which loads nothing from elsewhere."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def contents(sections: Mapping[str, str]) -> str:
    """A table of contents.

    Args:
        sections: Anchor → title.
    """
    items = "".join(f'<li><a href="#{escape(anchor)}">{escape(title)}</a></li>' for anchor, title in sections.items())
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A section with its heading."""
    inner = "\n".join(parts)
    return f'<section id="{escape(anchor)}">\n<h2>{escape(title)}</h2>\n{inner}\n</section>'


def heading(title: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(title)}</h3>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is a CSS class."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def bullets(items: Sequence[str]) -> str:
    """A list of remarks."""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], text_columns: Sequence[int] = ()) -> str:
    """A table; the first column names its row, numbers stand on the right.

    Args:
        caption: What the table shows.
        header: Column titles.
        rows: Cells.
        text_columns: Columns besides the first that hold words.
    """
    kind = {column: ' class="text"' for column in text_columns}
    head = "".join(f'<th scope="col"{kind.get(column, "")}>{escape(title)}</th>' for column, title in enumerate(header))
    body = "\n".join(
        "<tr>"
        + "".join(f"<td{kind.get(column, '')}>{escape(str(cell))}</td>" for column, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table>\n<caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def beside(*parts: str) -> str:
    """Parts next to each other, as far as the page is wide enough."""
    return f'<div class="beside">{"".join(parts)}</div>'


def figure(png: bytes, alternative: str, explanation: Sequence[str]) -> str:
    """An image that travels inside the page, with its explanation below.

    Args:
        png: Content of the image file.
        alternative: What it shows, for those who cannot see it.
        explanation: Lines of plain words.
    """
    source = base64.b64encode(png).decode()
    lines = "".join(paragraph(line) for line in explanation)
    return (
        f'<figure><img alt="{escape(alternative)}" src="data:image/png;base64,{source}">'
        f"<figcaption>{lines}</figcaption></figure>"
    )
