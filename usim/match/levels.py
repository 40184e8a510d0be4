"""Levels in dB below white: of tissue with depth, and of the dark ground."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from usim.errors import DataError
from usim.match.curve import Law

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
BANDS: Final = 24
SMOOTH: Final = 1.5  # cells; standard deviation of the local mean
DARKEST: Final = 0.01  # of the area
BLACK: Final = 0.7  # mean grey below which a display shows nothing
DEEP: Final = 0.1  # of the depth


@dataclass(frozen=True)
class Floor:
    """Level of the darkest places, dB; black where they show nothing, and the level is a bound.

    depth: pixel row of the darkest places, their median. error: dB. deep: median level of the lowest tenth, dB.
    """

    level: float
    error: float
    depth: float
    black: bool
    deep: float


@dataclass(frozen=True)
class Trend:
    """Slope of the median level with depth, dB per pixel, and its 95 % interval; level: halfway down, dB."""

    slope: float
    low: float
    high: float
    level: float


def local_mean(image: Array, seen: Mask, sigma: tuple[float, float]) -> Array:
    """Gaussian mean of an image (Z, X) over what is seen of it; sigma: along z and x, pixels."""
    weight = ndimage.gaussian_filter(seen.astype(np.float64), sigma)
    return np.asarray(ndimage.gaussian_filter(np.where(seen, image, 0.0), sigma) / np.maximum(weight, 1e-6))


def find_floor(image: Array, seen: Mask, cell: tuple[float, float], law: Law) -> Floor:
    """Level of the darkest hundredth of an image (Z, X) of greys, as its local mean shows it.

    Noise of the receiver or, where there is none to be seen, clutter: nothing in a scan is darker. The local mean
    over some cells scatters by 5.57 dB / sqrt(cells), which lowers the darkest hundredth by 2.3 times as much.
    """
    mean = local_mean(image, seen, (SMOOTH * cell[0], SMOOTH * cell[1]))
    grey = float(np.quantile(mean[seen], DARKEST))
    dark = seen & (mean <= grey)
    depth = float(np.median(np.nonzero(dark)[0]))
    lowest = np.zeros_like(seen)
    lowest[round((1.0 - DEEP) * len(image)) :] = True
    lowest &= seen
    deep = float(np.median(law.level_of_mean(mean[lowest]))) if lowest.any() else math.nan
    # a Gaussian mean of standard deviation s holds 4 pi s_z s_x pixels, and a cell of FWHM w 1.13 w_z w_x
    cells = 4.0 * math.pi * SMOOTH**2 / 1.13
    error = 5.57 / math.sqrt(cells)
    black = grey < BLACK
    level = float(law.level_of_mean(max(grey, BLACK)))
    return Floor(level if black else level + error, error, depth, black, deep)


def find_trend(image: Array, seen: Mask, law: Law) -> Trend:
    """How the median level of an image (Z, X) of greys changes with depth (Theil 1950, Sen 1968).

    Attenuation that time-gain compensation did not undo, or too much of it; anatomy counts where it fills half of the
    width.

    Raises DataError for an image whose rows are nearly all black.
    """
    depths, levels = [], []
    for rows in np.array_split(np.arange(len(image)), min(BANDS, len(image))):
        values = image[rows][seen[rows]]
        values = values[values > 0.5]
        if len(values) >= 16:
            # the median of speckle lies 1.59 dB below the mean intensity
            depths.append(rows.mean())
            levels.append(float(law.level_of(np.median(values))) + 1.59)
    if len(depths) < 4:
        raise DataError("fewer than 4 of 24 bands of depth show echoes; name the scan area with --crop x0,y0,x1,y1")
    slope, _, low, high = stats.theilslopes(levels, depths)
    return Trend(float(slope), float(low), float(high), float(np.median(levels)))
