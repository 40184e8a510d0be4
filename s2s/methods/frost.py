"""Frost's filter: a blur whose kernel shrinks where the image varies more than speckle does.

**Assumes** multiplicative speckle over a scene with exponential autocorrelation, whose correlation length can be
told from the local coefficient of variation.

**Formula** A weighted mean of the intensity over a window (Frost et al., IEEE PAMI 4, 1982):

    m̂(x) = Σ I(x + t) k(t) / Σ k(t),    k(t) = exp(-D V(x) |t|),    V = var I / ⟨I⟩²

with |t| in pixels and V from the same window. D = 0 is the plain mean; with D = 2, which is often quoted, single-look
speckle (V = 1) shrinks the kernel to a pixel or two and next to nothing is removed.

    s2s denoise scan.png -m frost:window=11,damping=0.3

**Toy scene** 29.8 dB with a window of 15 and D = 0.3, 23.9 dB with a window of 7 and D = 2; noisy 20.6 dB.

**Fails** around bright points and at the dark side of edges, where V is large and the speckle stays; as all means of
intensity it lets bright regions grow by a pixel or two.
"""

from __future__ import annotations

from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from s2s.methods.intensity import IntensityFilter, local_statistics
from s2s.methods.limits import number, odd


class Frost(IntensityFilter):
    """Frost's filter: a blur that shrinks where the image varies more than speckle.

    window: side of the square window in pixels, odd.
    damping: D, decay of the kernel per pixel and unit of squared coefficient of variation.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {"damping": 0.3}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "damping": (2.0, 1.2, 0.8, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05),  # less of it is more smoothing
        "window": (7, 11, 15, 21),
    }

    def __init__(self, *, window: int = 15, damping: float = 0.25) -> None:
        super().__init__()
        self.window = odd("window", window, 3, 101)
        self.damping = number("damping", damping, 0.0, 100.0)
        self.halo = self.window // 2

    def mean_intensity(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the shifts of the window, each for all pixels at once."""
        _, variation = local_statistics(intensity, self.window)
        reach = self.window // 2
        padded = np.pad(intensity, reach, mode="symmetric")
        shifted = np.lib.stride_tricks.sliding_window_view(padded, intensity.shape)
        total, weights = np.zeros_like(intensity), np.zeros_like(intensity)
        for down, right in product(range(self.window), repeat=2):
            weight = np.exp(-self.damping * np.hypot(down - reach, right - reach) * variation)
            total += weight * shifted[down, right]
            weights += weight
        return total / weights
