"""A Gaussian blur of the image in dB: the yardstick that every other method has to beat.

**Assumes** no more than that neighbouring pixels show the same tissue. In decibels speckle has the same strength
everywhere, so that one blur suits dark and bright regions alike.

**Formula** A convolution with exp(-(x² + y²) / 2σ²), cut off at 4 σ and summing to one; borders are reflected.

    s2s denoise scan.png -m gaussian:sigma=3

**Toy scene** 29.9 dB with σ = 4, 29.4 dB with 3, 27.5 dB with 2; noisy 20.6 dB.

**Fails** at edges, which it blurs by as much as it removes speckle, and at points, which it turns into blobs.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.methods.base import Filter
from s2s.methods.limits import number

#: The kernel ends this many standard deviations from its centre.
TRUNCATE = 4.0


class Gaussian(Filter):
    """A Gaussian blur of the image in dB.

    sigma: standard deviation of the kernel in pixels.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {"sigma": (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 11.0)}

    def __init__(self, *, sigma: float = 4.0) -> None:
        super().__init__()
        self.sigma = number("sigma", sigma, 0.1, 100.0, "pixels")
        self.halo = int(TRUNCATE * self.sigma + 0.5)

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """The blurred image."""
        return ndimage.gaussian_filter(image, self.sigma, mode="reflect", truncate=TRUNCATE)
