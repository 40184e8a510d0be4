"""The echogenicity behind a scan: its picture without the speckle, in dB below white."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal

from usim.match.curve import Law
from usim.match.levels import local_mean

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
COARSE: Final = 1.8  # cells; standard deviation of the mean where nothing stands out
LINES: Final = ((2.6, 0.45), (1.4, 0.3))  # cells; of the mean along a line, and across it, one after the other
SMALL: Final = 0.7  # cells; of the mean over a spot or behind an edge
DIRECTIONS: Final = 12
SURE: Final = 2.3  # standard deviations of speckle that a line or a spot must stand out
FLOOR_GREY: Final = 0.4  # mean grey below which nothing scatters


def despeckle(image: Array, seen: Mask, cell: tuple[float, float], law: Law) -> Array:
    """Mean grey (Z, X) of an image of speckle, sharp where structure stands out.

    A wide Gaussian mean; where the mean along a short line of any direction, or over a spot, differs from it by more
    than the speckle explains, that one by the share (t^2 - SURE^2) / t^2 of its difference, t in standard deviations:
    the local Wiener filter of J. S. Lee (IEEE Trans. PAMI 2, 1980) with directions. The standard deviation of a mean
    with the weights h is that of speckle at this grey times sqrt(sum h (C h)), C the covariance of speckle.
    """
    result = local_mean(image, seen, (COARSE * cell[0], COARSE * cell[1]))
    covariance = _gaussian((cell[0] / 2.355, cell[1] / 2.355), 0.0)
    covariance /= covariance.max()
    filled = np.where(seen, image, result)
    passes = [
        [_gaussian((short * max(cell), long * max(cell)), k * math.pi / DIRECTIONS) for k in range(DIRECTIONS)]
        for long, short in LINES
    ]
    for kernels in (*passes, [_gaussian((SMALL * cell[0], SMALL * cell[1]), 0.0)]):
        strongest, chosen = np.zeros_like(result), result
        speckle = np.maximum(law.std(result), 1.0)
        for kernel in kernels:
            share = math.sqrt(float(np.sum(kernel * signal.fftconvolve(kernel, covariance, mode="same"))))
            mean = signal.fftconvolve(np.pad(filled, _reach(kernel), mode="reflect"), kernel, mode="valid")
            t = (mean - result) / (speckle * share)
            better = np.abs(t) > np.abs(strongest)
            strongest, chosen = np.where(better, t, strongest), np.where(better, mean, chosen)
        kept = np.maximum(strongest**2 - SURE**2, 0.0) / np.maximum(strongest**2, SURE**2)
        result = np.where(seen, result + kept * (chosen - result), result)
    return np.asarray(ndimage.gaussian_filter(result, 0.5))


def echogenicity(grey: Array, law: Law) -> Array:
    """Level (Z, X) in dB below white of a despeckled picture; -inf where it is black."""
    return np.where(grey > FLOOR_GREY, law.level_of_mean(np.maximum(grey, FLOOR_GREY)), -np.inf)


def _reach(kernel: Array) -> list[tuple[int, int]]:
    return [(n // 2, n // 2) for n in kernel.shape]


def _gaussian(sigma: tuple[float, float], angle: float) -> Array:
    """Gaussian of sum 1, sigma across and along a line that is turned by an angle from x towards z; odd sides."""
    reach = max(1, math.ceil(3.0 * max(sigma)))
    z, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along, across = x * math.cos(angle) + z * math.sin(angle), z * math.cos(angle) - x * math.sin(angle)
    found = np.exp(-0.5 * ((across / sigma[0]) ** 2 + (along / sigma[1]) ** 2))
    return found / found.sum()
