"""Kuan's filter: Lee's filter without its linearisation, which trusts single pixels less.

**Assumes** what [Lee's filter](lee.md) does: multiplicative speckle of variance 1 / L, independent of the scene,
and a window that tells the scene's local mean and variance.

**Formula** Multiplicative speckle is taken as additive noise that depends on the signal, and m is its best linear
estimate (Kuan et al., IEEE PAMI 7, 1985):

    m̂ = ⟨I⟩ + W (I - ⟨I⟩),    W = (1 - C² / V) / (1 + C²),    V = var I / ⟨I⟩²,    C² = 1 / L

Even where the contrast is huge, W is at most 1 / (1 + C²): a pixel of single-look speckle never counts more than half.

    s2s denoise scan.png -m kuan:window=9

**Toy scene** 28.7 dB with a window of 9, 28.2 dB with 7, 28.6 dB with 11; noisy 20.6 dB.

**Fails** at edges and points. Speckle at an edge is smoothed better than by Lee's filter, and the edge is blurred
more for it; a single bright point loses up to 3 dB to its surroundings.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from s2s.methods.lee import Lee


class Kuan(Lee):
    """Kuan's filter: Lee's, with less trust in single pixels.

    window: side of the square window in pixels, odd.
    looks: number of independent speckle patterns that the image averages, which is 1 / C²; auto reads it off the image.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {"window": 9}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "window": (3, 5, 7, 9, 11, 13, 15, 19, 25, 31),
        "looks": ("auto", 0.35, 0.5, 0.7, 1.0, 1.5, 2.5),
    }

    def weight(self, variation: NDArray[np.float64], speckle: float) -> NDArray[np.float64]:
        """Weight of the pixel itself against its local mean, from V and C²."""
        return super().weight(variation, speckle) / (1.0 + speckle)
