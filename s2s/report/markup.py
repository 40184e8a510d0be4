"""Pieces of HTML: text, sections with anchors, and tables that sort."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def escape(text: object) -> str:
    """Text that can stand anywhere in HTML, between quotes too."""
    return html.escape(str(text))


def anchor(title: str) -> str:
    """The name of a place on the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "here"


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading that can be linked to."""

    title: str
    body: str

    @property
    def anchor(self) -> str:
        """The name of its place on the page."""
        return anchor(self.title)

    @property
    def html(self) -> str:
        """The heading and the body."""
        link = f'<a class="here" href="#{self.anchor}" aria-label="link to this section">#</a>'
        return f'<section id="{self.anchor}">\n<h2>{escape(self.title)} {link}</h2>\n{self.body}\n</section>'


@dataclass(frozen=True)
class Cell:
    """A cell: what it shows, and what its column is sorted by; cells without a key come last."""

    html: str
    key: float | str = math.nan
    classes: str = ""

    def render(self) -> str:
        """The cell as HTML."""
        missing = isinstance(self.key, float) and math.isnan(self.key)
        key = "" if missing else f' data-key="{escape(self.key)}"'
        classes = f' class="{self.classes}"' if self.classes else ""
        return f"<td{classes}{key}>{self.html}</td>"


def words(text: object) -> Cell:
    """A cell of text, sorted by it."""
    return Cell(escape(text), str(text).lower(), "text")


@dataclass(frozen=True)
class Line:
    """A line of a table: its head, its cells, and what the page knows it by."""

    head: str
    cells: Sequence[Cell]
    key: str = ""
    classes: str = ""

    def render(self) -> str:
        """The line as HTML."""
        known = f' data-row="{self.key}"' if self.key else ""
        classes = f' class="{self.classes}"' if self.classes else ""
        cells = "".join(cell.render() for cell in self.cells)
        return f'<tr{classes}{known}><th scope="row">{self.head}</th>{cells}</tr>'


def table(head: Sequence[str], lines: Iterable[Line], *, fixed: Iterable[Line] = (), classes: str = "") -> str:
    """A table in a box of its own that scrolls; a click on a head sorts the lines, those in `fixed` stay on top.

    head: HTML of the heads, that of the lines' heads first.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    above = "".join(line.render() for line in fixed)
    body = "\n".join(line.render() for line in lines)
    return (
        f'<div class="wide"><table class="sortable {classes}"><thead><tr>{top}</tr>{above}</thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """A list of terms with what they are; both plain text."""
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(told)}</dd>' for term, told in lines)}</dl>"


def fold(title: str, body: str, *, is_open: bool = False) -> str:
    """What opens on a click, from HTML."""
    return f"<details{' open' if is_open else ''}><summary>{title}</summary>\n{body}</details>"


def note(text: str) -> str:
    """A line of small print, from HTML."""
    return f'<p class="note">{text}</p>'
