"""Intervals hold the true mean as often as they say: for few scenes, equal and mixed suites, and skewed data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from s2s.evaluation.statistics import Interval, _resamples, interval

ONE = np.zeros(12, int)
#: Standard deviations of seven suites: one of them hardly counts, one is nearly all.
MIXED = (1.0, 1.0, 1.0, 3.0, 0.3, 0.3, 0.3)
LAWS = {"gaussian": stats.norm(), "exponential": stats.expon(), "lognormal": stats.lognorm(1.0)}


def coverage(law, sizes, spreads, trials):
    """Share of trials whose interval holds the true mean."""
    random, strata = np.random.default_rng(3), np.repeat(np.arange(len(sizes)), sizes)
    scale = np.repeat(spreads, sizes)
    true = float((LAWS[law].mean() * scale).mean())
    drawn = LAWS[law].rvs(size=(trials, len(strata)), random_state=random) * scale
    found = [interval(values, strata) for values in drawn]
    return np.mean([one.low <= true <= one.high for one in found])


@pytest.mark.parametrize(
    ("law", "sizes", "spreads", "least", "most"),
    [
        *[("gaussian", (n,), (1.0,), 0.93, 0.97) for n in (4, 8, 12, 16)],
        ("gaussian", (4,) * 7, (1.0,) * 7, 0.93, 0.98),
        ("gaussian", (4,) * 7, MIXED, 0.93, 0.98),
        ("gaussian", (12,) * 7, MIXED, 0.93, 0.97),
        ("gaussian", (2,) * 7, MIXED, 0.93, 1.0),
        ("exponential", (4,), (1.0,), 0.85, 0.97),
        ("exponential", (12,), (1.0,), 0.89, 0.97),
        ("exponential", (12,) * 7, MIXED, 0.91, 0.97),
        ("lognormal", (12,), (1.0,), 0.82, 0.97),
        ("lognormal", (12,) * 7, MIXED, 0.86, 0.97),
    ],
)
def test_coverage(law, sizes, spreads, least, most):
    found = coverage(law, sizes, spreads, 1000)
    print(law, sizes, spreads, found)
    assert least < found < most


#: The table of docs/evaluation.md: coverage by law, for sizes and spreads of suites.
DOCUMENTED = {
    ((4,), (1.0,)): (0.946, 0.883, 0.825),
    ((8,), (1.0,)): (0.949, 0.901, 0.844),
    ((12,), (1.0,)): (0.948, 0.915, 0.860),
    ((16,), (1.0,)): (0.946, 0.920, 0.869),
    ((4,) * 7, (1.0,) * 7): (0.954, 0.938, 0.906),
    ((4,) * 7, MIXED): (0.942, 0.914, 0.875),
    ((12,) * 7, MIXED): (0.946, 0.932, 0.896),
}


@pytest.mark.slow
@pytest.mark.parametrize(("suites", "figures"), DOCUMENTED.items(), ids=str)
def test_coverage_as_documented(suites, figures):
    for law, figure in zip(LAWS, figures, strict=True):
        assert coverage(law, *suites, 20_000) == pytest.approx(figure, abs=0.007)


def test_it_is_students_interval_where_that_is_right():
    """For one suite of normal values the bootstrap has the same length within its own noise."""
    values = np.random.default_rng(2).normal(size=12)
    found = interval(values, ONE)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def test_many_comparisons_widen_it_like_bonferroni():
    values = np.random.default_rng(4).normal(size=12)
    one, ten = interval(values, ONE), interval(values, ONE, comparisons=10)
    ratio = stats.t.ppf(1 - 0.025 / 10, 11) / stats.t.ppf(0.975, 11)
    assert (ten.high - ten.low) / (one.high - one.low) == pytest.approx(ratio)


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=12), st.floats(-1e3, 1e3), st.floats(0.1, 10))
def test_it_moves_and_stretches_with_the_values(numbers, shift, factor):
    values = np.array(numbers)
    strata = np.arange(len(values)) % 2
    one, other = interval(values, strata), interval(factor * values + shift, strata)
    assert one.low <= one.mean + 1e-9
    assert one.high >= one.mean - 1e-9
    for end in ("mean", "low", "high"):
        assert getattr(other, end) == pytest.approx(factor * getattr(one, end) + shift, abs=1e-6)


def test_differences_between_suites_are_no_uncertainty():
    """Which suites there are is not drawn: only what is drawn within them counts."""
    strata = np.repeat([0, 1], 6)
    within = np.random.default_rng(5).normal(size=12)
    apart = within + 100.0 * strata
    one, other = interval(within, strata), interval(apart, strata)
    assert other.high - other.low == pytest.approx(one.high - one.low)
    assert interval(apart, ONE).high - interval(apart, ONE).low > 20 * (one.high - one.low)


def test_scenes_may_come_in_any_order_of_suites():
    values, strata = np.random.default_rng(6).normal(size=12), np.resize([0, 1, 2], 12)
    order = np.argsort(strata, kind="stable")
    assert interval(values, strata) == interval(values[order], strata[order])


@pytest.mark.parametrize(
    ("values", "strata", "mean", "count"),
    [
        ([], [], math.nan, 0),
        ([math.nan, math.nan], [0, 0], math.nan, 0),
        ([3.0], [0], 3.0, 1),
        ([3.0, math.nan], [0, 0], 3.0, 1),
        ([1.0, 2.0, 6.0], [0, 0, 1], 3.0, 3),
        ([1.0, math.inf], [0, 0], math.inf, 2),
    ],
)
def test_no_interval_is_made_up(values, strata, mean, count):
    found = interval(np.array(values), np.array(strata, dtype=int))
    np.testing.assert_equal((found.mean, found.count), (mean, count))
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_what_is_real():
    assert Interval(1.0, 0.1, 1.9, 4).is_real
    assert Interval(-1.0, -1.9, -0.1, 4).is_real
    assert not Interval(1.0, -0.1, 2.1, 4).is_real
    assert not Interval(1.0, math.nan, math.nan, 1).is_real
    assert Interval(math.inf, math.nan, math.nan, 4).is_real
    zero = interval(np.zeros(4), np.zeros(4, int))
    assert (zero.low, zero.high, zero.is_real) == (0.0, 0.0, False)


def test_equal_scores_give_equal_intervals_and_at_once():
    values, strata = np.random.default_rng(7).normal(size=96), np.repeat(np.arange(8), 12)
    first = interval(values, strata)
    drawn = _resamples.cache_info().misses
    again = [interval(values, strata) for _ in range(100)]
    assert _resamples.cache_info().misses == drawn  # what takes long is drawn once
    assert set(again) == {first}
