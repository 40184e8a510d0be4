"""What the page asks an evaluation for, again and again: means, worked out once, groups, families and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from s2s.evaluation.results import Evaluation
from s2s.evaluation.statistics import Interval
from s2s.evaluation.verdict import Finding, Verdict, verdict
from s2s.metrics.battery import METRICS, metric_of
from s2s.metrics.metric import Metric
from s2s.report.looks import Look, looks_of


class Scores:
    """An evaluation as the page reads it.

    >>> Scores(evaluation).mean("nlm", "psnr").mean  # doctest: +SKIP
    36.03
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.looks: Mapping[str, Look] = looks_of(evaluation)

    @cached_property
    def verdict(self) -> Verdict:
        """Who is first, and whether that is real."""
        return verdict(self.evaluation)

    @cached_property
    def findings(self) -> Mapping[str, Finding]:
        """What each metric says, by name, families' members among them."""
        return {one.metric: one for one in (*self.verdict.findings, *self.verdict.families)}

    @cached_property
    def groups(self) -> Mapping[str, list[Metric]]:
        """The metrics that were measured by group, without families and without those that are others' truth."""
        truths = {metric.truth for metric in METRICS.values()}
        found: dict[str, list[Metric]] = {}
        for metric in METRICS.values():
            if metric.name in self.measured and metric.name not in truths:
                found.setdefault(metric.group, []).append(metric)
        return found

    @cached_property
    def measured(self) -> frozenset[str]:
        """Names of the metrics that some row has in some scene."""
        return frozenset(
            name for row in self.evaluation.rows for name, value in row.scores.items() if not math.isnan(value)
        )

    @cached_property
    def families(self) -> Mapping[str, list[str]]:
        """Names of the members of each family that was measured, by the family's name."""
        found: dict[str, list[str]] = {}
        for name in self.evaluation.metrics:
            if "/" in name:
                found.setdefault(metric_of(name).name, []).append(name)
        return found

    @property
    def methods(self) -> list[str]:
        """Names of the rows that are no controls."""
        return [name for name in self.evaluation.methods if name not in self.evaluation.controls]

    def mean(self, method: str, metric: str, suite: str | None = None) -> Interval:
        """The mean with its interval over all scenes, or over those of a suite."""
        return self.evaluation.mean(method, metric, suite)

    def badness(self, method: str, name: str, suite: str | None = None) -> float:
        """What a table is sorted by, best first: how far the mean is from the best value."""
        metric, mean = metric_of(name), self.mean(method, name, suite).mean
        if metric.better == "nearer":
            kept = np.array([suite in (None, scene[0]) for scene in self.evaluation.scenes])
            distances = self.evaluation.distance(method, name)[kept]
            return float(np.nanmean(distances)) if np.isfinite(distances).any() else math.nan
        return mean if metric.better == "lower" else -mean

    def is_measured(self, name: str, suite: str) -> bool:
        """Whether any row has the metric in a suite."""
        return any(self.mean(row, name, suite).count for row in self.evaluation.methods)

    def unmeasured(self, name: str) -> str:
        """In how many scenes of the suites that have the metric some row lacks it; empty where in none."""
        evaluation = self.evaluation
        values = np.stack([evaluation.values(row, name) for row in evaluation.methods])
        suites = np.array([suite for suite, _ in evaluation.scenes])
        known = ~np.isnan(values)
        counted = np.isin(suites, suites[known.any(axis=0)])
        missing = int((~known[:, counted]).any(axis=0).sum())
        return f"some rows lack it in {missing} of {int(counted.sum())} scenes" if missing else ""

    def reasons(self, metrics: Iterable[str]) -> Mapping[str, list[str]]:
        """Titles of those of some metrics that choose nobody, by the reason."""
        found: dict[str, list[str]] = {}
        for name in metrics:
            finding = self.findings.get(name)
            if finding is not None and finding.warning:
                found.setdefault(self.shorten(finding.warning), []).append(metric_of(name).title)
        return found

    def shorten(self, text: str) -> str:
        """A text with the short names of the rows in place of the full ones."""
        for name in sorted(self.looks, key=len, reverse=True):
            label = self.looks[name].label
            text = text if name == label or self.looks[name].control else text.replace(name, label)
        return text
