"""The compression law: from how the spread of speckle depends on its mean grey, and from the shape of its histogram."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from usim.display import Screen, level_of
from usim.match.blocks import Blocks
from usim.match.scan import WHITE
from usim.phantom.screen import Display

Array = NDArray[np.float64]
SPECKLE_DB: Final = 5.57  # pi / sqrt(6) * 10 / ln 10: standard deviation of fully developed speckle in dB
SHARES: Final = (0.03, 0.08, 0.16, 0.3, 0.5, 0.7, 0.84, 0.92, 0.97)
BINS: Final = 12
FEWEST_IN_BIN: Final = 4
TRIMMED: Final = 1.5  # standard deviations of a block's spread about the median of its bin
WIDTH: Final = 5.0  # standard errors of a block's mean: in narrower bins blocks are sorted by chance, not by level
BETTER: Final = 0.75  # misfit of a curve of two numbers over that of the plain logarithm, to be preferred
MISFIT: Final = 0.01  # of the spread: below it curves are told apart by chance
_LEVELS: Final = np.arange(-120.0, 24.0, 1.0)
_NODES: Final = (np.arange(200) + 0.5) / 200.0


@dataclass(frozen=True, eq=False)
class Law:
    """What a display shows of speckle: grey 0 to 255 against the level in dB of the mean intensity, white 0 dB."""

    display: Display

    def grey(self, level: Any) -> Array:
        """Grey of an intensity of `level` dB."""
        return WHITE * Screen(self.display, np.zeros((1, 1))).grey(10.0 ** (np.asarray(level, np.float64) / 10.0))

    @cached_property
    def _moments(self) -> tuple[Array, Array]:
        grey = self.grey(_LEVELS[:, None] + 10.0 * np.log10(-np.log(_NODES)))
        return grey.mean(axis=1), grey.std(axis=1)

    def mean_grey(self, level: Any) -> Array:
        """Mean grey of speckle whose mean intensity has `level` dB: the integral over the exponential law."""
        return np.interp(level, _LEVELS, self._moments[0])

    def level_of_mean(self, grey: Any) -> Array:
        """Level in dB of speckle of a mean grey; of black and white the last level that is told apart."""
        mean = self._moments[0]
        rising = np.nonzero(np.diff(mean) > 1e-4)[0]
        kept = slice(rising[0], rising[-1] + 2)
        return np.interp(grey, mean[kept], _LEVELS[kept])

    def std(self, grey: Any) -> Array:
        """Standard deviation in grey of speckle of a mean grey."""
        return np.interp(self.level_of_mean(grey), _LEVELS, self._moments[1])

    def quantiles(self, grey: Array, shares: Array) -> Array:
        """Greys (N, shares) below which these shares of the speckle of mean greys (N,) lie."""
        return self.grey(self.level_of_mean(grey)[:, None] + 10.0 * np.log10(-np.log1p(-shares)))

    def level_of(self, grey: Any) -> Array:
        """Level in dB of a single grey."""
        return np.asarray(level_of(np.clip(np.asarray(grey, np.float64) / WHITE, 0.0, 1.0), self.display))

    @property
    def intensity_power(self) -> float:
        """The power a of the intensity that the curve is nearest to, I^a; 0 for a logarithm."""
        curve = self.display.curve
        return curve.exponent / 2.0 if curve.type == "power" else 0.0


@dataclass(frozen=True, eq=False)
class Compression:
    """The curve that was found, what its numbers may be off, and how well it fits.

    errors: standard errors of the curve's numbers by name. misfit: of the histograms' quantiles, in standard
    deviations of the speckle. slope, slope_error: p of std ~ mean^p over blocks that are not clipped: 0 for a
    logarithm, 1 for a power without black level. mean, std (B,): what was fitted, in grey. others: misfit by curve.
    """

    law: Law
    errors: dict[str, float]
    misfit: float
    slope: float
    slope_error: float
    mean: Array
    std: Array
    others: dict[str, float]

    @property
    def range_db(self) -> float:
        """dB between the first grey above black and white."""
        return float(-self.law.level_of(0.5))


def _log(numbers: Array) -> Display:
    return Display(curve={"type": "log", "dynamic_range": float(numbers[0])})


def _log_gamma(numbers: Array) -> Display:
    return Display(curve={"type": "log", "dynamic_range": float(numbers[0])}, gamma=float(numbers[1]))


def _power(numbers: Array) -> Display:
    return Display(curve={"type": "power", "exponent": float(numbers[0]), "black": float(numbers[1])})


#: How each family is made of its numbers: their names, where the search starts, and their limits.
FAMILIES: Final[dict[str, tuple[Any, tuple[str, ...], tuple[tuple[float, ...], ...], Array]]] = {
    "log": (_log, ("dynamic_range",), ((50.0,), (80.0,)), np.array([[15.0], [150.0]])),
    "log with gamma": (
        _log_gamma, ("dynamic_range", "gamma"), ((60.0, 1.0), (70.0, 1.7)), np.array([[15.0, 0.3], [150.0, 4.0]])
    ),
    "power": (
        _power, ("exponent", "black"), ((0.4, -50.0), (0.8, -60.0), (0.2, -40.0)),
        np.array([[0.06, -140.0], [2.0, -12.0]]),
    ),
}  # fmt: skip


def find_curve(blocks: Blocks, family: str | None = None) -> Compression:
    """Find the display curve under which even speckle is fully developed speckle.

    blocks: even ones, of any brightness. family: a key of FAMILIES; the simplest that fits unless given.

    Speckle of any mean has one law of the intensity, the exponential. A logarithm makes it equally wide at every grey,
    5.57 dB; I^a makes std ~ mean, and a black level, gamma and clipping bend the line in between: d(grey)/d(dB) =
    std(grey)/5.57. Blocks are put in bins by their mean grey; the quantiles of the pooled histogram of each bin are
    those of the exponential law through the curve. White is 0 dB: a display's gain and its curve can't be told apart.
    """
    centre, spread, pooled, weight = _bins(blocks)
    shares = np.asarray(SHARES)

    def misfits(law: Law) -> Array:
        model = law.quantiles(centre, shares)
        found: Array = (model - pooled) / spread[:, None]
        return found

    scale = np.sqrt(weight / weight.sum())[:, None]
    tried = {}
    for name in (family,) if family else FAMILIES:
        make, names, starts, (low, high) = FAMILIES[name]

        def cost(numbers: Array, make: Any = make) -> Array:
            return (misfits(Law(make(numbers))) * scale).ravel()

        runs = [
            optimize.least_squares(cost, start, bounds=(low, high), x_scale=high - low, diff_step=1e-3, loss="soft_l1",
                                   f_scale=0.05)
            for start in starts
        ]  # fmt: skip
        run = min(runs, key=lambda r: r.cost)
        law = Law(make(run.x))
        misfit = math.sqrt(float(np.mean((misfits(law) * scale) ** 2)) * len(centre))
        tried[name] = law, _errors(run, names, weight.sum()), misfit
    best = min(misfit for _, _, misfit in tried.values())
    simple = family or ("log" if best > BETTER * tried["log"][2] or tried["log"][2] < MISFIT else "")
    chosen = simple or min(tried, key=lambda name: tried[name][2])
    slope, slope_error = _slope(centre, spread, pooled, weight)
    law, errors, misfit = tried[chosen]
    return Compression(
        law, errors, misfit, slope, slope_error, centre, spread, {name: m for name, (_, _, m) in tried.items()}
    )


def _bins(blocks: Blocks) -> tuple[Array, Array, Array, Array]:
    """Mean, standard deviation, quantiles (B, shares) and number of independent cells of bins by mean grey."""
    order = np.argsort(blocks.mean)
    least = max(FEWEST_IN_BIN, len(order) // BINS)
    apart = WIDTH * float(np.median(blocks.std)) / math.sqrt(blocks.cells)
    parts: list[list[int]] = [[]]
    for block in order:
        part = parts[-1]
        if len(part) >= least and blocks.mean[block] > blocks.mean[part[0]] + apart:
            parts.append([])
        parts[-1].append(block)
    if len(parts) > 1 and len(parts[-1]) < least:
        parts[-2:] = [parts[-2] + parts[-1]]
    rows = []
    for members in parts:
        # what is left of structure makes single blocks coarser; pure speckle scatters by 1 / sqrt(2 cells)
        part = np.array(members)
        off = np.abs(blocks.std[part] / np.median(blocks.std[part]) - 1.0)
        part = part[off <= max(TRIMMED / math.sqrt(2.0 * blocks.cells), off.min())]
        mean = float(blocks.mean[part].mean())
        rest = blocks.rest[part].ravel()
        # half of each block lies in its neighbours, along both sides
        rows.append((mean, rest.std(), mean + np.quantile(rest, SHARES), len(part) * blocks.cells / 4.0))
    centre, spread, pooled, weight = zip(*rows, strict=True)
    return np.array(centre), np.maximum(spread, 0.3), np.array(pooled), np.array(weight)


def _errors(run: Any, names: tuple[str, ...], cells: float) -> dict[str, float]:
    """Standard errors: quantiles in units of the spread scatter by about 1 / sqrt(cells), one half of them at most."""
    information = run.jac.T @ run.jac / len(SHARES) * 2.0
    covariance = np.linalg.pinv(information) / cells + 1e-30
    rest = 2.0 * run.cost / max(len(run.fun), 1)
    inflate = math.sqrt(max(1.0, rest * cells))
    return {name: inflate * math.sqrt(v) for name, v in zip(names, np.diag(covariance), strict=True)}


def _slope(mean: Array, std: Array, pooled: Array, weight: Array) -> tuple[float, float]:
    """p of std ~ mean^p over bins that hardly touch black, and its standard error; (nan, nan) for too few."""
    free = (pooled[:, 0] > 1.0) & (pooled[:, -1] < WHITE - 1.0)
    if free.sum() < 3 or np.ptp(np.log(mean[free])) < 0.1:
        return math.nan, math.nan
    x, y = np.log(mean[free]), np.log(std[free])
    (slope, _), covariance = np.polyfit(x, y, 1, w=np.sqrt(weight[free]), cov="unscaled")
    scatter = np.sqrt(np.sum(weight[free] * (y - np.polyval(np.polyfit(x, y, 1, w=np.sqrt(weight[free])), x)) ** 2))
    return float(slope), float(scatter / math.sqrt(max(free.sum() - 2, 1)) * math.sqrt(covariance[0, 0]))
