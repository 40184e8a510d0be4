"""What an evaluation found: every score of every scene, what failed, and what is said of them with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.controls import NOISY
from s2s.evaluation.same_width import Sweep
from s2s.evaluation.statistics import Interval, interval
from s2s.metrics.battery import metric_of

Image = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One method on one scene: the seconds it took for the image that is judged, and the scores by metric."""

    method: str
    suite: str
    scene: int
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Failure:
    """What a method could not do: the scene, the role of the image, and why."""

    method: str
    suite: str
    scene: int
    role: str
    reason: str


@dataclass(frozen=True, eq=False)
class Picture:
    """A scene kept to be looked at: images (H, W) in dB by method, the truth last; axes in metres.

    maps: what else there is to see, by name and then by method, such as the bias over independent draws (H, W) in dB.
    """

    suite: str
    scene: int
    images: Mapping[str, Image]
    x: Array
    z: Array
    dynamic_range: float
    maps: Mapping[str, Mapping[str, Image]] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What a method takes: median milliseconds per image, number of parameters, and MiB of memory at its peak.

    The last two are None where they were not measured; memory is what an image takes beyond the loaded method.
    """

    milliseconds: float
    parameters: int | None = None
    memory: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found.

    methods: in the order of tables, controls last.  controls: those of them that are controls.  rows: one for each
    method and scene.  about: plain JSON data on where the scenes came from and what ran.
    sweeps: methods at several strengths, where scenes were swept.
    """

    methods: tuple[str, ...]
    controls: frozenset[str]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...] = ()
    pictures: tuple[Picture, ...] = ()
    costs: Mapping[str, Cost] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    sweeps: tuple[Sweep, ...] = ()

    @cached_property
    def scenes(self) -> tuple[tuple[str, int], ...]:
        """(suite, scene) of all scenes, suite by suite."""
        return tuple(dict.fromkeys((row.suite, row.scene) for row in self.rows))

    def showing(self, pictures: int) -> Evaluation:
        """The same with the pictures of the first scenes of each suite only."""
        return replace(self, pictures=tuple(one for one in self.pictures if one.scene < pictures))

    @cached_property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites."""
        return tuple(dict.fromkeys(suite for suite, _ in self.scenes))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, in the order in which they were first met."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.scores))

    @cached_property
    def _scores(self) -> Mapping[tuple[str, str, int], Mapping[str, float]]:
        return {(row.method, row.suite, row.scene): row.scores for row in self.rows}

    @cached_property
    def _means(self) -> dict[tuple[str, str, str | None], Interval]:
        """Means that were asked for: tables, files and the page ask for the same ones."""
        return {}

    @cached_property
    def strata(self) -> NDArray[np.intp]:
        """Number of each scene's suite (S,): scenes are drawn anew within suites."""
        return np.array([self.suites.index(suite) for suite, _ in self.scenes], dtype=np.intp)

    def values(self, method: str, metric: str, suite: str | None = None) -> Array:
        """One metric of one method in every scene (S,); nan where it was not measured, and in other suites."""
        return np.array([
            self._scores.get((method, *scene), {}).get(metric, math.nan) if suite in (None, scene[0]) else math.nan
            for scene in self.scenes
        ])  # fmt: skip

    def mean(self, method: str, metric: str, suite: str | None = None) -> Interval:
        """The mean over the scenes where a metric was measured, with its interval."""
        key = (method, metric, suite)
        if key not in self._means:
            self._means[key] = interval(self.values(*key), self.strata)
        return self._means[key]

    def truth(self, name: str, suite: str | None = None) -> float:
        """The truth's own value of a metric, or the best there is; nan without either."""
        metric = metric_of(name)
        if isinstance(metric.truth, float):
            return metric.truth
        family, _, member = name.partition("/")
        # A family's own truth stands beside it: `edge_true/` beside `edge/`.
        true = metric.truth or (f"{family}_true/{member}" if member else "")
        rows = (NOISY, *self.methods) if true else ()  # the input can be measured wherever anything can
        return next((mean.mean for row in rows if (mean := self.mean(row, true, suite)).count), math.nan)

    def difference(self, first: str, second: str, metric: str, suite: str | None = None) -> Interval:
        """The mean of first - second over the scenes where both were measured, scene by scene, with its interval."""
        return interval(self.values(first, metric, suite) - self.values(second, metric, suite), self.strata)

    def distance(self, method: str, metric: str) -> Array:
        """How far from the best value each scene is (S,): the smaller the better, whichever way the metric goes."""
        one, values = metric_of(metric), self.values(method, metric)
        if one.better == "nearer":
            true = one.truth if isinstance(one.truth, float) else self.values(method, one.truth)
            return np.abs(values - true)
        return -values if one.better == "higher" else values
