"""The tables of the page: scores by group, suite by suite, families, costs, failures, and what each number is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import MISSING, number
from s2s.evaluation.verdict import Finding
from s2s.metrics.battery import METRICS, metric_of
from s2s.metrics.metric import Metric
from s2s.report.looks import THE_TRUTH, Look
from s2s.report.markup import Cell, Line, anchor, escape, fold, note, pairs, table, words
from s2s.report.scores import Scores

ARROWS = {
    "higher": '<abbr title="higher is better">\u2191</abbr>',
    "lower": '<abbr title="lower is better">\u2193</abbr>',
    "nearer": '<abbr title="nearer to the truth is better">\u2248</abbr>',
    "none": "",
}
#: Columns from which on a table is wide.
_MANY = 7
_WARN = '<a class="warn" href="#verdict" title="{}">\u26a0</a>'


def score_tables(scores: Scores) -> str:
    """A table for each group of metrics: a line for each row, a column for each metric, the truth's values on top."""
    parts = []
    for group, metrics in scores.groups.items():
        head = ["", *(_head(metric, metric.name, scores.findings.get(metric.name)) for metric in metrics)]
        lines = [
            _line(look, [_score(scores, name, metric.name) for metric in metrics])
            for name, look in scores.looks.items()
        ]
        remarks = "".join(note(text) for text in _remarks(scores, metrics))
        inside = table(head, lines, fixed=_truths(scores, metrics), classes=_width(head))
        parts.append(f'<div><h3 id="scores-{anchor(group)}">{escape(group)}</h3>{inside}{remarks}</div>')
    missing = [METRICS[name] for name in scores.evaluation.metrics if name in METRICS and name not in scores.measured]
    told = [f"{metric.title} (it needs {metric.needs})" if metric.needs else metric.title for metric in missing]
    left_out = note(f"Not measured in any scene: {escape(', '.join(told))}.") if told else ""
    return f'<div class="groups">{"".join(parts)}</div>{left_out}'


def suite_tables(scores: Scores) -> str:
    """For every metric that ranks, what it is in each suite."""
    suites = scores.evaluation.suites
    parts = []
    for metric in (metric for metrics in scores.groups.values() for metric in metrics if metric.better != "none"):
        measured = [suite for suite in suites if scores.is_measured(metric.name, suite)]
        lines = [
            _line(look, [_score(scores, name, metric.name, suite) for suite in measured])
            for name, look in scores.looks.items()
        ]
        truth = [_true(scores, metric, suite) for suite in measured]
        fixed = [_line(THE_TRUTH, truth)] if any(cell.html != MISSING for cell in truth) else []
        heads = ["", *(escape(suite.rpartition("/")[2]) for suite in measured)]
        parts.append(fold(_head(metric, metric.name, None), table(heads, lines, fixed=fixed)))
    return f'<div class="folds">{"".join(parts)}</div>'


def family_tables(scores: Scores, skip: Iterable[str] = ()) -> str:
    """A table for each family of metrics that ranks or has a truth beside it."""
    shown = [
        family
        for family in scores.families
        if family not in skip and (METRICS[family].better != "none" or f"{family[:-1]}_true/" in scores.families)
    ]
    parts = [fold(_head(METRICS[family], family, None), family_table(scores, family)) for family in shown]
    return f'<div class="folds">{"".join(parts)}</div>' if parts else ""


def family_table(scores: Scores, family: str) -> str:
    """A table of a family, a column for each member, such as the regions of one name; empty when not measured."""
    members = scores.families.get(family, [])
    if not members:
        return ""
    metric = METRICS[family]
    lines = [_line(look, [_score(scores, name, one) for one in members]) for name, look in scores.looks.items()]
    truth = [_true(scores, metric_of(one), None, one) for one in members]
    fixed = [_line(THE_TRUTH, truth)] if any(cell.html != MISSING for cell in truth) else []
    heads = ["", *(escape(one.partition("/")[2]) for one in members)]
    told = "; ".join(
        part
        for part in (
            metric.meaning,
            metric.unit and f"in {metric.unit}",
            metric.fooled_by and f"can be fooled: {metric.fooled_by}",
        )
        if part
    )
    return note(escape(told)) + table(heads, lines, fixed=fixed, classes=_width(heads))


def cost_table(scores: Scores) -> str:
    """What each row takes."""
    lines = []
    for name, look in scores.looks.items():
        cost = scores.evaluation.costs.get(name)
        given = (math.nan, None, None) if cost is None else (cost.milliseconds, cost.parameters, cost.memory)
        values = [math.nan if value is None else float(value) for value in given]
        lines.append(_line(look, [Cell(number(v, d), v) for v, d in zip(values, (1, 0, 1), strict=True)]))
    return table(["", "ms per image", "parameters", "memory MiB"], lines)


def failure_table(scores: Scores) -> str:
    """What failed, and why: one line for each method, image and reason, however many scenes it happened in."""
    counted: dict[tuple[str, str, str, str], list[int]] = {}
    for failure in scores.evaluation.failures:
        counted.setdefault((failure.method, failure.suite, failure.role, failure.reason), []).append(failure.scene)
    lines = []
    for (method, suite, role, reason), scenes in counted.items():
        some = ", ".join(map(str, scenes[:8])) + (" ..." if len(scenes) > 8 else "")
        cells = [words(suite), words(role), Cell(f"{len(scenes)} <small>{some}</small>", len(scenes)), words(reason)]
        look = scores.looks.get(method)
        # A method at some other strength has no row of its own.
        lines.append(_line(look, cells) if look else Line(escape(scores.shorten(method)), cells))
    return table(["", "suite", "image", "scenes", "why"], lines)


def metric_lists(metrics: Mapping[str, Metric] = METRICS) -> str:
    """What each number is, for all metrics of a battery by group."""
    parts = []
    for group in dict.fromkeys(metric.group for metric in metrics.values()):
        told = [
            (f"{metric.title} \u00b7 {name}", _meaning(metric))
            for name, metric in metrics.items()
            if metric.group == group
        ]
        parts.append(f"<h3>{escape(group)}</h3>{pairs(told)}")
    return "\n".join(parts)


def _meaning(metric: Metric) -> str:
    best = {
        "higher": "higher is better",
        "lower": "lower is better",
        "none": "",
        "nearer": "nearer to the truth's is better",
    }
    if isinstance(metric.truth, float):
        best["nearer"] = f"nearer to {metric.truth:g} is better"
    parts = [metric.meaning, f"unit {metric.unit}" if metric.unit else "", best[metric.better]]
    parts.append(f"improved without merit by: {metric.fooled_by}" if metric.fooled_by else "")
    parts.append(f"needs {metric.needs}" if metric.needs else "")
    return "; ".join(part for part in parts if part)


def _width(heads: Sequence[str]) -> str:
    """The class of tables of many columns: their intervals stand below the means."""
    return "many" if len(heads) > _MANY else ""


def _line(look: Look, cells: Sequence[Cell]) -> Line:
    return Line(look.name, cells, look.key, look.classes if look is not THE_TRUTH else "truth")


def _head(metric: Metric, name: str, finding: Finding | None) -> str:
    unit = f" <small>{escape(metric.unit)}</small>" if metric.unit else ""
    warn = _WARN.format(escape(finding.warning)) if finding and finding.warning else ""
    told = f'<span title="{escape(f"{name}: {metric.meaning}")}">{escape(metric.title)}</span>'
    return f"{told} {ARROWS[metric.better]}{unit}{warn}"


def _score(scores: Scores, method: str, name: str, suite: str | None = None) -> Cell:
    """A mean with its interval; bold where the metric chooses the row."""
    one, metric = scores.mean(method, name, suite), metric_of(name)
    finding = scores.findings.get(name) if suite is None else None
    best = finding is not None and finding.winner == method
    shown = number(one.mean, metric.digits)
    return Cell((f"<b>{shown}</b>" if best else shown) + _ends(one, metric.digits), scores.badness(method, name, suite))


def _ends(one: Interval, digits: int) -> str:
    low, high = number(one.low, digits), number(one.high, digits)
    return "" if math.isnan(one.low) or low == high else f"<small>{low} to {high}</small>"


def _truths(scores: Scores, metrics: Sequence[Metric]) -> list[Line]:
    cells = [_true(scores, metric) for metric in metrics]
    return [_line(THE_TRUTH, cells)] if any(cell.html != MISSING for cell in cells) else []


def _true(scores: Scores, metric: Metric, suite: str | None = None, name: str = "") -> Cell:
    return Cell(number(scores.evaluation.truth(name or metric.name, suite), metric.digits))


def _remarks(scores: Scores, metrics: Sequence[Metric]) -> list[str]:
    """What must be known of a table: which metrics choose nobody, and why; and what could not be measured."""
    reasons = scores.reasons([metric.name for metric in metrics])
    told = [f"\u26a0 <b>{escape(', '.join(titles))}</b>: {escape(why)}." for why, titles in reasons.items()]
    for metric in metrics:
        missing = scores.unmeasured(metric.name)
        if missing:
            need = f": it needs {escape(metric.needs)}" if metric.needs else ""
            told.append(f"{escape(metric.title)}: {missing}{need}.")
    return told


def about_lists(about: Mapping[str, object], skip: Iterable[str] = ()) -> str:
    """Where the scenes came from and what ran; mappings of mappings become lines of their own."""
    lines = []
    for key, value in about.items():
        if key in skip:
            continue
        nested = isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())
        for name, content in value.items() if nested else [("", value)]:  # type: ignore[attr-defined]
            if isinstance(content, Mapping):
                content = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in content.items() if v != "")
            lines.append((f"{key} {name}".strip(), str(content)))
    return pairs(lines)
