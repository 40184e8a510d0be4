"""What scanners do to the picture: gain, grey curve, quantisation; its inverse; and what it shows on average.

The expectation of a grey u in [0, 1] is the integral of P(u > v) over v, and u > v where the intensity exceeds the
level of v: so the truth of a display needs the law of the intensity alone (intensity.py), whatever the curve, and the
sum over the steps of 8 bits is exact for rounded pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
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

    def grey(self, power: Any) -> Array:
        """Grey in [0, 1] of intensities (..., Z, X), 1 at 0 dB of the image, before it is rounded."""
        level = self.gain_db + 10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0)))
        return _grey(level, self.display)

    def show(self, power: Any) -> NDArray[np.uint8] | NDArray[np.float32]:
        """What the scanner shows of intensities (..., Z, X): uint8 for 8 bits, else float32 in [0, 1]."""
        return self.rounded(self.grey(power))

    def rounded(self, grey: Array) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Greys in [0, 1] as they are stored."""
        return np.rint(grey * STEPS).astype(np.uint8) if self.display.bits == 8 else grey.astype(np.float32)

    def to_db(self, image: Any) -> Array:
        """Image level in dB, gains taken off, of what `show` shows (..., Z, X); black and white are bounds only."""
        grey = np.asarray(image, np.float64) / self.full_scale
        return level_of(np.clip(grey, 0.0, 1.0), self.display) - self.gain_db

    @property
    def full_scale(self) -> int:
        """The value of white."""
        return STEPS if self.display.bits == 8 else 1

    def mean(self, diffuse: Any, coherent: Any, fourth: Any, looks: Array | None = None) -> NDArray[np.float32]:
        """E of what `show` shows, in its units, (Z, X) float32; of several pictures averaged before they are rounded.

        diffuse, coherent, fourth: M, |s|^2 and kappa4 as in speckle.mean_bmode, (Z, X).  looks: place of every pixel
        among intensity.LOOKS, where several looks are averaged.
        """
        mean = np.maximum(diffuse, 10.0 ** (FLOOR_DB / 10.0))
        # a given cloud has kappa4 < 0: as even as a fixed echo of the same second moment, M^2 (2 + kappa4 / M^2)
        even = np.sqrt(np.clip(-fourth / mean**2, 0.0, 0.999999)) * mean
        level = 10.0 * np.log10(mean + coherent)
        return self.mean_of(level, (coherent + even) / (mean - even), np.maximum(fourth / (2.0 * mean**2), 0.0), looks)

    def mean_of(self, level: Array, ratio: Array, inverse_nu: Array, looks: Array | None = None) -> NDArray[np.float32]:
        """The same of the law by its parameters, (Z, X): level of the whole mean in dB, K, 1 / nu, looks."""
        level, inverse_nu = self.gain_db + level, np.minimum(inverse_nu, MOST_SPARSE)
        if looks is None:
            grey = self._expected(level, ratio, inverse_nu, LOOKS[0])
        else:
            nodes = np.arange(len(LOOKS))
            grey = np.zeros(level.shape)
            for node in nodes:
                share = np.maximum(1.0 - np.abs(looks - node), 0.0)
                if share.any():
                    grey += share * self._expected(level, ratio, inverse_nu, LOOKS[node])
        certain = ratio >= MOST_RATIO
        if certain.any():
            grey[certain] = self.rounded(_grey(level[certain], self.display)) / self.full_scale
        return (grey * self.full_scale).astype(np.float32)

    def _expected(self, level: Array, ratio: Array, inverse_nu: Array, looks: float) -> Array:
        bits = 32 if self.averaged else self.display.bits
        table = _mean_table(self.display.curve, self.display.gamma, bits, looks)
        grey = np.where(ratio > FEW, table.fixed(level, ratio), table.sparse(level, inverse_nu))
        both = np.nonzero((ratio > FEW) & (inverse_nu > FEW))
        if len(both[0]):
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


def _grey(level: Array, display: Display) -> Array:
    """Grey in [0, 1] of levels in dB, gain included."""
    curve = display.curve
    if isinstance(curve, LogCurve):
        grey = 1.0 + (level - curve.white) / curve.dynamic_range
    else:
        black, white = (10.0 ** (curve.exponent / 20.0 * side) for side in (curve.black, curve.white))
        grey = (10.0 ** (curve.exponent / 20.0 * level) - black) / (white - black)
    return np.clip(grey, 0.0, 1.0) ** display.gamma


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
    by_ratio: Array
    by_sparse: Array
    bins: Array

    def fixed(self, level: Array, ratio: Array) -> Array:
        """With a fixed echo: level of the whole mean in dB, and K."""
        return self._at(self.by_ratio, level, ratio_place(ratio))

    def sparse(self, level: Array, inverse_nu: Array) -> Array:
        """With few scatterers: level of the mean in dB, and 1 / nu."""
        return self._at(self.by_sparse, level, sparse_place(inverse_nu))

    def mixed(self, level: Array, ratio: Array, inverse_nu: Array) -> Array:
        """With both, (P,): the mean over tau of a fixed echo above speckle of the mean tau M."""
        place = sparse_place(inverse_nu)
        row = np.minimum(place.astype(np.int64), len(self.bins) - 2)
        share = place - row
        total = np.zeros_like(level)
        for low, high in zip(self.bins[row].T, self.bins[row + 1].T, strict=True):
            tau = np.maximum(low + share * (high - low), 1e-12)
            total += self.fixed(level + 10.0 * np.log10((tau + ratio) / (1.0 + ratio)), ratio / tau)
        return total / self.bins.shape[1]

    def _at(self, table: Array, level: Array, place: Array) -> Array:
        columns = table.shape[1]
        u = np.clip(level / STEP_DB - self.first, 0.0, columns - 1.000001)
        column, row = u.astype(np.int64), np.minimum(place.astype(np.int64), len(table) - 2)
        u, v = u - column, place - row
        at, flat = row * columns + column, table.ravel()
        low = flat[at] + u * (flat[at + 1] - flat[at])
        at += columns
        return low + v * (flat[at] + u * (flat[at + 1] - flat[at]) - low)


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
