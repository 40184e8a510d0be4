"""Means over scenes with bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
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


def interval(values: Array, strata: NDArray[np.integer[Any]], comparisons: int = 1) -> Interval:
    """The mean of values (S,) and its bootstrap interval; scenes are resampled within strata (S,).

    Percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993) of few scenes are too short;
    they are widened (Hesterberg, Am. Stat. 69, 2015, 371-386). A resample of n scenes varies less than n new scenes
    would, by (n - 1) / n: deviations are stretched by sqrt(n / (n - 1)) in each stratum. And the spread itself is
    known from few scenes only: they are stretched by t(d) / z too, the 97.5 % quantiles of Student's law of d degrees
    of freedom and of the normal law, where (Welch and Satterthwaite) with variances s^2 within strata

        d = (sum n s^2)^2 / sum (n s^2)^2 / (n - 1)

    comparisons: all of so many intervals hold at once with 95 %; the quantile of t is that of 0.05 / comparisons
    (Bonferroni). nan values are left out. The ends are nan when some stratum has a single scene or a value is infinite.
    """
    measured = ~np.isnan(values)
    values, strata = values[measured], strata[measured]
    if not values.size:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(values.mean())
    order = np.argsort(strata, kind="stable")
    values, sizes = values[order], np.unique(strata, return_counts=True)[1]
    if not math.isfinite(mean) or sizes.min() < 2:
        return Interval(mean, math.nan, math.nan, values.size)
    deviations = _resamples(tuple(map(int, sizes))) @ values
    low, high = np.quantile(deviations, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    stretch = student(_freedom(values, sizes), comparisons) / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return Interval(mean, mean + stretch * float(low), mean + stretch * float(high), values.size)


@lru_cache(maxsize=32)
def _resamples(sizes: tuple[int, ...]) -> Array:
    """What to multiply values by, sorted by stratum, to get the stretched deviations of the resamples' means (R, S)."""
    random = np.random.default_rng(SEED)
    parts = [
        math.sqrt(size / (size - 1)) * (random.multinomial(size, np.full(size, 1 / size), RESAMPLES) - 1.0)
        for size in sizes
    ]
    return np.concatenate(parts, axis=1) / sum(sizes)


def _freedom(values: Array, sizes: NDArray[np.integer[Any]]) -> float:
    """Degrees of freedom of the mean's variance; those of all scenes when nothing varies."""
    starts = np.cumsum(sizes) - sizes
    centred = values - np.repeat(np.add.reduceat(values, starts) / sizes, sizes)
    parts = sizes / (sizes - 1) * np.add.reduceat(centred**2, starts)
    whole = float((parts**2 / (sizes - 1)).sum())
    return float(parts.sum()) ** 2 / whole if whole else float((sizes - 1).sum())


def student(freedom: float, comparisons: int) -> float:
    """Quantile of Student's law that leaves out 0.05 / comparisons in both tails together."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1.0 - (1.0 - CONFIDENCE) / (2 * comparisons)))
