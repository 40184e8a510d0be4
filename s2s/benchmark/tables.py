"""The tables of a benchmark as text, for Markdown and for HTML alike; every score of ours with its 95 % interval."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from s2s.benchmark.paper import COLUMNS, PATIENTS, ROWS, SETS
from s2s.evaluation.controls import NOISY
from s2s.evaluation.results import Evaluation
from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import CONDUCT, DETAIL, MISSING, number
from s2s.metrics.battery import METRICS
from s2s.report import markup

#: Ours beside the paper's columns: nearness to the truth of the image itself.
OWN = ("psnr", "psnr_fit")
#: Controls that stand in the paper's table; the last has the published images' display.
CONTROLS = (NOISY, "control gaussian:sigma=3", "control gaussian:sigma=3 gamma=2")
#: What the gains of a method are measured by, and the wrapper whose gain is told.
GAIN, PHASES = "psnr_fit", "polyphase(4):"


@dataclass(frozen=True)
class Table:
    """A title, heads of columns, and lines of a name and cells; told: what must be known of it."""

    title: str
    heads: Sequence[str]
    lines: Sequence[tuple[str, Sequence[str]]]
    told: str = ""

    def markdown(self) -> str:
        """The table in Markdown under a heading."""
        rows = [f"| {' | '.join(('', *self.heads))} |", "|---" * (len(self.heads) + 1) + "|"]
        rows += [f"| {' | '.join((name, *cells))} |" for name, cells in self.lines]
        return "\n\n".join(part for part in (f"### {self.title}", self.told, "\n".join(rows)) if part)

    def html(self) -> str:
        """The table in HTML under a heading; a click on a head sorts it."""
        lines = [
            markup.Line(inline(name), [markup.Cell(html.escape(cell), _key(cell)) for cell in cells])
            for name, cells in self.lines
        ]
        inside = markup.table(["", *map(inline, self.heads)], lines, classes="many")
        told = markup.note(inline(self.told)) if self.told else ""
        return f"<h3>{inline(self.title)}</h3>{told}{inside}"


def inline(text: str) -> str:
    """A line of our own Markdown, with its code and its bold and slanted words, as HTML."""
    text = html.escape(text)
    for mark, tag in ((r"\*\*", "b"), (r"\*", "i"), ("`", "code")):
        text = re.sub(rf"{mark}(.+?){mark}", rf"<{tag}>\1</{tag}>", text)
    return text


def shown(found: Interval, digits: int, sign: str = "") -> str:
    """A mean and its interval; "-" where nothing was measured, and how many scenes have given no interval.

    >>> shown(Interval(1.0, 0.5, 1.5, 4), 1)
    '1.0 [0.5, 1.5]'
    """
    if math.isnan(found.mean):
        return MISSING
    mean = f"{found.mean:{sign}.{digits}f}"
    if math.isnan(found.low):
        return f"{mean} (one scene)" if found.count == 1 else f"{mean} ({found.count} scenes, no interval)"
    return f"{mean} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def paper_tables(result: Evaluation, trainings: Mapping[str, float]) -> list[Table]:
    """The paper's table: one for each of its sets, its images of patients, and the times; trainings: their seconds."""
    sets = [_set_table(result, place) for place in range(len(SETS))]
    return [*sets, _patients(result), _costs(result, trainings)]


def _set_table(result: Evaluation, place: int) -> Table:
    name, suite = list(SETS.items())[place]
    metrics = [METRICS[column] for column in COLUMNS]
    heads = [head for one in metrics for head in (one.title, "paper")]
    heads += [*(METRICS[own].title for own in OWN), "scenes"]
    lines = []
    for method in _rows(result, suite):
        paper = ROWS[method].sets[place] if method in ROWS else (math.nan,) * len(COLUMNS)
        cells = []
        for one, theirs in zip(metrics, paper, strict=True):
            cells += [shown(result.mean(method, one.name, suite), one.digits), number(theirs, one.digits)]
        cells += [shown(result.mean(method, own, suite), METRICS[own].digits) for own in OWN]
        lines.append((method, [*cells, f"{result.mean(method, OWN[0], suite).count}"]))
    return Table(f"{name}, our `{suite}`", heads, lines)


def _patients(result: Evaluation) -> Table:
    suite = PATIENTS[1]
    lines = []
    for method in _rows(result, suite):
        theirs = ROWS[method].patients if method in ROWS else None
        cells = [shown(result.mean(method, "hom", suite), 3), MISSING if theirs is None else number(theirs, 3)]
        cells += [shown(result.mean(method, own, suite), METRICS[own].digits) for own in OWN]
        lines.append((method, [*cells, f"{result.mean(method, OWN[0], suite).count}"]))
    told = "The paper's Hom is of carotid images of patients, which have no truth; ours of simulated ones, which have."
    heads = ["Hom", "paper", *(METRICS[own].title for own in OWN), "scenes"]
    return Table(f"{PATIENTS[0].capitalize()}, our `{suite}`", heads, lines, told)


def _costs(result: Evaluation, trainings: Mapping[str, float]) -> Table:
    suite = SETS["S-II"]
    lines = []
    for method in _rows(result, suite):
        if method in result.controls:
            continue
        seconds = np.array([row.seconds for row in result.rows if (row.method, row.suite) == (method, suite)])
        taken = f"{seconds.mean():.3f} ({seconds.min():.3f} to {seconds.max():.3f})"
        parameters = result.costs[method].parameters
        theirs = ROWS[method].time if method in ROWS else ""
        size, taught = f"{parameters:,}" if parameters else "none", trainings.get(method)
        cells = [taken, theirs or MISSING, size, MISSING if taught is None else f"{taught / 60.0:.1f}"]
        lines.append((method, cells))
    told = (
        "Of 512 x 512 pixels, as judged: one thread of a processor that did other work too, or the device; the mean, "
        "and in brackets the least and the most of a scene. Minutes of training have the making of its data in them; "
        "what is fitted to each image takes its seconds for that."
    )
    return Table("Time", ["s per image", "paper", "parameters", "training, minutes"], lines, told)


def battery_tables(battery: Evaluation) -> list[Table]:
    """The scores on the suites of the evaluation, and what each method gains over the best filter."""
    tables = []
    for title, names in (("Nearness to the truth", DETAIL), ("Speckle, trust, and what can be fooled", CONDUCT)):
        metrics = [METRICS[name] for name in names if name in battery.metrics]
        lines = [
            (method, [shown(battery.mean(method, one.name), one.digits) for one in metrics])
            for method in battery.methods
            if not method.endswith("gamma=2")
        ]
        tables.append(Table(title, [f"{one.title} {one.unit}".strip() for one in metrics], lines))
    return tables


def gain_table(battery: Evaluation, filters: Iterable[str]) -> Table | None:
    """By how much each method is nearer to the truth than the best filter, scene by scene; None without filters."""
    counts = {name: battery.mean(name, GAIN).count for name in battery.methods}
    most = max(counts.values(), default=0)  # where the truth is flat there is no tone to fit
    able = [name for name in filters if most and counts.get(name, 0) == most]
    if not able:
        return None
    best = max(able, key=lambda name: battery.mean(name, GAIN).mean)
    others = [name for name in battery.methods if name != best and name not in battery.controls]
    gains = {name: battery.difference(name, best, GAIN) for name in others}
    lines = [
        (name, [shown(gain, 2, "+"), "yes" if gain.is_real else "no"])
        for name, gain in sorted(gains.items(), key=lambda item: -item[1].mean)
    ]
    told = f"PSNR fit in dB over `{best}`, the best of the filters that could be judged wherever any method could."
    return Table("By how much", ["gain", "told from 0"], lines, told)


def phases_table(result: Evaluation) -> Table | None:
    """What the phases of an image change, method by method; None where none was judged both ways."""
    lines = []
    for name in result.methods:
        alone = name.removeprefix(PHASES)
        if name != alone and alone in result.methods:
            gains = [result.difference(name, alone, metric) for metric in OWN]
            lines.append((alone, [*(shown(gain, 2, "+") for gain in gains), f"{gains[0].count}"]))
    told = f"What `{PHASES}` changes: methods that need white noise, on the phases of an image less itself, in dB."
    heads = [METRICS[own].title for own in OWN] + ["scenes"]
    return Table("White noise, and phases", heads, lines, told) if lines else None


def _rows(result: Evaluation, suite: str) -> list[str]:
    """The rows of a table: methods that were judged on a suite, the paper's first and in its order, then controls."""
    able = [name for name in result.methods if name not in result.controls and result.mean(name, OWN[0], suite).count]
    return [
        *(name for name in ROWS if name in able),
        *(name for name in able if name not in ROWS),
        *(name for name in CONTROLS if name in result.methods),
    ]


def _key(cell: str) -> float | str:
    try:
        return float(cell.split()[0].replace(",", ""))
    except ValueError:
        return math.nan
