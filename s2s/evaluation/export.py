"""An evaluation as files for other programs: JSON with every score of every scene, CSV with the means."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from s2s.evaluation.results import Evaluation
from s2s.evaluation.same_width import told
from s2s.evaluation.verdict import Finding, verdict
from s2s.metrics.battery import metric_of
from s2s.metrics.metric import Metric

#: The columns of the CSV file, and what stands in `suite` for the means over all of them.
COLUMNS = ("method", "control", "suite", "metric", "group", "unit", "better", "mean", "low", "high", "count")
ALL_SUITES = "(all)"


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON: about, verdict, definitions, means with intervals, sweeps, and every row.

    nan and infinity, which JSON can't hold, become null.
    """
    said = verdict(evaluation)
    content = {
        "format": "s2s-evaluation/2",
        "about": dict(evaluation.about),
        "verdict": {
            "statement": list(said.statement),
            "warnings": said.warnings(),
            "findings": [_finding(one) for one in said.findings],
        },
        "definitions": {name: asdict(metric_of(name)) for name in evaluation.metrics},
        "methods": [
            {
                "name": method,
                "control": method in evaluation.controls,
                "cost": asdict(evaluation.costs[method]) if method in evaluation.costs else None,
                "metrics": {name: asdict(evaluation.mean(method, name)) for name in evaluation.metrics},
            }
            for method in evaluation.methods
        ],
        "failures": [asdict(failure) for failure in evaluation.failures],
        "sweeps": told(evaluation.sweeps),
        "rows": [asdict(row) for row in evaluation.rows],
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "real": finding.is_real}


def finite(content: Any) -> Any:
    """Plain data as JSON can hold it: None for nan and infinity."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def to_csv(evaluation: Evaluation, definition: Callable[[str], Metric] = metric_of) -> str:
    """The means as CSV (RFC 4180): a line for each method, suite and metric that was measured, and for all suites.

    low, high: ends of the 95 % interval.  count: scenes in the mean.  control: 1 for a control, 0 for a method.
    definition: what a metric is, by its name.  Numbers have all their digits; a cell is empty where there is no
    interval.

    >>> to_csv(evaluation).splitlines()[0]  # doctest: +SKIP
    'method,control,suite,metric,group,unit,better,mean,low,high,count'
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_lines(evaluation, definition))
    return text.getvalue()


def _lines(evaluation: Evaluation, definition: Callable[[str], Metric]) -> Iterator[tuple[Any, ...]]:
    for method in evaluation.methods:
        for name in evaluation.metrics:
            metric = definition(name)
            for suite in (None, *evaluation.suites):
                one = evaluation.mean(method, name, suite)
                if one.count:
                    known = (method, int(method in evaluation.controls), suite or ALL_SUITES, name)
                    numbers = ("" if math.isnan(value) else repr(value) for value in (one.mean, one.low, one.high))
                    yield (*known, metric.group, metric.unit, metric.better, *numbers, one.count)
