"""Likeness of grey levels in [0, 1] where a mask holds: PSNR, and structural similarity at one scale and at several.

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
#: Root mean square below which grey levels of 0 to 1 are equal: those of float32 decibels are known to 6e-8.
ROUNDING = 1e-7
#: Exponents of the scales from fine to coarse: Wang, Simoncelli and Bovik (2003), who round them: the sum is 1.0001.
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
    return (len(window.weights) - 1) * (1 << (scales - 1)) + 1


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
        variance = (_windowed(values**2, window.weights) - mean**2) * window.correction
        found.append(Scale(values, mean, variance))
        values = _blocks(values).mean(axis=(1, 3))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Reference:
    """A truth that many images are compared with.

    truth: grey levels of 0 to 1 (H, W).  inside: where they count (H, W).  window.  scales: of the truth.
    whole: the windows that lie inside the mask, at each scale.
    """

    truth: NDArray[np.float64]
    inside: Mask
    window: Window
    scales: tuple[Scale, ...]
    whole: tuple[Mask, ...]

    @classmethod
    def of(cls, truth: NDArray[np.float64], inside: Mask, count: int = 1, window: Window = GAUSSIAN) -> Reference:
        """A truth (H, W) of grey levels where `inside` (H, W) holds, at up to `count` scales."""
        found, whole, left = scales(truth, count, window), [], inside
        for _ in found:
            whole.append(_windowed((~left).astype(np.float32), (1.0,) * len(window.weights)) == 0)
            left = np.asarray(_blocks(left).all(axis=(1, 3)))
        return cls(truth, inside, window, found, tuple(whole))

    def psnr(self, image: NDArray[np.float64]) -> float:
        """20 log10(1 / rms error) of grey levels (H, W) in dB; inf for equal images, nan where nothing counts."""
        if not self.inside.any():
            return math.nan
        rms = math.sqrt(float(np.mean((image - self.truth)[self.inside] ** 2)))
        return math.inf if rms < ROUNDING else -20.0 * math.log10(rms)

    def similarity(self, image: Sequence[Scale]) -> tuple[float, float]:
        """SSIM and MS-SSIM, both 1 for equal images; nan where no window fits, MS-SSIM also with less than five scales.

            l cs = (2 mx my + C1) / (mx^2 + my^2 + C1) (2 sxy + C2) / (sx^2 + sy^2 + C2),   C1 = 0.01^2, C2 = 0.03^2
            SSIM = mean(l cs),   MS-SSIM = mean(cs_1)^w_1 ... mean(cs_4)^w_4 mean(l_5 cs_5)^w_5,   w = WEIGHTS

        m, s^2 and sxy are means, variances and the covariance under a window; each scale is the mean of 2 x 2 pixels of
        the one before. A mean below 0, of an image that is the truth's opposite, counts as 0 in MS-SSIM.

        SSIM: Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Process. 13 (2004) 600-612. MS-SSIM: Wang,
        Simoncelli and Bovik, Proc. 37th Asilomar Conf. Signals, Systems and Computers (2003) 1398-1402.

        image: scales of grey levels, made with this window.
        """
        terms = [self._means(*each) for each in zip(image, self.scales, self.whole, strict=True)]
        ssim = terms[0][1] if terms else math.nan
        if len(terms) < len(WEIGHTS) or any(map(math.isnan, terms[-1])):
            return ssim, math.nan
        factors = [cs for cs, _ in terms[:-1]] + [terms[-1][1]]
        return ssim, math.prod(max(factor, 0.0) ** weight for factor, weight in zip(factors, WEIGHTS, strict=True))

    def _means(self, image: Scale, truth: Scale, whole: Mask) -> tuple[float, float]:
        """The means of cs and of l cs over whole windows at one scale."""
        if not whole.any():
            return math.nan, math.nan
        product = image.mean * truth.mean
        covariance = (_windowed(image.image * truth.image, self.window.weights) - product) * self.window.correction
        structure = (2 * covariance + C2) / (image.variance + truth.variance + C2)
        both = structure * ((2 * product + C1) / (image.mean**2 + truth.mean**2 + C1))
        return float(structure[whole].mean(dtype=np.float64)), float(both[whole].mean(dtype=np.float64))


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
