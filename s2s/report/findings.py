"""The verdict on the page: who is nearest to the truth, which metrics choose whom, and which choose nobody and why."""

from __future__ import annotations

import math

from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import number
from s2s.evaluation.verdict import Finding
from s2s.metrics.battery import metric_of
from s2s.metrics.metric import Metric
from s2s.report.markup import Cell, Line, escape, table
from s2s.report.scores import Scores
from s2s.report.tables import ARROWS

_HEADS = (
    "metric",
    "chooses",
    "score",
    "ahead of the next by",
    "the next",
    "real?",
    "ahead of the best control by",
    "that control",
)


def verdict_text(scores: Scores) -> str:
    """The statement, the metrics that choose somebody as a table, and those that choose nobody with their reasons."""
    told = [scores.shorten(line) for line in scores.verdict.statement]
    lead = f'<p class="lead">{escape(told[0])}</p>' if told else ""
    more = f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in told[1:])}</ul>" if told[1:] else ""
    lines = [_line(scores, one) for one in scores.verdict.findings if one.winner]
    return lead + more + (table(_HEADS, lines, classes="findings") if lines else "") + _warnings(scores)


def _warnings(scores: Scores) -> str:
    reasons = scores.reasons([one.metric for one in scores.verdict.findings])
    lines = "".join(f"<li><b>{escape(', '.join(titles))}</b>: {escape(why)}</li>" for why, titles in reasons.items())
    told = f'<div class="warning"><strong>\u26a0 Metrics that choose nobody</strong><ul>{lines}</ul></div>'
    return told if reasons else ""


def _line(scores: Scores, one: Finding) -> Line:
    """What one metric says."""
    metric, look, mean = metric_of(one.metric), scores.looks[one.winner], one.means[one.winner]
    head = f'<span title="{escape(metric.meaning)}">{escape(metric.title)}</span> {ARROWS[metric.better]}'
    cells = [
        Cell(f"<b>{look.name}</b>", look.label),
        Cell(_said(mean, metric), mean),
        *_lead(scores, metric, one.over_runner_up, one.runner_up),
        _real(one),
        *_lead(scores, metric, one.over_control, one.control),
    ]
    return Line(f"{head}<small>{escape(metric.group)}</small>", cells)


def _real(one: Finding) -> Cell:
    """Whether the lead over the second is real, by itself and among all metrics that choose."""
    if not one.is_real:
        return Cell("no", 2.0, "no")
    return Cell("yes<small>and it holds</small>", 0.0, "yes") if one.holds else Cell("yes", 1.0, "yes")


def _lead(scores: Scores, metric: Metric, lead: Interval | None, other: str) -> list[Cell]:
    """By how much the first method is ahead, and of whom."""
    if lead is None or not other:
        return [Cell("-"), Cell("-")]
    low, high = (number(end, metric.digits) for end in (lead.low, lead.high))
    ends = "" if math.isnan(lead.low) else f"<small>{low} to {high}</small>"
    look = scores.looks[other]
    return [Cell(_said(lead.mean, metric) + ends, lead.mean), Cell(look.name, look.label)]


def _said(value: float, metric: Metric) -> str:
    return f"{number(value, metric.digits)}{f' {escape(metric.unit)}' if metric.unit else ''}"
