"""Lee's filter: the local mean where the neighbourhood is speckle, the pixel itself where it is more than that.

**Assumes** multiplicative speckle: intensity I = m n with n of mean 1 and variance 1 / L, independent of the scene
m, whose local mean and variance are those of a window. L = 1 for a fully developed, white B-mode.

**Formula** The best linear estimate of m from its local mean and the pixel (Lee, IEEE PAMI 2, 1980):

    m̂ = ⟨I⟩ + W (I - ⟨I⟩),    W = 1 - C² / V,    V = var I / ⟨I⟩²,    C² = 1 / L

with ⟨·⟩ the mean over the window and W limited to 0...1. Speckle grains reach over several pixels, so that V of pure
speckle in a window is below 1 and differs from image to image. `looks=auto` therefore reads C² off the image: the
upper quartile of V over all windows that are not constant, so that three windows of four count as speckle.

    s2s denoise scan.png -m lee:window=9

**Toy scene** 29.6 dB with a window of 11, 28.3 dB with 7; noisy 20.6 dB.

**Fails** along edges, where W is near 1 and the speckle stays: a grainy band as wide as the window. Dark regions
next to bright ones suffer most, since the window's statistics belong to the bright side.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from s2s.methods.intensity import IntensityFilter, local_statistics
from s2s.methods.limits import number, odd

#: Share of the windows whose variation is taken for speckle when the looks are read off the image.
SPECKLED = 0.75


class Lee(IntensityFilter):
    """Lee's filter: the local mean where it is speckle, the pixel itself elsewhere.

    window: side of the square window in pixels, odd.
    looks: number of independent speckle patterns that the image averages, which is 1 / C²; auto reads it off the image.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {}, "paper": {"window": 7, "looks": 1.0}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "window": (3, 5, 7, 9, 11, 13, 15, 19, 25, 31),
        "looks": ("auto", 0.35, 0.5, 0.7, 1.0, 1.5, 2.5),
    }

    def __init__(self, *, window: int = 11, looks: float | str = "auto") -> None:
        super().__init__()
        self.window = odd("window", window, 3, 101)
        self.speckle = None if looks == "auto" else 1.0 / number("looks", looks, 0.1, 1000.0, "or auto")
        self.halo = None if self.speckle is None else self.window // 2

    def mean_intensity(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pull every pixel towards its local mean."""
        mean, variation = local_statistics(intensity, self.window)
        speckle = _speckle_variation(variation) if self.speckle is None else self.speckle
        return mean + self.weight(variation, speckle) * (intensity - mean)

    def weight(self, variation: NDArray[np.float64], speckle: float) -> NDArray[np.float64]:
        """Weight of the pixel itself against its local mean, from V and C²."""
        return 1.0 - speckle / np.maximum(variation, speckle)


def _speckle_variation(variation: NDArray[np.float64]) -> float:
    """C² of the image's speckle; windows that are constant, such as the black around a sector, don't count."""
    speckled = variation[variation > 1e-6]
    return float(np.quantile(speckled, SPECKLED)) if speckled.size else 1.0
