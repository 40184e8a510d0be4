"""What filters of speckle intensity share: the way from amplitude to mean intensity and back, and local statistics."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.domain import LOG_BIAS_DB, LOWEST_DB, Scale
from s2s.methods.base import Filter

#: Intensity below which nothing is told apart, so that ratios of black pixels are numbers.
LOWEST = 10.0 ** (LOWEST_DB / 10.0)


class IntensityFilter(Filter):
    """A filter that estimates the mean intensity m of speckle whose intensity is exponential.

    What it returns is the amplitude at the mean of the image in dB, 10 log10 m - 2.507 dB: averages of intensity lie
    above averages of decibels, and without this step every image would come out brighter than it went in.
    """

    domain: ClassVar[Scale] = "env"

    def mean_intensity(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Estimate the mean intensity (H, W) behind a speckled one, which is positive."""
        raise NotImplementedError

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Amplitude in, amplitude out."""
        mean = self.mean_intensity(np.maximum(image**2, LOWEST))
        amplitude: NDArray[np.float64] = np.sqrt(mean) * 10.0 ** (-LOG_BIAS_DB / 20.0)
        return amplitude


def local_statistics(intensity: NDArray[np.float64], window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean m and squared coefficient of variation v / m^2 of the square window around each pixel; borders reflect."""
    mean = ndimage.uniform_filter(intensity, window, mode="reflect")
    square = ndimage.uniform_filter(intensity**2, window, mode="reflect")
    mean = np.maximum(mean, LOWEST)
    return mean, np.maximum(square / mean**2 - 1.0, 0.0)
