"""The display curve of a method, taken off without a truth: so that brightness and contrast are worth nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Sides in speckle cells of the blocks whose means are compared: 16 cells leave 1.4 dB of speckle.
BLOCK_CELLS = 4.0
#: The exponents that are tried lie between one over this and this.
MOST_GAMMA = 4.0


def block_means(values: Array, side: tuple[int, int]) -> Array:
    """Means of blocks of an image (H, W), row by row (B,); what is left over at its lower and right end is not used."""
    down, right = (size // step for size, step in zip(values.shape, side, strict=True))
    cut = values[: down * side[0], : right * side[1]]
    return np.asarray(cut.reshape(down, side[0], right, side[1]).mean(axis=(1, 3)).ravel())


def curve_fit(image_db: ArrayLike, noisy_db: ArrayLike, dynamic_range: float, cell: tuple[float, float]) -> Array:
    """The image (H, W) after the display curve that brings it closest to the untouched one, coarsely looked at.

        offset + gain g^gamma,   g = 1 + dB / dynamic range,   gain >= 0,   gamma 1/4 to 4

    by least squares of the means of blocks of 4 x 4 speckle cells. In blocks there is little speckle, and a blur
    changes nothing: a curve that were fitted to pixels would undo the blur of a step, and swell what is left of the
    speckle. A gamma, a gain or an offset that was applied to the image changes nothing in the result; an S-shaped
    curve does.

    image_db, noisy_db: clipped to [-dynamic range, 0].  cell: FWHM of the speckle in pixels.
    """
    from scipy.optimize import minimize_scalar

    image, noisy = (np.asarray(values, dtype=np.float64) for values in (image_db, noisy_db))
    grey = image / dynamic_range + 1.0
    side = [max(1, min(round(BLOCK_CELLS * size), count // 4)) for size, count in zip(cell, image.shape, strict=True)]
    target = block_means(noisy, (side[0], side[1]))

    def line(gamma: float) -> tuple[float, float, float]:
        """Sum of squares, gain and offset."""
        blocks = block_means(grey**gamma, (side[0], side[1]))
        about, level = blocks - blocks.mean(), target - target.mean()
        power = float(about @ about)
        gain = max(float(about @ level) / power, 0.0) if power > 1e-12 else 0.0
        offset = float(target.mean() - gain * blocks.mean())
        return float(((level - gain * about) ** 2).sum()), gain, offset

    ends = (-math.log(MOST_GAMMA), math.log(MOST_GAMMA))
    found = minimize_scalar(lambda log: line(math.exp(log))[0], bounds=ends, method="bounded", options={"xatol": 1e-4})
    gamma = math.exp(float(found.x))
    # No curve at all is exact where it is as good.
    gamma = 1.0 if line(1.0)[0] <= line(gamma)[0] * (1.0 + 1e-6) + 1e-9 else gamma
    _, gain, offset = line(gamma)
    return np.asarray(offset + gain * grey**gamma)
