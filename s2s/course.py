"""The course of a training, read off its validations: which was best, whether it still gains, whether it goes astray.

All comparisons are paired: the same frames are scored at every validation, so that what makes one frame harder than
another cancels. With d the difference of a frame's score between two validations, S suites and n frames in each,

    gain = mean over suites of mean(d),    error^2 = sum over suites of var(d) / n / S^2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Validations that are averaged before two times of a training are compared; a single one wobbles by some 0.3 dB.
AVERAGED = 3
#: What counts as a fall: so many standard errors, and so many decibels at least, since less can't be seen. Of 600
#: made-up courses that gain or stand still, with a wobble of 0.02 to 0.5 dB that may last, 6 errors warn of 1 %; a
#: fall by ten wobbles over seven validations is found; both are in tests/unit/test_course.py.
ERRORS, LEAST_FALL_DB = 6.0, 0.2


@dataclass
class Course:
    """What the validations of a training tell together; plain data, so that a checkpoint holds it.

    steps, losses: of each validation; a loss is the mean since the one before.  scores: the metric that chooses, larger
    is better, by validation, suite and frame.  best: number of the best validation.  mark: that of the last one that
    gained more than its error.  astray: whether a warning was given and still holds.  wary: whether a validation is the
    best only if its gain on the first is significant.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[list[list[float]]] = field(default_factory=list)
    best: int = -1
    mark: int = -1
    astray: bool = False
    wary: bool = False

    def add(self, step: int, loss: float, scores: Sequence[Array]) -> bool:
        """Take in a validation; whether it is the best so far, by the mean over suites."""
        self.steps.append(step)
        self.losses.append(loss)
        self.scores.append([[float(value) for value in suite] for suite in scores])
        latest = len(self.steps) - 1
        if self.mark < 0 or exceeds(*gain(self._at(self.mark), scores)):
            self.mark = latest
        gains = not self.wary or is_significant(self._at(0), scores)
        if self.best < 0 or (gains and self._mean(latest) > self._mean(self.best)):
            self.best = latest
        return self.best == latest

    def stands_still(self, patience: int) -> bool:
        """Whether none of the last `patience` validations gained more than its standard error."""
        return len(self.steps) - 1 - self.mark >= patience

    def warning(self) -> str:
        """What there is to warn of, in words: the loss falls and so do the scores; "" for nothing, or nothing new.

        Means of three validations are compared, the latest with the best, and with the three before: scores that
        recover are not warned of. What is no trend is measured on the course itself, by the second differences of its
        values.
        """
        means = np.array([self._mean(number) for number in range(len(self.steps))])
        if means.size < 2 * AVERAGED or not np.isfinite(means).all():
            return ""
        smooth = np.convolve(means, np.full(AVERAGED, 1.0 / AVERAGED), "valid")
        peak = int(np.argmax(smooth[:-AVERAGED]))
        then, now = slice(peak, peak + AVERAGED), slice(-AVERAGED, None)
        change, error = gain(self._mean_of(then), self._mean_of(now))
        error = math.hypot(error, _wobble(means))
        losses = np.array(self.losses)
        eased = float(losses[then].mean() - losses[now].mean())
        falls = -change > max(ERRORS * error, LEAST_FALL_DB) and eased > ERRORS * _wobble(losses)
        fresh = falls and not self.astray and smooth[-1] < smooth[-1 - AVERAGED]
        self.astray = bool(fresh or (self.astray and -change > error))
        if not fresh:
            return ""
        return (
            f"since step {self.steps[peak + AVERAGED - 1]} the loss fell from {losses[then].mean():.4g} to "
            f"{losses[now].mean():.4g}, but PSNR against the truth fell too, by {-change:.2f} +- {error:.2f} dB: the "
            f"loss no longer asks for what the truth is; best.pt holds step {self.steps[self.best]}"
        )

    def plain(self) -> dict[str, Any]:
        """For a checkpoint; `Course(**plain)` is the course again."""
        return dict(vars(self))

    def _at(self, number: int) -> list[Array]:
        return [np.array(suite) for suite in self.scores[number]]

    def _mean(self, number: int) -> float:
        return float(np.mean([suite.mean() for suite in self._at(number)]))

    def _mean_of(self, numbers: slice) -> list[Array]:
        """Mean scores of some validations, by suite and frame."""
        return [np.mean(suites, axis=0) for suites in zip(*self.scores[numbers], strict=True)]


def gain(before: Sequence[Array], after: Sequence[Array]) -> tuple[float, float]:
    """Mean paired difference of scores, and its standard error; nan for the error where a suite has one frame only.

    before, after: scores (frames,) of each suite.

    >>> gain([np.array([30.0, 32.0])], [np.array([31.0, 33.5])])
    (1.25, 0.25)
    """
    with np.errstate(invalid="ignore"):
        changes = [np.where(a == b, 0.0, b - a) for a, b in zip(before, after, strict=True)]  # inf - inf is no change
    mean = float(np.mean([change.mean() for change in changes]))
    if min(change.size for change in changes) < 2 or not all(np.isfinite(change).all() for change in changes):
        return mean, math.nan
    variance = sum(float(change.var(ddof=1)) / change.size for change in changes)
    return mean, math.sqrt(variance) / len(changes)


def exceeds(change: float, error: float) -> bool:
    """Whether a gain is more than its standard error; of one frame any gain is."""
    return change > (0.0 if math.isnan(error) else error)


def is_significant(before: Sequence[Array], after: Sequence[Array]) -> bool:
    """Whether a gain is more than nothing by Student's test, one-sided at 95 %; of one frame in a suite it never is."""
    from scipy.special import stdtrit

    change, error = gain(before, after)
    return change > stdtrit(min(suite.size for suite in before) - 1, 0.95) * error


def _wobble(values: Array) -> float:
    """Standard error of the difference of two means of AVERAGED values, from what is no trend in their course.

    Second differences of independent values of deviation s have the deviation s sqrt(6); their median is not moved by a
    single jump.
    """
    deviation = float(np.median(np.abs(np.diff(values, 2)))) / 0.6745 / math.sqrt(6.0)
    return deviation * math.sqrt(2.0 / AVERAGED)
