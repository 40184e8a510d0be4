"""Methods compared at the same edge width: curves of what each scores over its strengths, and a table read off them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.same_width import (
    SCORES,
    Sweep,
    at_edge_width,
    difference_at_edge_width,
    unreached,
    widths,
)
from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import number
from s2s.metrics.battery import METRICS
from s2s.report.looks import DARK, Look
from s2s.report.markup import Cell, Line, escape, note, table
from s2s.report.plots import Axis, Curve, chart
from s2s.report.scores import Scores

_TOLD = (
    "More smoothing tells lesions better from tissue and widens edges. So every method is run at several strengths, "
    "each a point of its curve, and compared where its edges are equally wide: the higher curve is better. "
    "Intervals are in small print; differences are scene by scene."
)


def same_width(scores: Scores) -> str:
    """Curves and the table; empty when no scene was swept."""
    sweeps = scores.evaluation.sweeps
    if not sweeps:
        return ""
    known = {sweep.method: _look(scores, sweep) for sweep in sweeps}
    true = float(np.nanmean(np.concatenate([sweep.true_edge for sweep in sweeps])))
    charts = []
    for metric in SCORES:
        curves = [Curve(known[sweep.method], _means(sweep.edge), _means(sweep.scores[metric])) for sweep in sweeps]
        title = f"{METRICS[metric].title} at each strength"
        charts.append(chart(title, curves, Axis(f"edge width [mm]; truth {true:.2f}"), Axis(METRICS[metric].unit)))
    legend = "".join(f'<span data-row="{look.key}">{look.name}</span>' for look in known.values())
    told = f'{note(_TOLD)}<div class="legend">{legend}</div><div class="charts">{"".join(charts)}</div>'
    return told + _table(known, sweeps)


def _look(scores: Scores, sweep: Sweep) -> Look:
    """The look of the method's row; a control that has no row of this name looks as the untouched images do."""
    return scores.looks.get(sweep.method) or Look(
        "swept", sweep.method.removeprefix("control "), sweep.method, DARK, "4 3", "circle", control=True
    )


def _means(values: NDArray[np.float64]) -> list[float]:
    """Means over scenes (K,) of what was measured at each strength (K, S); nan where nothing was."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: list[float] = (np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)).tolist()
    return means


def _table(known: dict[str, Look], sweeps: tuple[Sweep, ...]) -> str:
    """The first metric of the sweeps at each of the widths, and by how much it is above that of the control."""
    metric, control, compared = METRICS[SCORES[0]], sweeps[0], widths(sweeps)
    heads = [""]
    for width in compared:
        heads += [f"{escape(metric.title)} at {width:.2f} mm", f"above {escape(known[control.method].label)}"]
    lines = []
    for sweep in sweeps:
        cells = []
        for width in compared:
            why = unreached(sweep, width)
            cells.append(_cell(at_edge_width(sweep, width), metric.digits, why))
            cells.append(_cell(difference_at_edge_width(sweep, control, width), metric.digits))
        look = known[sweep.method]
        lines.append(Line(look.name, cells, look.key, look.classes))
    return table(heads, lines, classes="many")


def _cell(one: Interval, digits: int, why: str = "") -> Cell:
    low, high = number(one.low, digits), number(one.high, digits)
    ends = f"<small>{low} to {high}</small>" if not math.isnan(one.low) else ""
    if why:
        return Cell(f"{number(one.mean, digits)}<small>{escape(why)}</small>", classes="why")
    return Cell(f"{number(one.mean, digits)}{ends}", -one.mean)
