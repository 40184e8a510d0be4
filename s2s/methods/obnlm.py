"""OBNLM, non-local means made for ultrasound: whole blocks are averaged, and likeness is judged by a speckle model.

**Assumes** that a displayed B-mode u obeys u = v + √v n: noise that grows with the grey level v, between additive
and multiplicative. The scale is the one of all methods here, 0 at -60 dB and 1 at 0 dB.

**Formula** Blocks B are compared by the Pearson distance, and each is replaced by the weighted mean of the blocks
around it (Coupé et al., IEEE TIP 18, 2009):

    B̂(p) = Σ w(p, q) B(q) / Σ w(p, q),    w(p, q) = exp(-d(p, q) / h²),    d = mean (B(p) - B(q))² / B(q)^2γ

A pixel is the mean of its estimates from all the blocks that hold it. Blocks are centred on every pixel and none is
left out beforehand; the paper takes every second one and skips blocks of unlike mean or variance, for speed. Grey
levels are raised by `offset` before all that, so that black blocks can be compared too.

    s2s denoise scan.png -m obnlm:h=0.25

**Toy scene** 30.4 dB, 30.5 dB with a distance of 9; noisy 20.6 dB.

**Fails** like [non-local means](nlm.md), and smooths bright tissue more than dark tissue, because in dB speckle is
equally strong in both. Its result depends on the display: a gain of 6 dB is not just 6 dB in the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.methods.base import Filter
from s2s.methods.limits import number, odd, whole


class Obnlm(Filter):
    """Non-local means of blocks, compared by a model of speckle on the display.

    block: side of the square blocks in pixels, odd.
    distance: the search reaches this many pixels up, down, left and right.
    h: how unlike blocks may be, on the scale of the Pearson distance.
    gamma: power of the grey level with which the noise grows.
    offset: added to the grey levels 0...1 of -60...0 dB.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "toy": {}}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "h": (0.08, 0.11, 0.14, 0.17, 0.2, 0.25, 0.32, 0.45),
        "block": (5, 7, 9, 11),
        "distance": (5, 7, 9),
    }

    def __init__(
        self, *, block: int = 7, distance: int = 7, h: float = 0.2, gamma: float = 0.5, offset: float = 0.2
    ) -> None:
        super().__init__()
        self.block = odd("block", block, 3, 31)
        self.distance = whole("distance", distance, 1, 50)
        self.h = number("h", h, 0.001, 100.0)
        self.gamma = number("gamma", gamma, 0.0, 2.0)
        self.offset = number("offset", offset, 0.001, 10.0)
        self.halo = self.distance + 2 * (self.block // 2)

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the shifts of the search, each for all blocks at once; the weights are summed first."""
        grey = np.maximum(image, 0.0) + self.offset
        total, clean = np.zeros_like(grey), np.full_like(grey, -self.offset)
        for weight, _ in self.weights(grey):
            total += weight
        for weight, shifted in self.weights(grey):
            clean += self._mean(weight / total) * shifted
        return clean

    def weights(self, grey: NDArray[np.float64]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For every shift of the search: the weight of the block at each pixel, and the shifted image."""
        padded = np.pad(grey, self.distance, mode="symmetric")
        shifts = np.lib.stride_tricks.sliding_window_view(padded, grey.shape)
        for down, right in product(range(2 * self.distance + 1), repeat=2):
            shifted = shifts[down, right]
            distance = self._mean((grey - shifted) ** 2 / shifted ** (2.0 * self.gamma))
            yield np.exp(-distance / self.h**2), shifted

    def _mean(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        return ndimage.uniform_filter(image, self.block, mode="reflect")
