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

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.results import Evaluation
from s2s.evaluation.statistics import CONFIDENCE, Interval, interval
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
    ties: methods that are not told apart from the first one.  comparisons: pairs of rows that were compared.
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
    comparisons: int = 0

    @property
    def is_real(self) -> bool:
        """Whether the winner is told apart from the next method, or from the best control when it is alone."""
        lead = self.over_runner_up or self.over_control
        return bool(self.winner) and lead is not None and lead.is_real


@dataclass(frozen=True)
class Verdict:
    """What all metrics say.

    findings: one for each metric that has a best value.  families: one for each member of a family, such as the
    regions of one name; they choose nobody in `statement`.  statement: the verdict in plain sentences.
    """

    findings: tuple[Finding, ...]
    families: tuple[Finding, ...]
    statement: tuple[str, ...]

    def of(self, metric: str) -> Finding | None:
        """The finding of a metric, None when it was not measured."""
        return next((one for one in (*self.findings, *self.families) if one.metric == metric), None)


def verdict(evaluation: Evaluation) -> Verdict:
    """Who is first by every metric, and whether that is real.

    >>> print(*verdict(evaluation).statement, sep="\\n")  # doctest: +SKIP
    nlm is nearest to the truth: PSNR 36.0 dB, 1.2 [1.0, 1.4] dB over the next, srad.
    """
    found = [one for name in evaluation.metrics if (one := _finding(evaluation, name)) is not None]
    findings = tuple(one for one in found if "/" not in one.metric)
    return Verdict(findings, tuple(one for one in found if "/" in one.metric), _statement(evaluation, findings))


def _finding(evaluation: Evaluation, name: str) -> Finding | None:
    """What a metric says; None for one without a best value, or without a scene."""
    metric = metric_of(name)
    if metric.better == "none":
        return None
    distances = {method: evaluation.distance(method, name) for method in evaluation.methods}
    measured = ~np.isnan(np.stack(list(distances.values())))
    # Where most rows can't be measured, the scene says nothing; where most can, a row that can't has lost.
    counted = 2 * measured.sum(axis=0) >= len(distances)
    if not counted.any():
        return None
    kept = {method: distance for method, distance in distances.items() if not np.isnan(distance[counted]).any()}
    left_out = {
        method: f"measured in {int((counted & ~np.isnan(distance)).sum())} of {int(counted.sum())} scenes"
        for method, distance in distances.items()
        if method not in kept
    }
    # Of equals the control is first: who does no better than a control has not won.
    ranking = sorted(kept, key=lambda method: (_mean(kept[method][counted]), method not in evaluation.controls))
    means = {method: _mean(evaluation.values(method, name)[counted]) for method in ranking}
    finding = Finding(name, tuple(ranking), means, int(counted.sum()), left_out)
    return _judge(evaluation, metric, finding, {method: np.where(counted, kept[method], np.nan) for method in ranking})


def _mean(values: Array) -> float:
    with np.errstate(invalid="ignore"):
        return float(values.mean())


def _judge(evaluation: Evaluation, metric: Metric, finding: Finding, distances: Mapping[str, Array]) -> Finding:
    """The finding with winner, differences and warnings."""
    methods = [name for name in finding.ranking if name not in evaluation.controls]
    controls = [name for name in finding.ranking if name in evaluation.controls]
    if not methods:
        return replace(finding, warning="no method could be measured in all scenes that count")
    first, *others = methods
    leads = {name: _lead(distances, first, name, evaluation.strata) for name in (*others, *controls)}
    told: dict[str, Any] = {
        "ties": tuple(name for name in others if not leads[name].is_real),
        "comparisons": len(leads),
    }
    if others:
        told |= {"runner_up": others[0], "over_runner_up": leads[others[0]]}
    if controls:
        told |= {"control": controls[0], "over_control": leads[controls[0]]}
    warning = _warning(metric, finding, first, [name for name in controls if not leads[name].is_real], leads)
    return replace(finding, **told, warning=warning, winner="" if warning else first)


def _lead(distances: Mapping[str, Array], first: str, second: str, strata: NDArray[np.intp]) -> Interval:
    """By how much the first is nearer to the best value, by scene; equal values, infinite ones too, differ by 0."""
    near, far = distances[first], distances[second]
    with np.errstate(invalid="ignore"):
        return interval(np.where(near == far, 0.0, far - near), strata)


def _warning(metric: Metric, finding: Finding, first: str, alike: list[str], leads: Mapping[str, Interval]) -> str:
    """Why a metric chooses nobody; empty when it may choose."""
    if finding.ranking[0] != first:
        return f"ranks {finding.ranking[0]} first, which is no denoiser: it chooses nobody"
    if metric.fooled_by:
        return f"can be fooled ({metric.fooled_by}): it chooses nobody"
    if any(math.isnan(lead.low) and math.isfinite(lead.mean) for lead in leads.values()):
        return "no interval, since a suite has one scene only: it chooses nobody"
    if alike:
        return f"does not tell {first} from {alike[0]}, which is no denoiser: it chooses nobody"
    return ""


def _statement(evaluation: Evaluation, findings: tuple[Finding, ...]) -> tuple[str, ...]:
    """The verdict in sentences, the most important one first."""
    if len(evaluation.methods) == len(evaluation.controls):
        return ("There is no method to judge: the rows are controls.",)
    choosing = [one for one in findings if one.winner]
    lines = _headlines(choosing)
    if not any(metric_of(one.metric).group == _NEAREST for one in choosing):
        lines = ["Nobody is said to be nearest to the truth.", *lines]
    wins, real = (Counter(one.winner for one in found) for found in (choosing, [o for o in choosing if o.is_real]))
    if choosing:
        counts = ", ".join(f"{name} {count} ({real[name]} real)" for name, count in wins.most_common())
        lines.append(f"{len(choosing)} of {len(findings)} metrics choose a winner: {counts}.")
    lines += _warnings(findings)
    left_out = dict.fromkeys(name for one in findings for name in one.left_out)
    if left_out:
        lines.append(f"Not ranked by some metrics, since they were not measured in every scene: {', '.join(left_out)}.")
    comparisons, share = sum(one.comparisons for one in findings), 1.0 - CONFIDENCE
    if choosing:
        lines.append(
            f"Real means that a 95 % interval leaves out 0. {comparisons} pairs were compared, one by one: if none of "
            f"them differed, some {share * comparisons:.0f} would look real all the same."
        )
    return tuple(lines)


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
        lead, other = one.over_runner_up or one.over_control, one.runner_up or one.control
        who = f"the next, {other}" if one.runner_up else f"the best control, {other}"
        lines.append(f"{one.winner} {head} {metric.title} {mean}{unit}{_said(lead, metric, unit, who)}.")
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


def _warnings(findings: tuple[Finding, ...]) -> list[str]:
    """A sentence for each reason why metrics choose nobody, with their titles."""
    by_reason: dict[str, list[str]] = {}
    for one in findings:
        if one.warning:
            by_reason.setdefault(one.warning, []).append(metric_of(one.metric).title)
    return [f"Warning: {', '.join(titles)}: {reason}." for reason, titles in by_reason.items()]


def _number(value: float, metric: Metric) -> str:
    return f"{value:.{metric.digits}f}"
