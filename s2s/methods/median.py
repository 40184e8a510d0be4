"""The median of a window of the image in dB: single bright and dark grains leave no trace, and edges stay.

**Assumes** that more than half of a window shows the same tissue as its centre, and that speckle grains are much
smaller than the window.

**Formula** The median of the pixels in a square window (Tukey 1977); borders are reflected. Speckle in dB has a
tail of deep nulls, so that its median lies above its mean, by (10 / ln 10) (γ + ln ln 2) = 0.92 dB when it is fully
developed. That much is subtracted, because everything here is compared with the mean.

    s2s denoise scan.png -m median:window=9

**Toy scene** 30.2 dB with a window of 13, 27.7 dB with 7; noisy 20.6 dB. Without the correction of 0.92 dB it would be
29.1 dB and 27.0 dB.

**Fails** on structures narrower than half the window, which vanish: wires, thin walls, corners. On smooth images
that hold no speckle the 0.92 dB are an error.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.domain import RANGE_DB
from s2s.methods.base import Filter
from s2s.methods.limits import odd

#: The median of fully developed speckle in dB lies this far above its mean.
MEDIAN_BIAS_DB = 10.0 / math.log(10.0) * (np.euler_gamma + math.log(math.log(2.0)))


class Median(Filter):
    """The median of a window of the image in dB.

    window: side of the square window in pixels, odd.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {"window": (3, 5, 7, 9, 11, 13, 15, 19, 23, 27)}

    def __init__(self, *, window: int = 13) -> None:
        super().__init__()
        self.window = odd("window", window, 3, 101)
        self.halo = self.window // 2

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """The median of the window around each pixel, brought to the mean of speckle."""
        return ndimage.median_filter(image, self.window, mode="reflect") - MEDIAN_BIAS_DB / RANGE_DB
