"""Noise2Self: a U-Net taught to find every sixteenth pixel from the others.

Batson and Royer, "Noise2Self: Blind Denoising by Self-Supervision" (ICML 2019). The pixels of one phase of a square
grid are replaced by the mean of their neighbours, and the network is asked for what they were; the phase is drawn anew
for each step. A function that never sees the pixel it is asked for is called J-invariant.

**Assumes** noise that is independent from pixel to pixel, which speckle is not.

**Needs** noisy images only: `y`.

**Loss** mean((f(y with a phase replaced) - y)^2) over that phase and the speckle's variance, on 1 + dB / 60.

    s2s train --sim --method noise2self --minutes 20 -o runs/noise2self

**Reached** on toy scenes in 400 steps of `preset="toy"`, 45 s on one core: 32.33 dB PSNR where the speckle is white
and the noisy image has 20.68 (`benchmarks/toy_denoise.py --method noise2self --steps 400 --white`), and 19.81
where it is as wide as in an image and the noisy one has 20.65 (the same without `--white`). The picture shows what
two minutes on `training` converge to.

**Fails** on speckle, which is wider than a pixel, so that the neighbours tell what was hidden.

In use the network sees the image as it is, in one pass; `invariant=true` asks it for one phase after the other instead,
each hidden from it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from s2s.methods.limits import flag, whole
from s2s.methods.masks import donut, phase
from s2s.methods.regression import BlindSpot


class Noise2Self(BlindSpot):
    """Regression of one phase of a grid on the rest.

    period: rows and columns of the grid; one pixel in period^2 is hidden.  invariant: in use every pixel is found
    without being seen, in period^2 passes.
    """

    IN_USE = (*BlindSpot.IN_USE, "invariant")

    def __init__(self, period: int = 4, invariant: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.period, self.invariant = whole("period", period, 2, 16), flag("invariant", invariant)
        if invariant:  # the neighbours that replace a pixel, and tiles that begin where the grid does
            self.halo, self.multiple = self.net.halo + 1, math.lcm(self.multiple, period)

    def hide(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) with one phase, drawn anew, replaced by the mean of its neighbours, and that phase."""
        return self.without(y, torch.randint(self.period**2, (), device=y.device))

    def without(self, y: Tensor, number: int | Tensor) -> tuple[Tensor, Tensor]:
        """Images with the phase of a number replaced, and that phase."""
        asked = phase(y, self.period, number)
        return torch.where(asked, donut(y), y), asked

    def estimate_for_use(self, y: Tensor) -> Tensor:
        """One pass, or all phases put together."""
        if not self.invariant:
            return self.estimate(y)
        clean = torch.zeros_like(y)
        for number in range(self.period**2):
            given, asked = self.without(y, number)
            clean = torch.where(asked, self.estimate(given), clean)
        return clean
