"""Structural similarity of grey levels in [0, 1], at one scale and at several, where a mask holds.

Every window counts that lies wholly inside the mask: what is outside it, and beyond the image's borders, never enters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Constants of the two terms for grey levels of 0 to 1: (K1 L)^2 and (K2 L)^2.
C1, C2 = 0.01**2, 0.03**2
#: Exponents of the scales from fine to coarse: Wang, Simoncelli and Bovik (2003). They add up to 1.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@dataclass(frozen=True)
class Window:
    """A square window by its weights along one axis; unbiased: whether its n pixels' variance is divided by n - 1."""

    weights: tuple[float, ...]
    unbiased: bool = False

    @property
    def correction(self) -> float:
        """What turns the variance of a population into what this window takes for it."""
        count = len(self.weights) ** 2
        return count / (count - 1) if self.unbiased else 1.0


_BELL = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
#: That of Wang et al. (2004): Gaussian, sigma 1.5 pixels, cut at 11 x 11, population variances.
GAUSSIAN = Window(tuple((_BELL / _BELL.sum()).tolist()))
#: What scikit-image takes when nothing else is asked for: 7 x 7 equal weights, sample variances.
UNIFORM = Window((1 / 7,) * 7, unbiased=True)


def smallest_side(scales: int, window: Window = GAUSSIAN) -> int:
    """The pixels a side that an image needs for so many scales.

    >>> smallest_side(1), smallest_side(5)
    (11, 161)
    """
    return (len(window.weights) - 1) * 2 ** (scales - 1) + 1


@dataclass(frozen=True, eq=False)
class Scale:
    """An image (h, w), with mean and variance under every whole window of n x n, (h - n + 1, w - n + 1)."""

    image: Array
    mean: Array
    variance: Array


def scales(image: ArrayLike, count: int, window: Window = GAUSSIAN) -> tuple[Scale, ...]:
    """The image (H, W) at up to `count` scales, each half as large as the one before; those that hold a window."""
    values, found = np.asarray(image, dtype=np.float32), []
    for _ in range(count):
        if min(values.shape) < len(window.weights):
            break
        mean = _windowed(values, window.weights)
        variance = (_windowed(values**2, window.weights) - mean**2) * np.float32(window.correction)
        found.append(Scale(values, mean, variance))
        values = _blocks(values).mean(axis=(1, 3))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Reference:
    """A truth that many images are compared with.

    scales: of the truth.  whole: the windows that lie inside the mask, at each scale.  window.
    """

    scales: tuple[Scale, ...]
    whole: tuple[Mask, ...]
    window: Window

    @classmethod
    def of(cls, truth: ArrayLike, inside: Mask, count: int = 1, window: Window = GAUSSIAN) -> Reference:
        """A truth (H, W) of grey levels where `inside` (H, W) holds, at up to `count` scales."""
        found, whole = scales(truth, count, window), []
        for _ in found:
            whole.append(_windowed((~inside).astype(np.float32), (1.0,) * len(window.weights)) == 0)
            inside = _blocks(inside).all(axis=(1, 3))
        return cls(found, tuple(whole), window)

    def ssim(self, image: Sequence[Scale]) -> float:
        """Mean structural similarity, 1 for equal images; nan where no window fits.

            (2 mx my + C1)(2 sxy + C2) / ((mx^2 + my^2 + C1)(sx^2 + sy^2 + C2)),   C1 = 0.01^2, C2 = 0.03^2

        m, s^2 and sxy are means, variances and the covariance under a window. Wang, Bovik, Sheikh and Simoncelli,
        IEEE Trans. Image Process. 13 (2004) 600-612.

        image: scales of grey levels, made with this window; the first is used.
        """
        return self._mean(image, 0, luminance=True)

    def ms_ssim(self, image: Sequence[Scale]) -> float:
        """Structural similarity over five scales, 1 for equal images; nan when the coarsest has no whole window.

            product over j of mean(cs_j)^w_j times mean(l_5 cs_5)^w_5,   j = 1..4

        l is the factor of SSIM with the means, cs the other one, w is WEIGHTS; each scale is the mean of 2 x 2 pixels
        of the one before. A negative mean, of an image that is unlike the truth, counts as 0. Wang, Simoncelli and
        Bovik, Proc. 37th Asilomar Conf. Signals, Systems and Computers (2003) 1398-1402.
        """
        last = len(WEIGHTS) - 1
        terms = [self._mean(image, level, luminance=level == last) for level in range(last + 1)]
        return math.prod(term if math.isnan(term) else max(term, 0.0) ** w for term, w in zip(terms, WEIGHTS, strict=True))

    def _mean(self, image: Sequence[Scale], level: int, *, luminance: bool) -> float:
        """The mean over whole windows of both factors of SSIM, or of that with the variances alone."""
        if level >= len(self.scales) or not self.whole[level].any():
            return math.nan
        one, two = image[level], self.scales[level]
        product = one.mean * two.mean
        covariance = _windowed(one.image * two.image, self.window.weights) - product
        factor = np.float32(self.window.correction)
        value = (2 * factor * covariance + C2) / (one.variance + two.variance + C2)
        if luminance:
            value *= (2 * product + C1) / (one.mean**2 + two.mean**2 + C1)
        return float(np.mean(value, where=self.whole[level], dtype=np.float64))


def _windowed(image: Array, weights: tuple[float, ...]) -> Array:
    """Weighted sums over all whole windows (h - n + 1, w - n + 1); the n weights are the same from both ends."""
    for axis in (0, 1):
        image = _along(np.moveaxis(image, axis, 0), weights)
        image = np.moveaxis(image, 0, axis)
    return image


def _along(lines: Array, weights: tuple[float, ...]) -> Array:
    # Sums of shifted views: five times as fast as scipy.ndimage's filter, which works in double precision.
    size, count = len(weights), len(lines) - len(weights) + 1
    total = lines[size // 2 : size // 2 + count] * np.float32(weights[size // 2])
    pair = np.empty_like(total)
    for k in range(size // 2):
        np.add(lines[k : k + count], lines[size - 1 - k : size - 1 - k + count], out=pair)
        pair *= np.float32(weights[k])
        total += pair
    return total


def _blocks(image: NDArray[Any]) -> NDArray[Any]:
    """The image as blocks of 2 x 2 pixels (h, 2, w, 2); an odd row or column counts twice."""
    height, width = image.shape
    even = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2)
