"""Made-up images of speckle in dB, for tests of what needs no truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
#: Standard deviations in pixels of the smoothing of the complex field, along z and x.
FIELD = (1.0, 1.6)


def intensity(shape: tuple[int, int], seed: int) -> Array:
    """Intensity of fully developed speckle of mean 1 (H, W)."""
    parts = np.random.default_rng(seed).normal(size=(2, *shape))
    smooth = np.stack([ndimage.gaussian_filter(part, FIELD, mode="wrap") for part in parts])
    power = (smooth**2).sum(axis=0)
    return np.asarray(power / power.mean())


def decibel(power: Array, level: float | Array = -25.0, dynamic_range: float = 60.0) -> Array:
    """The intensity as an image in dB around a level, clipped to the dynamic range."""
    return np.clip(10.0 * np.log10(np.maximum(power, 1e-12)) + level, -dynamic_range, 0.0)


def disc(side: int = 192, inside: float = -45.0, outside: float = -20.0) -> tuple[Array, NDArray[np.bool_]]:
    """Levels in dB (side, side) of a dark disc in its middle, a third of the side wide; and its mask."""
    z, x = np.mgrid[:side, :side] - (side - 1) / 2.0
    mask = np.hypot(z, x) < side / 5
    return np.where(mask, inside, outside), mask
