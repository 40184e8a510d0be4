"""Non-local means: every pixel becomes the mean of the pixels nearby whose surroundings look the same.

**Assumes** that structures repeat within reach, and that noise is additive and equally strong everywhere, which
speckle is once the image is in dB.

**Formula** A mean weighted by likeness (Buades, Coll and Morel, CVPR 2005):

    x̂(p) = Σ w(p, q) y(q) / Σ w(p, q),    w(p, q) = exp(-‖Y(p) - Y(q)‖² / h²)

with Y(p) the patch around p, ‖·‖² the mean squared difference, and q in a square around p. It is scikit-image's
`denoise_nl_means` in its fast mode. h is given in standard deviations of speckle, 5.57 dB. Since a speckle grain
reaches over several pixels, patches should hold several grains, and h be larger than for white noise.

    s2s denoise scan.png -m nlm:h=1.5

**Toy scene** 31.5 dB with patches of 11, 31.3 dB with 9, 28.3 dB with patches of 7 and h = 0.8; noisy 20.6 dB.

**Fails** around structures that have no likeness nearby: points and thin walls keep a halo of untouched speckle.
When h is too small, chance likenesses between grains are drawn out into patterns that look like tissue.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means

from s2s.methods.base import SPECKLE, Filter
from s2s.methods.limits import number, odd, whole


class Nlm(Filter):
    """Non-local means: the mean of pixels nearby whose surroundings look the same.

    patch: side of the square patches in pixels, odd.
    distance: the search reaches this many pixels up, down, left and right.
    h: how unlike patches may be, in standard deviations of speckle.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"patch": 11},
        "paper": {"patch": 7, "distance": 10},
    }
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "h": (0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.1, 2.6),
        "patch": (5, 7, 9, 11, 15, 19),
        "distance": (5, 7, 9, 11, 15, 20),
    }

    def __init__(self, *, patch: int = 9, distance: int = 11, h: float = 1.2) -> None:
        super().__init__()
        self.patch = odd("patch", patch, 3, 31)
        self.distance = whole("distance", distance, 1, 50)
        self.h = number("h", h, 0.01, 100.0)
        self.halo = self.distance + self.patch // 2

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over similar patches."""
        clean: NDArray[np.float64] = denoise_nl_means(
            image, self.patch, self.distance, self.h * SPECKLE, fast_mode=True
        )
        return clean
