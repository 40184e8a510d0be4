"""The verdict: who is first by which metric, whether the difference is real, and which metrics may not choose.

A metric ranks every row, controls too, by its mean distance from the best value. It chooses a winner only when the
first is a method that is really better than every control: a metric that ranks a control first, can't tell one from
the first, or is known to be fooled, is printed with a warning and chooses nobody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.results import Evaluation
from s2s.evaluation.same_width import at_edge_width, difference_at_edge_width, widths
from s2s.evaluation.statistics import Interval, interval
from s2s.metrics.battery import metric_of
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

#: The group of metrics that say who is nearest to the truth.
_NEAREST = "fidelity"


@dataclass(frozen=True)
class Finding:
    """What one metric says.

    metric: its name.  ranking: methods and controls that could be compared, best first.  means: their means over the
    `scenes` that count, by name, in the metric's own unit.  left_out: why others are not ranked, by name.
    winner: the method that the metric chooses; empty when it chooses nobody, and `warning` says why.
    runner_up, over_runner_up: the next method, and by how much the first method is better, scene by scene; positive is
    better, whichever way the metric goes.  control, over_control: the same for the best control.
    ties: methods that are not told apart from the first one.  holds: whether the winner's lead stays real when all
    metrics that choose a winner are looked at together, see `interval`.
    """

    metric: str
    ranking: tuple[str, ...]
    means: Mapping[str, float]
    scenes: int
    left_out: Mapping[str, str]
    winner: str = ""
    runner_up: str = ""
    over_runner_up: Interval | None = None
    control: str = ""
    over_control: Interval | None = None
    ties: tuple[str, ...] = ()
    warning: str = ""
    holds: bool = False

    @property
    def is_real(self) -> bool:
        """Whether the winner is told apart from the next method, or from the best control when it is alone."""
        return bool(self.winner) and self.lead is not None and self.lead.is_real

    @property
    def lead(self) -> Interval | None:
        """By how much the first method is better than the next, or than the best control when it is alone."""
        return self.over_runner_up or self.over_control

    @property
    def second(self) -> str:
        """Over whom that lead is."""
        return self.runner_up or self.control


@dataclass(frozen=True)
class Verdict:
    """What all metrics say.

    findings: one for each metric that has a best value.  families: one for each member of a family, such as the
    regions of one name; they choose nobody in `statement`.  statement: the verdict in plain sentences.
    """

    findings: tuple[Finding, ...]
    families: tuple[Finding, ...]
    statement: tuple[str, ...]

    def warnings(self, *metrics: str) -> list[str]:
        """A sentence for each reason why metrics choose nobody, with their titles; of these metrics, or of all."""
        by_reason: dict[str, list[str]] = {}
        for one in self.findings:
            if one.warning and (not metrics or one.metric in metrics):
                by_reason.setdefault(one.warning, []).append(metric_of(one.metric).title)
        return [f"Warning: no winner by {', '.join(titles)}: {reason}." for reason, titles in by_reason.items()]

    def of(self, metric: str) -> Finding | None:
        """The finding of a metric, None when it was not measured."""
        return next((one for one in (*self.findings, *self.families) if one.metric == metric), None)


#: Verdicts that were asked for: the terminal, files and the page ask for the same one.
_FOUND: WeakKeyDictionary[Evaluation, Verdict] = WeakKeyDictionary()


def verdict(evaluation: Evaluation) -> Verdict:
    """Who is first by every metric, and whether that is real; worked out once.

    >>> print(*verdict(evaluation).statement, sep="\\n")  # doctest: +SKIP
    nlm is nearest to the truth: PSNR 36.0 dB, 1.2 [1.0, 1.4] dB over the next, srad.
    """
    if evaluation not in _FOUND:
        _FOUND[evaluation] = _verdict(evaluation)
    return _FOUND[evaluation]


def _verdict(evaluation: Evaluation) -> Verdict:
    names = [name for name in evaluation.metrics if metric_of(name).better != "none"]
    found = [one for name in names if (one := _finding(evaluation, name)) is not None]
    families = tuple(one for one in found if "/" in one.metric)
    findings = _together(evaluation, [one for one in found if "/" not in one.metric])
    return Verdict(findings, families, _statement(evaluation, findings))


def _finding(evaluation: Evaluation, name: str) -> Finding | None:
    """What a metric says; None without a scene."""
    counted, distances = _distances(evaluation, name)
    if not counted.any():
        return None
    measured = {method: int((counted & ~np.isnan(distance)).sum()) for method, distance in distances.items()}
    scenes = int(counted.sum())
    kept = [method for method in evaluation.methods if measured[method] == scenes]
    left_out = {
        method: f"measured in {measured[method]} of {scenes} scenes"
        for method in evaluation.methods
        if method not in kept
    }
    # Of equals the control is first: who does no better than a control has not won.
    ranking = sorted(kept, key=lambda method: (_mean(distances[method][counted]), method not in evaluation.controls))
    means = {method: _mean(evaluation.values(method, name)[counted]) for method in ranking}
    return _judge(evaluation, Finding(name, tuple(ranking), means, scenes, left_out), distances)


def _distances(evaluation: Evaluation, name: str) -> tuple[NDArray[np.bool_], dict[str, Array]]:
    """The scenes that count (S,), and the distances in them by row; nan in the others.

    Where most rows can't be measured, a scene says nothing; where most can, a row that can't has lost.
    """
    distances = {method: evaluation.distance(method, name) for method in evaluation.methods}
    counted = 2 * (~np.isnan(np.stack(list(distances.values())))).sum(axis=0) >= len(distances)
    return counted, {method: np.where(counted, distance, np.nan) for method, distance in distances.items()}


def _together(evaluation: Evaluation, findings: list[Finding]) -> tuple[Finding, ...]:
    """The findings, knowing which leads hold when all metrics that choose a winner are looked at together."""
    choosing = sum(bool(one.winner) for one in findings)

    def holds(one: Finding) -> bool:
        _, distances = _distances(evaluation, one.metric)
        return _lead(distances, one.winner, one.second, evaluation.strata, choosing).is_real

    return tuple(replace(one, holds=holds(one)) if one.is_real else one for one in findings)


def _mean(values: Array) -> float:
    with np.errstate(invalid="ignore"):
        return float(values.mean())


def _judge(evaluation: Evaluation, finding: Finding, distances: Mapping[str, Array]) -> Finding:
    """The finding with winner, differences and warnings."""
    methods = [name for name in finding.ranking if name not in evaluation.controls]
    controls = [name for name in finding.ranking if name in evaluation.controls]
    if not methods:
        return replace(finding, warning="no method could be measured in all scenes that count")
    first, *others = methods
    leads = {name: _lead(distances, first, name, evaluation.strata) for name in (*others, *controls)}
    told: dict[str, Any] = {"ties": tuple(name for name in others if not leads[name].is_real)}
    if others:
        told |= {"runner_up": others[0], "over_runner_up": leads[others[0]]}
    if controls:
        told |= {"control": controls[0], "over_control": leads[controls[0]]}
    alike = [name for name in controls if not leads[name].is_real]
    warning = _warning(finding, first, alike, leads)
    return replace(finding, **told, warning=warning, winner="" if warning else first)


def _lead(
    distances: Mapping[str, Array], first: str, second: str, strata: NDArray[np.intp], comparisons: int = 1
) -> Interval:
    """By how much the first is nearer to the best value, by scene; what only rounding tells apart is equal."""
    near, far = distances[first], distances[second]
    with np.errstate(invalid="ignore"):
        return interval(np.where(np.isclose(near, far, rtol=1e-9, atol=1e-9), 0.0, far - near), strata, comparisons)


def _warning(finding: Finding, first: str, alike: list[str], leads: Mapping[str, Interval]) -> str:
    """Why a metric chooses nobody; empty when it may choose."""
    metric = metric_of(finding.metric)
    if finding.ranking[0] != first:
        return f"{finding.ranking[0]} is first, which is no denoiser"
    if metric.fooled_by:
        return f"it can be fooled by {metric.fooled_by.rstrip(',')}"
    if any(math.isnan(lead.low) and math.isfinite(lead.mean) for lead in leads.values()):
        return "a suite with one scene only gives no interval"
    if alike:
        return f"{first} is not told from {alike[0]}, which is no denoiser"
    return ""


def _statement(evaluation: Evaluation, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The verdict in sentences, the most important one first."""
    if len(evaluation.methods) == len(evaluation.controls):
        return ("There is no method to judge: the rows are controls.",)
    choosing = [one for one in findings if one.winner]
    lines = [*_headlines(choosing), *_at_same_width(evaluation)]
    if not any(metric_of(one.metric).group == _NEAREST for one in choosing):
        lines = ["Nobody is said to be nearest to the truth.", *lines]
    if choosing:
        lines.append(f"A winner is chosen by {len(choosing)} of {len(findings)} metrics: {_wins(choosing)}.")
        lines.append(
            "A lead is real when its 95 % interval leaves out 0, and held when it still does if the intervals of all "
            "these leads are made wide enough to be right together."
        )
    left_out = Counter(name for one in findings for name in one.left_out if name not in evaluation.controls)
    if left_out:
        counts = ", ".join(f"{name} by {count}" for name, count in left_out.items())
        lines.append(f"Not ranked by some of {len(findings)} metrics, since a scene could not be measured: {counts}.")
    return tuple(lines)


def _at_same_width(evaluation: Evaluation) -> list[str]:
    """Who tells lesions best where all edges are equally wide, in the middle of the widths that are compared."""
    if not evaluation.sweeps:
        return []
    compared = widths(evaluation.sweeps)
    width, title = compared[len(compared) // 2], metric_of("gcnr_above_sham").title
    means = [(at_edge_width(sweep, width).mean, sweep) for sweep in evaluation.sweeps]
    reached = sorted((pair for pair in means if not math.isnan(pair[0])), key=lambda pair: -pair[0])
    head = f"With edges equally wide ({width:.2f} mm)"
    if len(reached) < 2:
        return [f"{head} nobody can be compared: {len(reached)} of {len(means)} can be made to have them."]
    (mean, first), (_, second) = reached[:2]
    if first.method not in evaluation.methods:
        return [f"{head} no method tells lesions better than {first.method}, which is no denoiser."]
    lead = difference_at_edge_width(first, second, width)
    ends = "" if math.isnan(lead.low) else f" [{lead.low:.3f}, {lead.high:.3f}]"
    real = "" if lead.is_real else ", from which it is not told apart"
    return [
        f"{head} {first.method} tells lesions best: {title} {mean:.3f}, {lead.mean:.3f}{ends} over the next, "
        f"{second.method}{real}."
    ]


def _wins(choosing: list[Finding]) -> str:
    """How often each method wins, and how often that is real and holds."""
    wins = Counter(one.winner for one in choosing)
    real, held = (Counter(one.winner for one in choosing if getattr(one, key)) for key in ("is_real", "holds"))
    return "; ".join(f"{name} by {count} ({real[name]} real, {held[name]} held)" for name, count in wins.most_common())


def _headlines(choosing: list[Finding]) -> list[str]:
    """A sentence for the first metric of each group that chooses a winner."""
    lines, told = [], set()
    for one in choosing:
        metric = metric_of(one.metric)
        if metric.group in told:
            continue
        told.add(metric.group)
        unit = f" {metric.unit}" if metric.unit else ""
        head = "is nearest to the truth:" if metric.group == _NEAREST else f"is first in {metric.group}:"
        mean = _number(one.means[one.winner], metric)
        who = f"the next, {one.second}" if one.runner_up else f"the best control, {one.second}"
        lines.append(f"{one.winner} {head} {metric.title} {mean}{unit}{_said(one.lead, metric, unit, who)}.")
        ties = [name for name in one.ties if name != one.runner_up]
        if one.ties:
            also = f", nor from {' or '.join(ties)}" if ties else ""
            lines.append(f"By {metric.title}, {one.winner} is not told apart from {one.ties[0]}{also}.")
    return lines


def _said(lead: Interval | None, metric: Metric, unit: str, who: str) -> str:
    """By how much the winner leads, and over whom."""
    if lead is None:
        return ""
    word = {"higher": "over", "lower": "below", "nearer": "nearer to the best value than"}[metric.better]
    low, high = (_number(end, metric) for end in (lead.low, lead.high))
    ends = "" if math.isnan(lead.low) else f" [{low}, {high}]"
    return f", {_number(lead.mean, metric)}{ends}{unit} {word} {who}"


def _number(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}"
