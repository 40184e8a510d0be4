"""What scanners do to the picture: gain, grey curve, quantisation; its inverse; and what it shows on average.

The expectation of a grey u in [0, 1] is the integral of P(u > v) over v, and u > v where the intensity exceeds the
level of v: so the truth of a display needs the law of the intensity alone (intensity.py), whatever the curve, and the
sum over the steps of 8 bits is exact for rounded pictures. Pictures and their expectation are made over the array
namespace of the arguments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from usim.errors import DataError
from usim.frame import Frame
from usim.intensity import (
    HIGHEST,
    LOOKS,
    MOST_RATIO,
    MOST_SPARSE,
    STEP_DB,
    ratio_place,
    rice_survival,
    sparse_bins,
    sparse_place,
    sparse_survival,
)
from usim.phantom.draw import addressed
from usim.phantom.screen import Curve, Display, DriftingGain, LogCurve, Sliders
from usim.speckle import FLOOR_DB

Array = NDArray[np.float64]
STEPS: Final = 255
FINE_STEPS: Final = 4080  # of the integral over grey where nothing is rounded
NODES: Final = 8  # of the drifting gain per correlation length: linear interpolation is within 1.6 % of the variance
FEW: Final = 1e-3  # K and 1/nu below which the other one's law holds alone
_STREAM: Final = 4


@dataclass(frozen=True, eq=False)
class Screen:
    """A display in front of one image grid.

    gain_db: (Z, 1) or (Z, X), of the gain and its error at every depth.
    averaged: whether pixels are means of several greys, so that 8 bits round no grey of the curve itself.
    """

    display: Display
    gain_db: Array
    averaged: bool = False

    @classmethod
    def of(cls, display: Display | dict[str, Any], depth: Array, *, averaged: bool = False) -> Screen:
        """The screen of a display, or of the mapping of one (as in `params`); depth: (Z,) of the rows, metres.

        >>> screen = Screen.of({"bits": 8, "gain": "6 dB"}, np.array([0.01, 0.02]))
        >>> screen.to_db(screen.show(np.full((2, 1), 0.01))).round(2).ravel().tolist()
        [-20.12, -20.12]
        """
        known = display if isinstance(display, Display) else Display(**display)
        gain_db = known.gain + gain_error_db(known, np.asarray(depth, np.float64))[:, None]
        return cls(known, gain_db, averaged or known.persistence > 1)

    @classmethod
    def of_frame(cls, frame: Frame) -> Screen:
        """The screen through which a frame is shown; a sector's gains follow the depth along its lines."""
        if frame.display is None:
            raise DataError("frame.display: there is none; the phantom needs the key `display`")
        scene = frame.params["scene"]
        if frame.polar is None:
            return cls.of(scene["display"], frame.axes.z)
        row = frame.polar.axes.range
        screen = cls.of(scene["display"], row, averaged=True)
        radius = scene["probe"]["radius"] or 0.0
        away = np.hypot(frame.axes.x[None, :], frame.axes.z[:, None] + radius) - radius
        return replace(screen, gain_db=np.interp(away, row, screen.gain_db[:, 0]))

    def grey(self, power: Any) -> Any:
        """Grey in [0, 1] of intensities (..., Z, X), 1 at 0 dB of the image, before it is rounded."""
        xp = array_namespace(power)
        level = 10.0 * xp.log10(xp.clip(power, 10.0 ** (FLOOR_DB / 10.0), None))
        return _grey(self._gained(level), self.display)

    def _gained(self, level: Any) -> Any:
        """Levels in dB with the gains."""
        return array_namespace(level).asarray(self.gain_db, device=device(level)) + level

    def show(self, power: Any) -> Any:
        """What the scanner shows of intensities (..., Z, X): uint8 for 8 bits, else float32 in [0, 1]."""
        return self.rounded(self.grey(power))

    def rounded(self, grey: Any) -> Any:
        """Greys in [0, 1] as they are stored."""
        xp = array_namespace(grey)
        return xp.astype(xp.round(grey * STEPS), xp.uint8) if self.display.bits == 8 else xp.astype(grey, xp.float32)

    def to_db(self, image: Any) -> Array:
        """Image level in dB, gains taken off, of what `show` shows (..., Z, X); black and white are bounds only."""
        grey = np.asarray(image, np.float64) / self.full_scale
        return level_of(np.clip(grey, 0.0, 1.0), self.display) - self.gain_db

    @property
    def full_scale(self) -> int:
        """The value of white."""
        return STEPS if self.display.bits == 8 else 1

    def mean(self, diffuse: Any, coherent: Any, fourth: Any, looks: Any = None) -> Any:
        """E of what `show` shows, in its units, (Z, X) float32; of several pictures averaged before they are rounded.

        diffuse, coherent, fourth: M, |s|^2 and kappa4 as in speckle.mean_bmode, (Z, X).  looks: place of every pixel
        among intensity.LOOKS, where several looks are averaged.
        """
        xp = array_namespace(diffuse)
        mean = xp.clip(diffuse, 10.0 ** (FLOOR_DB / 10.0), None)
        # a given cloud has kappa4 < 0: as even as a fixed echo of the same second moment, M^2 (2 + kappa4 / M^2)
        even = xp.sqrt(xp.clip(-fourth / mean**2, 0.0, 0.999999)) * mean
        level = 10.0 * xp.log10(mean + coherent)
        sparse = xp.clip(fourth / (2.0 * mean**2), 0.0, None)
        return self.mean_of(level, (coherent + even) / (mean - even), sparse, looks)

    def mean_of(self, level: Any, ratio: Any, inverse_nu: Any, looks: Any = None) -> Any:
        """The same of the law by its parameters, (Z, X): level of the whole mean in dB, K, 1 / nu, looks."""
        xp = array_namespace(level)
        level, inverse_nu = self._gained(level), xp.clip(inverse_nu, None, MOST_SPARSE)
        if looks is None:
            grey = self._expected(level, ratio, inverse_nu, LOOKS[0])
        else:
            grey = xp.zeros_like(level)
            for node, count in enumerate(LOOKS):
                share = xp.clip(1.0 - xp.abs(looks - node), 0.0, None)
                if xp.any(share > 0.0):
                    grey += share * self._expected(level, ratio, inverse_nu, count)
        certain = ratio >= MOST_RATIO
        if xp.any(certain):
            fixed = xp.astype(self.rounded(_grey(level, self.display)), grey.dtype) / self.full_scale
            grey = xp.where(certain, fixed, grey)
        return xp.astype(grey * self.full_scale, xp.float32)

    def _expected(self, level: Any, ratio: Any, inverse_nu: Any, looks: float) -> Any:
        xp, bits = array_namespace(level), 32 if self.averaged else self.display.bits
        table = _mean_table_on(self.display.curve, self.display.gamma, bits, looks, xp, device(level))
        grey = xp.where(ratio > FEW, table.fixed(level, ratio), table.sparse(level, inverse_nu))
        both = (ratio > FEW) & (inverse_nu > FEW)
        if xp.any(both):
            grey[both] = table.mixed(level[both], ratio[both], inverse_nu[both])
        return grey


def gain_error_db(display: Display, depth: Array) -> Array:
    """Error of the gain in dB at depths (Z,), metres, the pixel rows from the first to the last; 0 without one."""
    error = display.tgc_error
    if isinstance(error, Sliders):
        return np.interp(depth, np.linspace(depth[0], depth[-1], len(error.sliders)), error.sliders)
    if isinstance(error, DriftingGain):
        # white noise on a lattice from z = 0, through a Gaussian whose autocorrelation is exp(-(z / correlation)^2)
        spacing = error.correlation / NODES
        first, reach = math.floor(depth[0] / spacing), 2 * NODES
        count = math.ceil(depth[-1] / spacing) + 2
        kernel = np.exp(-2.0 * (np.arange(-reach, reach + 1) / NODES) ** 2)
        white = addressed(error.seed, _STREAM).standard_normal(count + 2 * reach)
        drift = np.convolve(white, kernel / np.sqrt((kernel**2).sum()), mode="valid")[first:]
        return error.std * np.interp(depth, spacing * (first + np.arange(len(drift))), drift)
    return np.zeros_like(depth)


def _grey(level: Any, display: Display) -> Any:
    """Grey in [0, 1] of levels in dB, gain included."""
    curve = display.curve
    if isinstance(curve, LogCurve):
        grey = 1.0 + (level - curve.white) / curve.dynamic_range
    else:
        black, white = (10.0 ** (curve.exponent / 20.0 * side) for side in (curve.black, curve.white))
        grey = (10.0 ** (curve.exponent / 20.0 * level) - black) / (white - black)
    return array_namespace(level).clip(grey, 0.0, 1.0) ** display.gamma


def level_of(grey: Array, display: Display) -> Array:
    """Level in dB, gain included, of greys in [0, 1]: the inverse of the curve."""
    curve, grey = display.curve, grey ** (1.0 / display.gamma)
    if isinstance(curve, LogCurve):
        return curve.white + (grey - 1.0) * curve.dynamic_range
    black, white = (10.0 ** (curve.exponent / 20.0 * side) for side in (curve.black, curve.white))
    return 20.0 / curve.exponent * np.log10(black + grey * (white - black))


@dataclass(frozen=True, eq=False)
class _MeanTable:
    """Expected grey by the mean level, from `first` in steps of STEP_DB, and the shape of the law: (SHAPES, levels)."""

    first: int
    by_ratio: Any
    by_sparse: Any
    bins: Any

    def fixed(self, level: Any, ratio: Any) -> Any:
        """With a fixed echo: level of the whole mean in dB, and K."""
        return self._at(self.by_ratio, level, ratio_place(ratio))

    def sparse(self, level: Any, inverse_nu: Any) -> Any:
        """With few scatterers: level of the mean in dB, and 1 / nu."""
        return self._at(self.by_sparse, level, sparse_place(inverse_nu))

    def mixed(self, level: Any, ratio: Any, inverse_nu: Any) -> Any:
        """With both, (P,): the mean over tau of a fixed echo above speckle of the mean tau M."""
        xp, place = array_namespace(level), sparse_place(inverse_nu)
        row = xp.clip(xp.astype(place, xp.int64), None, self.bins.shape[0] - 2)
        share = place - row
        total = xp.zeros_like(level)
        for low, high in zip(self.bins[row].T, self.bins[row + 1].T, strict=True):
            tau = xp.clip(low + share * (high - low), 1e-12, None)
            total += self.fixed(level + 10.0 * xp.log10((tau + ratio) / (1.0 + ratio)), ratio / tau)
        return total / self.bins.shape[1]

    def _at(self, table: Any, level: Any, place: Any) -> Any:
        xp, (rows, columns) = array_namespace(level), table.shape
        u = xp.clip(level / STEP_DB - self.first, 0.0, columns - 1.000001)
        column, row = xp.astype(u, xp.int64), xp.clip(xp.astype(place, xp.int64), None, rows - 2)
        u, v = u - column, place - row
        at, flat = row * columns + column, table.reshape(-1)
        low = flat[at] + u * (flat[at + 1] - flat[at])
        at += columns
        return low + v * (flat[at] + u * (flat[at + 1] - flat[at]) - low)


@lru_cache(maxsize=8)
def _mean_table_on(curve: Curve, gamma: float, bits: int, looks: float, xp: Any, device: Any) -> _MeanTable:
    """`_mean_table` as arrays of a namespace on a device."""
    table = _mean_table(curve, gamma, bits, looks)
    arrays = {name: xp.asarray(getattr(table, name), device=device) for name in ("by_ratio", "by_sparse", "bins")}
    return replace(table, **arrays)


@lru_cache(maxsize=8)
def _mean_table(curve: Curve, gamma: float, bits: int, looks: float) -> _MeanTable:
    """Tables of E[u] = mean over steps v of P(I > level(v)): a correlation over levels in dB."""
    display = Display(curve=curve, gamma=gamma, bits=bits)
    steps = STEPS if bits == 8 else FINE_STEPS
    level = level_of((np.arange(steps) + 0.5) / steps, display) / STEP_DB
    first = math.floor(level[0])
    count = math.floor(level[-1]) - first + 2
    index = np.floor(level).astype(np.int64) - first
    share = level - np.floor(level)
    weight = np.bincount(index, 1.0 - share, count) + np.bincount(index + 1, share, count)
    weight /= steps
    certain = np.cumsum(weight)
    tables = []
    for survival in (rice_survival(looks), sparse_survival(looks)):
        length = count + survival.shape[1] - 1
        size = 1 << (length - 1).bit_length()
        product = np.fft.rfft(survival[:, ::-1], size) * np.fft.rfft(weight, size)
        mean = np.fft.irfft(product, size)[:, :length]
        mean[:, survival.shape[1] :] += certain[: count - 1]  # levels below the survival's lattice are exceeded
        tables.append(np.ascontiguousarray(mean))
    return _MeanTable(first - HIGHEST, tables[0], tables[1], sparse_bins())
