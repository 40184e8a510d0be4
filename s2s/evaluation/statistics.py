"""Means over scenes with bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Share of the interval, number of resamples, and the seed of them: the same scores give the same interval.
CONFIDENCE, RESAMPLES, SEED = 0.95, 2_000, 6


@dataclass(frozen=True)
class Interval:
    """A mean over `count` scenes, and the ends of its 95 % bootstrap interval; nan where there is none."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def is_real(self) -> bool:
        """Whether a difference is told from zero: its interval leaves out zero, or it is infinite."""
        return self.low > 0.0 or self.high < 0.0 or math.isinf(self.mean)


def interval(values: Array, strata: NDArray[np.integer[Any]]) -> Interval:
    """The mean of values (S,) and its percentile bootstrap interval; scenes are resampled within strata (S,).

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993. A resample of n scenes varies less than n new scenes
    would, by (n - 1) / n; its deviations from the mean are therefore stretched by sqrt(n / (n - 1)) in each stratum.

    nan values are left out. The ends are nan when some stratum has a single scene, or a value is infinite.
    """
    measured = ~np.isnan(values)
    values, strata = values[measured], strata[measured]
    if not values.size:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    groups = [values[strata == number] for number in np.unique(strata)]
    if not math.isfinite(mean) or min(group.size for group in groups) < 2:
        return Interval(mean, math.nan, math.nan, values.size)
    random, sums = np.random.default_rng(SEED), np.zeros(RESAMPLES)
    for group in groups:
        drawn = random.choice(group, (RESAMPLES, group.size)).mean(axis=1)
        sums += group.size * (group.mean() + (drawn - group.mean()) * math.sqrt(group.size / (group.size - 1)))
    low, high = np.quantile(sums / values.size, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(mean, float(low), float(high), values.size)
