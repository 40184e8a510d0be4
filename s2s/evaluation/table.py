"""An evaluation as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from s2s.evaluation.results import Evaluation
from s2s.evaluation.same_width import at_edge_width, difference_at_edge_width, widths
from s2s.evaluation.verdict import Verdict
from s2s.metrics.battery import METRICS
from s2s.metrics.metric import Metric

#: What tables show where a metric could not be measured.
MISSING = "-"
#: What is told first: how near to the truth, and whether what has to stay has stayed.
DETAIL = ("psnr", "psnr_fit", "ms_ssim_fit", "gcnr_above_sham", "detect", "edge_mm", "point_kept", "contrast_slope")
#: Then what was done to the speckle, how far a result can be trusted, and what can be fooled.
CONDUCT = ("invented", "bias_db", "spread_db", "robust", "grain_lateral_mm", "enl", "hom")


def number(value: float, digits: int) -> str:
    """A number as tables show it: "-" where there is none."""
    if math.isnan(value):
        return MISSING
    return f"{value:z.{0 if abs(value) >= 1000 else digits}f}"


def table(evaluation: Evaluation, found: Verdict) -> str:
    """Tables, a row of means for each method with one of intervals below it, and what has to be known of them."""
    parts = []
    for names, costs in ((DETAIL, False), (CONDUCT, True)):
        metrics = [METRICS[name] for name in names if name in evaluation.metrics]
        parts += [aligned(_rows(evaluation, found, metrics, costs))] if metrics else []
    parts += [text] if (text := at_same_width(evaluation)) else []
    return "\n\n".join([*parts, "\n".join([*notes(evaluation), *found.warnings(*DETAIL, *CONDUCT)])])


def at_same_width(evaluation: Evaluation) -> str:
    """gCNR above chance where methods' edges are equally wide, and its difference to the first sweep's, a control.

    Empty when no scene was swept.
    """
    if not evaluation.sweeps:
        return ""
    control, compared = evaluation.sweeps[0], widths(evaluation.sweeps)
    heads = [head for width in compared for head in (f"gCNR+ at {width:.2f} mm", f"over {control.method}")]
    rows = [["edges equally wide", *heads]]
    for sweep in evaluation.sweeps:
        found = []
        for width in compared:
            found += [at_edge_width(sweep, width), difference_at_edge_width(sweep, control, width)]
        ends = ["" if math.isnan(one.low) else f"{number(one.low, 3)}..{number(one.high, 3)}" for one in found]
        rows += [[sweep.method, *(number(one.mean, 3) for one in found)], *([["", *ends]] if any(ends) else [])]
    return aligned(rows)


def _rows(evaluation: Evaluation, found: Verdict, metrics: Sequence[Metric], costs: bool) -> list[list[str]]:
    rows = [["method", *(f"{metric.title}{_mark(metric, found)}" for metric in metrics), *(["ms"] if costs else [])]]
    if any(metric.truth != "" for metric in metrics):
        rows.append(["(truth)", *(number(evaluation.truth(one.name), one.digits) for one in metrics), *costs * [""]])
    for method in evaluation.methods:
        means = [(evaluation.mean(method, metric.name), metric.digits) for metric in metrics]
        time = [number(evaluation.costs[method].milliseconds, 1)] if costs else []
        rows.append([method, *(number(one.mean, digits) for one, digits in means), *time])
        ends = [f"{number(one.low, digits)}..{number(one.high, digits)}" for one, digits in means]
        ends = ["" if math.isnan(one.low) else text for (one, _), text in zip(means, ends, strict=True)]
        rows += [["", *ends, *costs * [""]]] if any(ends) else []
    return rows


def _mark(metric: Metric, found: Verdict) -> str:
    """* for what can be fooled, ! for what ranks a control first or can't tell one from the first."""
    finding = found.of(metric.name)
    return "*" if metric.fooled_by else "!" if finding is not None and finding.warning else ""


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the tables must know."""
    scenes, suites = len(evaluation.scenes), len(evaluation.suites)
    over = f"means over {scenes} scenes{f' of {suites} suites' if suites > 1 else ''}, with 95 % bootstrap intervals"
    lines = [
        over if scenes > suites else "one scene: no intervals; ask for two or more with --frames",
        "* can be fooled, ! won by a control: neither chooses a winner",
    ]
    missing = [METRICS[name] for name in (*DETAIL, *CONDUCT) if name in evaluation.metrics]
    missing = [one for one in missing if not any(evaluation.mean(name, one.name).count for name in evaluation.methods)]
    return lines + [f"{one.title}: not measured{f', needs {one.needs}' if one.needs else ''}" for one in missing]


def aligned(rows: list[list[str]], left: int = 1) -> str:
    """Rows of cells as text: the first columns to the left, as many as `left` says, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k >= left else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
