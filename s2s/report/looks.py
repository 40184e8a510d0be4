"""How rows look on the whole page: one short name, colour, dash and marker for each, the same in every plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from s2s.evaluation.controls import NOISY
from s2s.evaluation.results import Evaluation
from s2s.evaluation.tuned import LABELS
from s2s.report.markup import escape

#: Colours that stay apart for colour-blind eyes and on white: Okabe and Ito, Color Universal Design, 2008, without
#: yellow and black. More methods than colours differ by dash and marker as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("", "7 3", "2 3", "9 3 2 3")
MARKERS = ("circle", "square", "triangle", "diamond")
#: Of rows that are no methods.
GREY, DARK, BLACK = "#a3a9b1", "#5b636d", "#16191d"
#: The name under which pictures hold the truth.
TRUTH = "truth"


@dataclass(frozen=True)
class Look:
    """The look of one row: its key on the page, its short name, its colours, and whether it is a control."""

    key: str
    label: str
    full: str
    colour: str
    dash: str = ""
    marker: str = ""
    control: bool = False

    @property
    def classes(self) -> str:
        """What the page's style and script know the row by."""
        return "control" if self.control else "method"

    @property
    def name(self) -> str:
        """The name as HTML with its swatch; controls are marked as such."""
        mark = ' <span class="mark">control</span>' if self.control else ""
        return f'{self.swatch}<span title="{escape(self.full)}">{escape(self.label)}</span>{mark}'

    @property
    def swatch(self) -> str:
        """A short piece of the row's line."""
        return (
            '<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">'
            f'<path d="M1 6H25" stroke="{self.colour}" stroke-width="2.5" stroke-dasharray="{self.dash}"/>'
            f"{marker(self.marker, 13, 6, self.colour)}</svg>"
        )


THE_TRUTH = Look("truth", TRUTH, TRUTH, BLACK)


def looks_of(evaluation: Evaluation) -> Mapping[str, Look]:
    """The look of every row by its name, methods first.

    >>> looks_of(evaluation)["nlm"].colour  # doctest: +SKIP
    '#0072b2'
    """
    short = _short([name for name in evaluation.methods if name not in evaluation.controls])
    found: dict[str, Look] = {}
    for number, name in enumerate(evaluation.methods):
        if name in evaluation.controls:
            line = (DARK, "4 3") if name == NOISY else (GREY, "")
            found[name] = Look(f"r{number}", _shorter(name), name, *line, control=True)
            continue
        lap, colour = divmod(number, len(COLOURS))
        dash, mark = DASHES[lap % len(DASHES)], MARKERS[number % len(MARKERS)]
        found[name] = Look(f"r{number}", short[name], name, COLOURS[colour], dash, mark)
    return found


def _shorter(name: str) -> str:
    """A control's name as it fits beside a plot."""
    return name.removeprefix("control ").replace(":sigma=", " \u03c3\u00a0").replace(" gamma=", ", \u03b3\u00a0")


def _short(names: list[str]) -> Mapping[str, str]:
    """Names without the path of their checkpoint, with its last part where two would be alike; tuned filters without
    their settings, which a row's title and the last section tell."""
    parts = {name: name.partition(" (") for name in names}

    def told(head: str, tail: str, path: bool) -> str:
        inside = tail.removesuffix(")")
        if inside in LABELS.values():
            return f"{head.partition(':')[0]} ({inside})"
        return f"{head} {PurePath(inside).name}".strip() if path else head

    for path in (False, True):
        short = {name: told(head, tail, path) for name, (head, _, tail) in parts.items()}
        if max(Counter(short.values()).values(), default=1) == 1:
            return short
    return {name: name for name in names}


def marker(shape: str, x: float, y: float, colour: str, size: float = 3.4) -> str:
    """A point of a line as SVG; nothing without a shape."""
    at = f'fill="{colour}" stroke="#fff" stroke-width=".8"'
    s = size
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}" {at}/>'
    outlines = {
        "square": ((-s, -s), (s, -s), (s, s), (-s, s)),
        "triangle": ((0, -1.2 * s), (1.2 * s, s), (-1.2 * s, s)),
        "diamond": ((0, -1.4 * s), (1.4 * s, 0), (0, 1.4 * s), (-1.4 * s, 0)),
    }
    points = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in outlines.get(shape, ()))
    return f'<polygon points="{points}" {at}/>' if points else ""
