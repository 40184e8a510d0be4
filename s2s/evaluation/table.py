"""An evaluation as text for a terminal."""

from __future__ import annotations

import math

from s2s.evaluation.results import Evaluation
from s2s.metrics.battery import METRICS
from s2s.metrics.metric import Metric

#: What tables show where a metric could not be measured.
MISSING = "-"
#: The metrics of the first table.
COLUMNS = ("psnr", "psnr_fit", "ssim_fit", "enl", "gcnr", "edge_mm", "hom")


def number(value: float, digits: int) -> str:
    """A number as tables show it: "-" where there is none."""
    if math.isnan(value):
        return MISSING
    return f"{value:.{0 if abs(value) >= 1000 else digits}f}"


def truth_of(evaluation: Evaluation, method: str, metric: Metric) -> float:
    """The value that the truth has, or the best there is; nan without either."""
    if isinstance(metric.truth, float):
        return metric.truth
    return evaluation.mean(method, metric.truth).mean if metric.truth else math.nan


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the table must know: what is in the cells, and what could not be measured."""
    scenes, suites = len(evaluation.scenes), len(evaluation.suites)
    over = f"means over {scenes} scenes{f' of {suites} suites' if suites > 1 else ''}, with 95 % bootstrap intervals"
    lines = [over if scenes > suites else "one scene: no intervals; ask for two or more with --frames"]
    fooled = [METRICS[name] for name in COLUMNS if name in evaluation.metrics and METRICS[name].fooled_by]
    lines += [f"{metric.title}: {metric.fooled_by} raises it" for metric in fooled]
    return lines


def table(evaluation: Evaluation) -> str:
    """A row of means for each method, and one of the intervals below it."""
    metrics = [METRICS[name] for name in COLUMNS if name in evaluation.metrics]
    rows = [["method", *(metric.title for metric in metrics), "ms"]]
    for method in evaluation.methods:
        means = [evaluation.mean(method, metric.name) for metric in metrics]
        cells = [number(one.mean, metric.digits) for one, metric in zip(means, metrics, strict=True)]
        for k, metric in enumerate(metrics):
            true = truth_of(evaluation, method, metric)
            cells[k] += "" if math.isnan(true) or cells[k] == MISSING else f" ({number(true, metric.digits)})"
        rows.append([method, *cells, number(evaluation.costs[method].milliseconds, 1)])
        spreads = [
            "" if math.isnan(one.low) else f"{number(one.low, metric.digits)}..{number(one.high, metric.digits)}"
            for one, metric in zip(means, metrics, strict=True)
        ]
        rows += [["", *spreads, ""]] if any(spreads) else []
    return "\n\n".join([_aligned(rows), "\n".join(notes(evaluation))])


def _aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
